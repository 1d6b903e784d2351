"""Writing and executing as one pipeline: a workflow runs while others are still being written.

`start` writes a batch and hands each workflow over as soon as `rollout.overlap` lets it, `finish`
waits for the rollouts and keeps them. Between the two, other batches may be started and finished.
Not here: when training starts which batch (`pipeline`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy, OnWritten
from aflow_grpo.policy.strip import strip_flaws
from aflow_grpo.records import Completion, Problem, Rollout
from aflow_grpo.rollout import RolloutRequest, rollout_seed
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.run_logger import RunLogger, run_of
from aflow_grpo.training.running import RunningBatch
from aflow_grpo.training.storing import QUICK, STRUCTURE, Place
from aflow_grpo.training.watching import UNWATCHED, DrawWatch
from aflow_grpo.training.written import WrittenBatch

__all__ = [
    "Collected",
    "Draw",
    "Started",
    "collect",
    "finish",
    "restart",
    "rollout_callback_of",
    "run_and_verb",
    "start",
]


@dataclass(frozen=True)
class Draw:
    """What to draw for each problem."""

    split: str
    """``train``, ``val`` or ``test``: part of every seed."""
    step: int
    """Part of every seed; a constant for evaluations, so that before and after are paired."""
    run_seed: int
    group_size: int
    greedy: bool = False
    execute: bool = True
    """False checks the structure only."""
    evaluation: bool = False
    rehearse: bool = False
    """Run on stub operators and reward the structure alone, at no cost."""
    quick: bool = False
    """A validation inside `fit`, stored apart from the full evaluation of the same step."""
    strip_flaws: bool = False
    """Mend the planted flaws before anything else sees the text (a baseline, not a policy)."""
    chunk: int = 64
    """Most sequences sampled at once, but at least one whole group."""
    first_group: int = 0
    """Groups of the ranks before this one; what is stored is numbered over all ranks."""


@dataclass(frozen=True)
class Started:
    """A batch that has been written and is being executed."""

    draw: Draw
    written: WrittenBatch
    running: RunningBatch | None
    """None when only the structure is to be checked."""
    groups_P: Sequence[int]
    """Each problem's group number."""
    sample_s: float
    """Seconds in which the policy was writing."""
    watch: DrawWatch = UNWATCHED
    """Is told how it comes along."""


@dataclass(frozen=True)
class Collected:
    """Rollouts in problem-major order (axis B = P x G) and where the time went."""

    rollouts_B: list[Rollout]
    sample_s: float
    """Seconds in which the policy was writing."""
    wait_s: float
    """Seconds spent waiting for executions after the last sample was drawn."""
    lag: int = 0
    """Updates of the policy between the writing of the oldest of them and now."""
    replaced_B: list[Rollout] = field(default_factory=list)
    """Of groups without a signal that others have taken the place of: paid for, not trained on."""

    @property
    def every_B(self) -> list[Rollout]:
        """All that were executed."""
        return [*self.rollouts_B, *self.replaced_B]


def rollout_callback_of(trainer: L.Trainer) -> RolloutCallback:
    """The trainer's rollout callback.

    Raises:
        ConfigError: There is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RolloutCallback):
            return callback
    raise ConfigError(
        "The Trainer has no RolloutCallback, so nothing can execute workflows. "
        "Add one: Trainer(callbacks=[RolloutCallback(...)]); the command line always does."
    )


def collect(
    policy: BasePolicy, trainer: L.Trainer, problems_P: Sequence[Problem], draw: Draw
) -> Collected:
    """Let `policy` write `draw.group_size` workflows per problem; run (or only check) each once.

    What comes of it is stored in the journal before it is returned.
    """
    return finish(start(policy, trainer, problems_P, draw), trainer)


def start(
    policy: BasePolicy,
    trainer: L.Trainer,
    problems_P: Sequence[Problem],
    draw: Draw,
    *,
    policy_version: int = 0,
    groups_P: Sequence[int] | None = None,
) -> Started:
    """Let `policy` write, and start executing what it writes.

    Args:
        policy: In eval mode.
        trainer: With the rollout callback.
        problems_P: What to write for.
        draw: How much, with which seeds.
        policy_version: Updates that the policy has behind it.
        groups_P: Each problem's group number; default is its place.
    """
    started = time.perf_counter()
    callback = _join(trainer, draw)
    groups_P = range(len(problems_P)) if groups_P is None else groups_P
    seeds_B = [
        rollout_seed(draw.run_seed, draw.split, draw.step, problem, member)
        for problem in problems_P
        for member in range(draw.group_size)
    ]
    watch = callback.watch(draw.split, len(seeds_B), executed=draw.execute)
    running = _open(callback, trainer, draw, watch) if draw.execute else None
    at_once = callback.overlap != "none"
    size = draw.group_size

    def take(b: int, completion: Completion) -> None:
        callback.stop_if_terminated(trainer)
        watch.written()
        if at_once and running is not None:
            p = b // size
            running.submit(
                RolloutRequest(problems_P[p], completion, seeds_B[b], groups_P[p], b % size)
            )

    try:
        completions_B = _write(policy, problems_P, seeds_B, draw, take)
        written = WrittenBatch(problems_P, completions_B, seeds_B, policy_version)
        sample_s = time.perf_counter() - started
        if running is not None:
            if not at_once:
                _submit(running, written, groups_P)
            running.end()
    except BaseException:
        if running is not None:
            running.cancel()
        raise
    return Started(draw, written, running, groups_P, sample_s, watch)


def _write(
    policy: BasePolicy,
    problems_P: Sequence[Problem],
    seeds_B: Sequence[int],
    draw: Draw,
    take: OnWritten,
) -> list[Completion]:
    """All workflows in their order, chunk after chunk; `take` gets each as soon as it is there."""
    size = draw.group_size
    arrived: dict[int, Completion] = {}

    def arrive(offset: int, row: int, completion: Completion) -> None:
        b = offset + row
        if draw.strip_flaws:
            domain = problems_P[b // size].domain
            completion = replace(completion, text=strip_flaws(completion.text, domain))
        arrived[b] = completion
        take(b, completion)

    per_chunk = max(1, draw.chunk // size)
    for first in range(0, len(problems_P), per_chunk):
        visible_P = [problem.visible for problem in problems_P[first : first + per_chunk]]
        offset = first * size
        policy.write(
            visible_P,
            seeds_B[offset : offset + len(visible_P) * size],
            greedy=draw.greedy,
            on_written=partial(arrive, offset),
        )
    return [arrived[b] for b in range(len(seeds_B))]


def restart(trainer: L.Trainer, written: WrittenBatch, draw: Draw) -> Started:
    """Execute what was written before: its paid answers come from the journal."""
    callback = _join(trainer, draw)
    watch = callback.watch(draw.split, len(written.seeds_B), executed=True)
    running = _open(callback, trainer, draw, watch)
    groups_P = range(len(written.problems_P))
    for _ in written.seeds_B:
        watch.written()
    _submit(running, written, groups_P)
    running.end()
    return Started(draw, written, running, groups_P, sample_s=0.0, watch=watch)


def finish(started: Started, trainer: L.Trainer) -> Collected:
    """Wait for the rollouts of what was started, and keep them in the journal."""
    callback = rollout_callback_of(trainer)
    waiting = time.perf_counter()
    if started.running is not None:
        rollouts = started.running.result()
    else:
        rollouts = callback.inspect(started.written.requests(started.groups_P))
    started.watch.over()
    rollouts.sort(key=_place_in_batch)
    wait_s = time.perf_counter() - waiting
    logger = trainer.logger
    run = logger if isinstance(logger, RunLogger) else None
    first = started.draw.first_group
    stored = [replace(r, group=first + r.group) for r in rollouts] if first else rollouts
    callback.keep(stored, _place(trainer, started.draw), run)
    return Collected(rollouts, started.sample_s, wait_s)


def _place_in_batch(rollout: Rollout) -> tuple[int, int]:
    return rollout.group, rollout.member


def _join(trainer: L.Trainer, draw: Draw) -> RolloutCallback:
    """The rollout callback, whose calls now belong to the draw's run."""
    callback = rollout_callback_of(trainer)
    inside_fit = trainer.state.fn is TrainerFn.FITTING
    # A preflight has no logger, so that its calls are those of the verb.
    run = _place(trainer, draw).run
    callback.join_run(run, takes_over=verb_of(trainer) if inside_fit else None)
    return callback


def _open(
    callback: RolloutCallback, trainer: L.Trainer, draw: Draw, watch: DrawWatch
) -> RunningBatch:
    return callback.open_batch(
        trainer, evaluation=draw.evaluation, rehearse=draw.rehearse, on_done=watch.ended
    )


def _submit(running: RunningBatch, written: WrittenBatch, groups_P: Sequence[int]) -> None:
    for request in written.requests(groups_P):
        running.submit(request)


def verb_of(trainer: L.Trainer) -> str:
    """``fit``, ``validate``, ...: the name of a run that no logger names."""
    return "run" if trainer.state.fn is None else str(trainer.state.fn.value)


def run_and_verb(trainer: L.Trainer) -> tuple[str, str | None]:
    """The run that calls belong to, and the one whose calls become its own."""
    verb = verb_of(trainer)
    inside_fit = trainer.state.fn is TrainerFn.FITTING
    return run_of(trainer.logger) or verb, verb if inside_fit else None


def _place(trainer: L.Trainer, draw: Draw) -> Place:
    # Evaluations have no step of their own; what they find is logged under the module's.
    step = draw.step + 1
    if draw.split != "train":
        step = getattr(trainer.lightning_module, "iteration", draw.step)
    part = draw.split
    if draw.quick:
        part = QUICK if draw.execute else STRUCTURE
    return Place(run_of(trainer.logger) or verb_of(trainer), part, step)
