"""Writing and executing as one pipeline: while one chunk executes, the next is being written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.policy.strip import strip_flaws
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rollout import make_requests, rollout_seed
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.storing import QUICK, STRUCTURE, Place
from aflow_grpo.training.tracking import RunLogger

__all__ = ["Collected", "Draw", "collect", "rollout_callback_of"]


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
    """Sequences sampled at once, rounded up to whole groups."""


@dataclass(frozen=True)
class Collected:
    """Rollouts in problem-major order (axis B = P x G) and where the time went."""

    rollouts_B: list[Rollout]
    sample_s: float
    """Seconds in which the policy was writing."""
    wait_s: float
    """Seconds spent waiting for executions after the last sample was drawn."""


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
    callback = rollout_callback_of(trainer)
    place = _place(trainer, draw)
    inside_fit = trainer.state.fn is TrainerFn.FITTING
    # A preflight has no logger, so that its calls are those of the verb.
    callback.join_run(place.run, takes_over=verb_of(trainer) if inside_fit else None)
    started = time.perf_counter()
    per_chunk = max(1, draw.chunk // draw.group_size)
    pending = []
    for first in range(0, len(problems_P), per_chunk):
        chunk_P = problems_P[first : first + per_chunk]
        seeds_B = [
            rollout_seed(draw.run_seed, draw.split, draw.step, problem, member)
            for problem in chunk_P
            for member in range(draw.group_size)
        ]
        visible_P = [problem.visible for problem in chunk_P]
        completions_B = policy.write(visible_P, seeds_B, greedy=draw.greedy)
        if draw.strip_flaws:
            completions_B = [
                replace(c, text=strip_flaws(c.text, chunk_P[b // draw.group_size].domain))
                for b, c in enumerate(completions_B)
            ]
        requests = make_requests(
            chunk_P, completions_B, seeds_B, group_size=draw.group_size, first_group=first
        )
        pending.append(
            callback.submit(
                requests,
                execute=draw.execute,
                evaluation=draw.evaluation,
                rehearse=draw.rehearse,
            )
        )
        callback.stop_if_terminated(trainer)
    sampled = time.perf_counter()
    rollouts_B = [rollout for future in pending for rollout in callback.result(future, trainer)]
    waited = time.perf_counter()
    logger = trainer.logger
    callback.keep(rollouts_B, place, logger if isinstance(logger, RunLogger) else None)
    return Collected(rollouts_B, sampled - started, waited - sampled)


def verb_of(trainer: L.Trainer) -> str:
    """``fit``, ``validate``, ...: the name of a run that no logger names."""
    return "run" if trainer.state.fn is None else str(trainer.state.fn.value)


def _place(trainer: L.Trainer, draw: Draw) -> Place:
    logger = trainer.logger
    run = logger.run_id if isinstance(logger, RunLogger) else None
    # Evaluations have no step of their own; what they find is logged under the module's.
    step = draw.step + 1
    if draw.split != "train":
        step = getattr(trainer.lightning_module, "iteration", draw.step)
    part = draw.split
    if draw.quick:
        part = QUICK if draw.execute else STRUCTURE
    return Place(run or verb_of(trainer), part, step)
