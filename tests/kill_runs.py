"""Fits that are killed at chosen moments, and what has to be the same when they have come through.

Real processes, forked from a server that has imported everything once, and a real SIGKILL, sent by
a callback from inside: where it strikes is decided by counting, never by a clock.
"""

import signal
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer_runs import (
    assert_equal_checkpoints,
    checkpoint_of,
    metrics_of,
    new_root,
    run_ids,
    start_verb,
    write_settings,
)

from aflow_grpo.llm.rollout_store import RolloutStore
from aflow_grpo.records import Execution, OperatorCall, Rollout, Usage
from aflow_grpo.stored import unpack_rollout

__all__ = ["EVERY_MOMENT", "STEPS", "Kill", "World", "assert_same_end"]

STEPS = 3
PASSES = {"model.grpo.ppo_epochs": 2, "model.grpo.minibatches": 2}
"""A buffer of rollouts that is used in four optimiser steps."""


@dataclass(frozen=True)
class Kill:
    """Where a process dies."""

    iteration: int
    """Completed iterations before."""
    moment: str
    """See `trainer_runs.Interrupt`."""
    count: int = 1
    """At the so-manyth such occasion."""
    saved: int | None = None
    """Iteration that the checkpoint is then of; default is the last completed one."""

    def __str__(self) -> str:
        return f"{self.moment}-{self.count}-after-{self.iteration}"

    @property
    def flag(self) -> str:
        """The callback that kills."""
        init = f"iteration: {self.iteration}, moment: {self.moment}, count: {self.count}"
        spec = f"{{class_path: trainer_runs.Interrupt, init_args: {{{init}, name: SIGKILL}}}}"
        return f"--trainer.callbacks=[{spec}]"


EVERY_MOMENT = (
    Kill(1, "between"),
    Kill(1, "writing", 3),
    Kill(0, "writing", 11),  # of two batches of 8, where one is written ahead
    Kill(1, "executing", 5),
    Kill(1, "updating", 1),
    Kill(1, "updating", 2),  # inside accumulation
    Kill(1, "stepping", 1),  # between mini-batches
    Kill(1, "stepping", 2),  # between epochs
    Kill(2, "saving", saved=1),
    Kill(2, "validating"),
    Kill(STEPS, "judging"),
)


@dataclass(frozen=True)
class World:
    """Settings under which runs can be compared, in a folder of their own."""

    folder: Path
    overlap: str
    passes: bool
    """Whether a batch of rollouts is used in several optimiser steps."""
    settings: Path = field(init=False)

    def __post_init__(self) -> None:
        changes: dict[str, Any] = PASSES if self.passes else {}
        settings = write_settings(
            self.folder,
            **changes,
            **{
                "trainer.max_steps": STEPS * (4 if self.passes else 1),
                "trainer.val_check_interval": 2,
                "checkpoint.every_n_iterations": 1,
                "data.quick_val_size": 3,
                "model.evaluation.execute_every": 1,
                # Two micro-batches per optimiser step.
                "model.grpo.micro_batch_size": 2 if self.passes else 4,
                "model.policy.init_args.sampling.max_new_tokens": 48,
                "rollout.rollout.concurrency": 4,
                "rollout.sandbox.workers": 1,
                "rollout.overlap": self.overlap,
            },
        )
        object.__setattr__(self, "settings", settings)

    def run(self, name: str, *kills: Kill) -> Path:
        """Fit in a new directory, killed and resumed; returns it when it has come through."""
        root = new_root(self.folder / name)
        resume: list[str] = []
        for kill in kills:
            code = self.fit(root, kill.flag, *resume)
            assert (code, kill) == (-signal.SIGKILL, kill)
            saved = kill.iteration if kill.saved is None else kill.saved
            if saved:
                assert checkpoint_of(root)["aflow_grpo"]["iteration"] == saved, kill
            resume = ["--ckpt_path=last"]
        assert self.fit(root, *resume) == 0
        return root

    def fit(self, root: Path, *more: str) -> int:
        """The exit code of a fit in a process of its own; minus the signal that ended it."""
        process = start_verb(
            "fit", f"--config={self.settings}", f"--trainer.default_root_dir={root}", *more
        )
        process.join()
        assert process.exitcode is not None
        return process.exitcode


def assert_same_end(killed: Path, straight: Path) -> None:
    """Weights, optimiser, state, metrics, journal and stored rollouts: all equal to the bit."""
    assert checkpoint_of(straight)["aflow_grpo"]["iteration"] == STEPS
    assert_equal_checkpoints(killed, straight)
    assert metrics_of(killed) == metrics_of(straight)
    assert repeated_metrics(killed) == []
    assert len(run_ids(killed)) == 1
    assert paid_calls(killed) == paid_calls(straight)
    assert stored_rollouts(killed) == stored_rollouts(straight)
    names = sorted(path.name for path in (killed / "checkpoints").iterdir())
    assert names == ["last.ckpt"], "a half-written one is left"


def repeated_metrics(root: Path) -> Sequence[tuple[str, int]]:
    """(name, step) of what MLflow has more than once, times included."""
    with sqlite3.connect(root / "mlflow.db") as database:
        return database.execute(
            "select key, step from metrics group by run_uuid, key, step having count(*) > 1"
        ).fetchall()


def paid_calls(root: Path) -> Sequence[tuple[Any, ...]]:
    """Every call that was paid for, once for each time, and what it cost."""
    with sqlite3.connect(root / "journal.db") as database:
        return database.execute(
            "select key, answered, attempts, prompt_tokens, completion_tokens, cost_usd, "
            "billed_usd, reply from calls order by 1, 2, 3, 4, 5, 6, 7, 8"
        ).fetchall()


def stored_rollouts(root: Path) -> dict[tuple[str, int, str, int], Rollout]:
    """(part, step, problem, member) -> rollout, without times and what was really paid."""
    with RolloutStore(root / "journal.db") as store:
        return {
            (part, row.step, row.problem_id, row.member): timeless(
                unpack_rollout(row.problem, row.content)
            )
            for run, part, settings, _ in store.parts()
            for row in store.rows(run, part, settings)
        }


def timeless(rollout: Rollout) -> Rollout:
    """What a replayed call may change, set to nothing."""

    def usage(given: Usage) -> Usage:
        return replace(given, attempts=0, billed_usd=0.0)

    def calls(given: tuple[OperatorCall, ...]) -> tuple[OperatorCall, ...]:
        return tuple(replace(call, seconds=0.0, usage=usage(call.usage)) for call in given)

    ended: Execution = rollout.execution
    execution = replace(
        ended,
        seconds=0.0,
        usage=usage(ended.usage),
        calls=calls(ended.calls),
        fallback_usage=usage(ended.fallback_usage),
        fallback_calls=calls(ended.fallback_calls),
    )
    return replace(rollout, execution=execution)
