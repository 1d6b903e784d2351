"""Which training batch is written when: in its own iteration, or one iteration ahead.

With `rollout.overlap: step`, iteration k writes the workflows of iteration k + 1 with the weights
before its update, then waits for its own, which have been running since iteration k - 1, then
updates. What was written ahead is *due* from the next boundary on, and part of the checkpoint.

A checkpoint's due batch is trained on whatever `overlap` is when the run resumes: it is paid for,
and its log-probabilities are known. Nothing is written ahead of an iteration that may be the last
one: with a skipped update the run then makes that iteration after all, on-policy.

All decisions are functions of (seed, iteration, settings), the same on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aflow_grpo.records import Problem
from aflow_grpo.training.collect import (
    Collected,
    Draw,
    Started,
    finish,
    restart,
    rollout_callback_of,
    start,
)
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.resampling import resample
from aflow_grpo.training.written import WrittenBatch

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["Pipeline"]


class Pipeline:
    """The training batches of a run.

    Args:
        module: Whose policy writes, and whose iteration it is.
    """

    def __init__(self, module: GRPOModule) -> None:
        self._module = module
        self._due: Started | None = None
        self._due_states: list[dict[str, Any]] = []
        self._ahead: Started | None = None
        self._ahead_states: list[dict[str, Any]] = []
        self._rehearse = False

    def collect(self, problems_P: Sequence[Problem]) -> tuple[Collected, Draw]:
        """The rollouts of this iteration and what was drawn for them."""
        module, trainer = self._module, self._module.trainer
        ranks = Ranks.of(trainer)
        module.policy.eval()
        with ranks.together():
            sample_s = 0.0
            if self._due is None and self._due_states:
                self._due = self._restart(problems_P, ranks)
            started = self._due
            if started is None:
                started = self._start(problems_P, module.iteration)
                sample_s += started.sample_s
            if self._writes_ahead:
                data: Any = trainer.datamodule  # type: ignore[attr-defined]
                following = data.train_batch(module.iteration + 1)
                self._ahead = self._start(following, module.iteration + 1)
                sample_s += self._ahead.sample_s
            collected = replace(
                finish(started, trainer),
                sample_s=sample_s,
                lag=module.iteration - started.written.policy_version,
            )
            collected = resample(module, collected, started.draw)
        if self._ahead is not None:
            # Here, where all ranks are, and not when a checkpoint is written: only one may be left.
            self._ahead_states = ranks.gather(self._ahead.written.state_dict())
        module.policy.train()
        return collected, started.draw

    def advance(self) -> None:
        """The iteration is over: what was written ahead is due."""
        self._due, self._due_states = self._ahead, self._ahead_states
        self._ahead, self._ahead_states = None, []

    def state_dict(self) -> dict[str, Any]:
        """What is due at the boundary, of all ranks."""
        if not self._due_states:
            return {}
        rehearse = self._rehearse if self._due is None else self._due.draw.rehearse
        return {"due": self._due_states, "rehearse": rehearse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; without a step of overlap its state is empty."""
        self._due, self._due_states = None, list(state.get("due", ()))
        self._rehearse = bool(state.get("rehearse", False))

    @property
    def _writes_ahead(self) -> bool:
        """Whether an iteration follows for certain, and `rollout.overlap` wants it written now."""
        trainer, grpo = self._module.trainer, self._module.grpo
        if rollout_callback_of(trainer).overlap != "step":
            return False
        epochs, batches = trainer.max_epochs, trainer.num_training_batches
        if epochs is not None and 0 <= epochs * batches <= self._module.iteration + 1:
            return False
        steps = grpo.ppo_epochs * grpo.minibatches
        return trainer.max_steps < 0 or trainer.global_step + steps < trainer.max_steps

    def _draw(self, iteration: int, groups: int, *, rehearse: bool, group_size: int) -> Draw:
        return Draw(
            first_group=self._module.global_rank * groups,
            rehearse=rehearse,
            split="train",
            step=iteration,
            run_seed=self._module.seed,
            group_size=group_size,
            chunk=self._module.grpo.sample_batch_size,
        )

    def _start(self, problems_P: Sequence[Problem], iteration: int) -> Started:
        module, grpo = self._module, self._module.grpo
        draw = self._draw(
            iteration,
            len(problems_P),
            rehearse=module.reward_stage_of(iteration) == "structure",
            group_size=grpo.group_size,
        )
        return start(
            module.policy, module.trainer, problems_P, draw, policy_version=module.iteration
        )

    def _restart(self, problems_P: Sequence[Problem], ranks: Ranks) -> Started:
        """What a checkpoint held, or rather this rank's part of it."""
        written = WrittenBatch.from_states(
            self._due_states, problems_P, first=ranks.rank * len(problems_P)
        )
        draw = self._draw(
            self._module.iteration,
            len(problems_P),
            rehearse=self._rehearse,
            group_size=written.group_size,
        )
        return restart(self._module.trainer, written, draw)
