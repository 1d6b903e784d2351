"""`kill -9` at any moment: the resumed run ends as if nothing had happened.

One run is killed six times, each time at another kind of moment, the first before it has a
checkpoint and the last after its last step. Real processes, forked from a server that has imported
everything once.
"""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from trainer_runs import (
    assert_equal_checkpoints,
    checkpoint_of,
    journaled_calls,
    metrics_of,
    new_root,
    paid_calls,
    run_ids,
    start_verb,
    write_settings,
)

from aflow_grpo.llm.rollout_store import RolloutStore
from aflow_grpo.records import Execution, OperatorCall, Rollout, Usage
from aflow_grpo.stored import unpack_rollout

STEPS = 4
KILLS = [
    (0, "executing", None),
    (1, "updating", 1),
    (2, "saving", 1),
    (3, "executing", 3),
    (4, "validating", 4),
    (4, "judging", 4),
]
"""(completed iterations, moment of the kill, iteration that the checkpoint is then of)."""


def fit(settings: Path, root: Path, *more: str) -> int:
    """The exit code of a fit in a process of its own; minus the signal that ended it."""
    process = start_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def callbacks(*specs: str) -> str:
    """A flag that adds callbacks of `trainer_runs`; the first writes down what was paid for."""
    return f"--trainer.callbacks=[{', '.join(['{class_path: trainer_runs.Spending}', *specs])}]"


def kill(iteration: int, moment: str) -> str:
    """A callback that kills its process."""
    init = f"{{iteration: {iteration}, moment: {moment}, name: SIGKILL}}"
    return callbacks(f"{{class_path: trainer_runs.Interrupt, init_args: {init}}}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """(an uninterrupted run, a killed one, answers in its journal before its last resumption)."""
    folder = tmp_path_factory.mktemp("kills")
    settings = write_settings(
        folder, trainer__max_steps=STEPS, checkpoint__every_n_iterations=1, data__quick_val_size=3
    )
    straight, killed = new_root(folder / "straight"), new_root(folder / "killed")
    assert fit(settings, straight, callbacks()) == 0
    resume: tuple[str, ...] = ()
    for iteration, moment, saved in KILLS:
        code = fit(settings, killed, kill(iteration, moment), *resume)
        assert (code, moment) == (-signal.SIGKILL, moment)
        if saved is not None:
            assert checkpoint_of(killed)["aflow_grpo"]["iteration"] == saved, moment
        resume = ("--ckpt_path=last",)
    paid_for = journaled_calls(killed)
    assert fit(settings, killed, callbacks(), *resume) == 0
    return straight, killed, paid_for


def test_weights_optimiser_and_state_equal_to_the_bit(runs: tuple[Path, Path, int]) -> None:
    assert checkpoint_of(runs[0])["aflow_grpo"]["iteration"] == STEPS
    assert_equal_checkpoints(runs[1], runs[0])


def test_metrics_equal_in_one_mlflow_run(runs: tuple[Path, Path, int]) -> None:
    straight, killed = metrics_of(runs[0]), metrics_of(runs[1])
    assert killed == straight
    assert {step for name, step in straight if name == "train/cost_usd_total"} == {1, 2, 3, 4}
    assert {step for name, step in straight if name == "val/quick/reward_greedy"} == {4}
    assert ("val/reward", STEPS) in straight
    assert len(run_ids(runs[1])) == 1


def test_what_was_paid_for_comes_from_the_journal(runs: tuple[Path, Path, int]) -> None:
    straight, killed, paid_for = runs
    assert journaled_calls(killed) == journaled_calls(straight)
    assert paid_calls(killed)[-1] == journaled_calls(straight) - paid_for
    assert paid_for > 0


def test_the_stored_rollouts_are_those_of_an_uninterrupted_run(
    runs: tuple[Path, Path, int],
) -> None:
    straight, killed = stored_rollouts(runs[0]), stored_rollouts(runs[1])
    assert {step for part, step, *_ in straight if part == "train"} == {1, 2, 3, 4}
    assert killed.keys() == straight.keys()
    assert killed == straight


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


def test_no_half_written_checkpoint_is_left(runs: tuple[Path, Path, int]) -> None:
    names = sorted(path.name for path in (runs[1] / "checkpoints").iterdir())
    assert names == ["last.ckpt"]
