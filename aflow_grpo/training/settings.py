"""What a user sets under `model:` in the YAML files, apart from the policy itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.presets import LossSettings, resolve
from aflow_grpo.training.demonstrations import DemonstrationSettings
from aflow_grpo.training.guard import GuardSettings
from aflow_grpo.training.outcome_use import OutcomeSettings
from aflow_grpo.training.ranks import TOLD

__all__ = ["EvaluationSettings", "GRPOSettings", "OptimizerSettings"]


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{key}={value:g}: expected at least {least:g}.")


@dataclass(frozen=True)
class GRPOSettings:
    """One GRPO iteration (DeepSeekMath, arXiv 2402.03300, section 4)."""

    group_size: int = 8
    """Workflows sampled per problem (K)."""
    loss: LossSettings = field(default_factory=LossSettings)
    """Advantages, clipping, KL, entropy bonus, aggregation: a published loss, and what differs."""
    ppo_epochs: int = 1
    """Passes over each batch of rollouts."""
    minibatches: int = 1
    """Optimiser steps per pass; each uses an equal share of the batch's rollouts."""
    micro_batch_size: int = 32
    """Sequences per forward/backward; gradients accumulate over them, the result is the same."""
    sample_batch_size: int = 64
    """Sequences sampled at once; each may execute as soon as it has ended (`rollout.overlap`)."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    max_idle_steps: int = 50
    """Stop with an error after so many iterations in a row in which every group's rewards were
    equal, so that nothing could be learned."""
    demonstrations: DemonstrationSettings | None = None
    """Verified workflows of others, or earlier ones, that join each update; null: none."""
    outcome_model: OutcomeSettings | None = None
    """A model of what each workflow is worth, fitted on the run's own rollouts: it takes the noise
    out of the advantages, and may choose demonstrations; null: none."""
    guard: GuardSettings = field(default_factory=GuardSettings)
    """When training has gone wrong and is ended."""

    def __post_init__(self) -> None:
        _at_least("model.grpo.group_size", self.group_size, 2)
        for name in ("ppo_epochs", "minibatches", "micro_batch_size", "sample_batch_size"):
            _at_least(f"model.grpo.{name}", getattr(self, name), 1)
        shown = self.demonstrations
        if shown is not None and shown.source == "outcome_model" and self.outcome_model is None:
            raise ConfigError(
                "model.grpo.demonstrations.source=outcome_model needs the model, and "
                "model.grpo.outcome_model is null. Set it (an empty mapping takes the defaults)."
            )
        if shown is not None and shown.use == "member" and resolve(self.loss).correction == "off":
            raise ConfigError(
                "model.grpo.demonstrations.use=member needs the importance correction, and "
                "model.grpo.loss.correction=off switches it off. Set auto, or use: auxiliary."
            )
        _at_least("model.grpo.gradient_clip", self.gradient_clip, 0)
        _at_least("model.grpo.max_idle_steps", self.max_idle_steps, 1)

    def check_idle(self, idle_steps: int) -> None:
        """Refuse to go on after `max_idle_steps` iterations in a row without anything to learn.

        Raises:
            ConfigError: There were as many.
        """
        if idle_steps >= self.max_idle_steps:
            error = ConfigError(
                f"{idle_steps} iterations in a row had equal rewards within every group, so "
                "nothing can be learned (model.grpo.max_idle_steps). Raise model.grpo.group_size, "
                "start from a policy that sometimes succeeds, or use easier problems."
            )
            error.add_note(TOLD)  # every rank counts the same iterations
            raise error


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up and a linear decay over `trainer.max_steps`."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    warmup_steps: int = 5
    """Optimiser steps until the full learning rate."""
    final_fraction: float = 0.1
    """Learning rate at the last step, as a fraction of the full one; 1 keeps it constant."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(
                f"model.optimizer.learning_rate={self.learning_rate:g}: expected more than 0."
            )
        if not 0 <= self.final_fraction <= 1:
            raise ConfigError(
                f"model.optimizer.final_fraction={self.final_fraction:g}: expected 0 to 1."
            )
        _at_least("model.optimizer.warmup_steps", self.warmup_steps, 0)

    def overrule(self, checkpoint: dict[str, Any], max_steps: int) -> None:
        """Let these settings win over those that a run had when `checkpoint` was written.

        Optimiser and schedule would restore theirs with their state, so that a run that is
        continued with another learning rate would silently keep the old one.
        """
        for state in checkpoint.get("optimizer_states", ()):
            for group in state["param_groups"]:
                group |= {"betas": (self.beta1, self.beta2), "weight_decay": self.weight_decay}
        for schedule, state in zip(
            checkpoint.get("lr_schedulers", ()), checkpoint.get("optimizer_states", ()), strict=True
        ):
            rate = self.learning_rate * self.rate_at(schedule["last_epoch"], max_steps)
            schedule["base_lrs"] = [self.learning_rate] * len(schedule["base_lrs"])
            schedule["_last_lr"] = [rate] * len(schedule["_last_lr"])
            for group in state["param_groups"]:
                group |= {"initial_lr": self.learning_rate, "lr": rate}

    def rate_at(self, step: int, max_steps: int) -> float:
        """The learning rate's factor in (0, 1] for optimiser step `step` (0-based).

        Without an end (`max_steps` < 0) there is no decay.
        """
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if max_steps < 0:
            return 1.0
        span = max(1, max_steps - 1 - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        return 1.0 + (self.final_fraction - 1.0) * progress


@dataclass(frozen=True)
class EvaluationSettings:
    """How validation and test judge the policy.

    A *full* evaluation (start and end of `fit`, `validate`, `test`) executes `samples` sampled
    workflows and the greedy one for every problem. In between, every `trainer.val_check_interval`
    batches, only the greedy workflow of the quick subset is checked: its structure, without an
    executor call, and each `execute_every`-th time by executing it.
    """

    samples: int = 5
    """Sampled workflows per problem in a full evaluation."""
    execute_every: int = 4
    """Every so many quick evaluations also execute; 1 always does, 0 never."""
    at_start: bool = True
    """Full evaluation before the first step of `fit`."""
    at_end: bool = True
    """Full evaluation after the last step of `fit`."""
    sample_batch_size: int = 128
    """Sequences sampled at once."""
    strip_flaws: bool = False
    """Judge the policy's text with the tiny policy's planted flaws mended: the baseline that shows
    what its choice of operators alone is worth."""
    table_rows: int = 24
    """Rows of the table of sample workflows that each executed evaluation logs."""

    def __post_init__(self) -> None:
        _at_least("model.evaluation.samples", self.samples, 0)
        _at_least("model.evaluation.execute_every", self.execute_every, 0)
        _at_least("model.evaluation.sample_batch_size", self.sample_batch_size, 1)
        _at_least("model.evaluation.table_rows", self.table_rows, 0)
