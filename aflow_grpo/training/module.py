"""The LightningModule: policy, GRPO update, state; what judges the policy is its base class.

One `training_step` is one GRPO iteration: take the rollouts of a group of workflows for each
problem of the batch, turn the rewards into group-relative advantages, update the policy.
Optimisation is manual, because one batch may mean several optimiser steps (`grpo.ppo_epochs`,
`grpo.minibatches`) and each of them accumulates over micro-batches.

All randomness is derived from (seed, split, iteration, problem, member); see `seeds.py`.
Not here: evaluation (`judging`), when workflows are written (`pipeline`) and how they run
(`rollout_callback`), printing (`progress`), logging (`tracking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.presets import resolve
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.reward_settings import Stage
from aflow_grpo.training.collect import Collected, rollout_callback_of
from aflow_grpo.training.demonstrations import Demonstrations, Shown
from aflow_grpo.training.exploring import explore
from aflow_grpo.training.guard import TrainingGuard
from aflow_grpo.training.interrupts import deferred_interrupt
from aflow_grpo.training.judging import JudgingModule
from aflow_grpo.training.lengths import DRAW_EVERY_N_ITERATIONS, check_lengths, left_out_metrics
from aflow_grpo.training.metrics import rollout_metrics
from aflow_grpo.training.outcome_use import OutcomeSettings, OutcomeUse, Outlook
from aflow_grpo.training.pipeline import Pipeline
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.run_logger import run_of
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.shares import gather_rollouts
from aflow_grpo.training.spending import SpendForecast
from aflow_grpo.training.stage import RewardStage
from aflow_grpo.training.storing import Place
from aflow_grpo.training.update import UpdateReport, update_policy

__all__ = ["STATE_KEY", "GRPOModule"]

STATE_KEY = "aflow_grpo"
"""Where a checkpoint keeps this module's own state."""


class GRPOModule(JudgingModule):
    """GRPO on a policy that writes workflows.

    Args:
        policy: What writes the workflows: a model in this process, or an endpoint, which `validate`
            and `test` can judge.
        grpo: Group size, advantages, loss, batching of the update.
        optimizer: AdamW and its schedule.
        evaluation: How validation and test judge the policy.
        seed: The run's seed (`seed_everything` on the command line).
    """

    def __init__(
        self,
        policy: BasePolicy,
        grpo: GRPOSettings = GRPOSettings(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        evaluation: EvaluationSettings = EvaluationSettings(),
        seed: int = 0,
    ) -> None:
        super().__init__(policy, evaluation, seed)
        sampling = getattr(policy, "sampling", None)  # none, where the policy cannot be trained
        self.objective = resolve(grpo.loss, max_length=sampling.max_new_tokens if sampling else 0)
        """What an update optimises, in numbers."""
        if self.objective.loss.kl_coef > 0:
            policy.keep_reference()
        self.grpo = grpo
        self.optimizer_settings = optimizer
        self.rollouts: Sequence[Rollout] = ()
        """Of the last training iteration, of all ranks."""
        self.at_boundary = True
        """False from an iteration's first optimiser step until its counters are right again."""
        self._critical: ExitStack | None = None
        self._optimizer_steps = 0
        self._idle_steps = 0
        self._reward_stage = RewardStage()
        self._forecast = SpendForecast()
        self._demonstrations = Demonstrations(grpo.demonstrations)
        self._outcomes = OutcomeUse(grpo.outcome_model, policy.operators)
        self._guard = TrainingGuard(grpo.guard, kl_is_known=self.objective.loss.kl_coef > 0)
        self._pipeline = Pipeline(self)
        self.automatic_optimization = False
        self.strict_loading = False

    # Setup and state

    def prepare_data(self) -> None:
        """Lightning's first hook: refuse what cannot be trained before anything is opened."""
        if self._inside_fit:
            self.policy.require_weights()

    def configure_model(self) -> None:
        """Load the policy's weights (once; Lightning calls this before every stage).

        With its tokenizer there, and before anything is executed, the problems are looked at.

        Raises:
            ConfigError: Some are longer than the policy can be asked.
        """
        with Ranks.of(self.trainer).together():
            self.policy.setup()
            self._outcomes.operators = self.policy.operators  # those of one's own too, by now
            check_lengths(self.policy, self.trainer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on the trainable parameters, linear warm-up and decay per optimiser step."""
        settings = self.optimizer_settings
        optimizer = AdamW(
            [p for p in self.policy.parameters() if p.requires_grad],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        max_steps = self.trainer.max_steps
        schedule = LambdaLR(optimizer, lambda step: settings.rate_at(step, max_steps))
        return [optimizer], [schedule]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights and our own state only; the base model is not written."""
        checkpoint["state_dict"] = {
            f"policy.{name}": tensor for name, tensor in self.policy.trainable_state_dict().items()
        }
        checkpoint[STATE_KEY] = {
            "iteration": self.iteration,
            "idle_steps": self._idle_steps,
            "reward_stage": self._reward_stage.state_dict(),
            "forecast": self._forecast.state_dict(),
            "quick_evaluations": self._quick_evaluations,
            "evaluations": self.evaluations,
            "evaluated_at": self._evaluated_at,
            "validated_at": self.validated_at,
            "cost_usd": self.cost_usd,
            "guard": self._guard.validity.state_dict(),
            "demonstrations": self._demonstrations.state_dict(),
            "outcomes": self._outcomes.state_dict(),
            "written_ahead": self._pipeline.state_dict(),
            "policy": self.policy.fingerprint(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore our own state, after checking that the checkpoint is of this policy.

        Raises:
            ConfigError: The checkpoint was made with another base model, adapter or tokenizer, or
                the policy has no weights to load it into.
        """
        self.policy.require_weights()
        state: Mapping[str, Any] | None = checkpoint.get(STATE_KEY)
        if state is None:
            raise ConfigError(
                "--ckpt_path: the checkpoint is of another program. Expected one of this, such as "
                "checkpoints/last.ckpt in a run's directory."
            )
        mine, theirs = self.policy.fingerprint(), state.get("policy")
        if theirs != mine:
            raise ConfigError(
                f"--ckpt_path: the checkpoint was made with policy {theirs}, but model.policy is "
                f"{mine}. Give the same model.policy settings, or another checkpoint."
            )
        self.iteration = int(state["iteration"])
        self._idle_steps = int(state["idle_steps"])
        self._reward_stage.load_state_dict(state.get("reward_stage", {}))
        self._forecast.load_state_dict(state.get("forecast", {}))
        self._quick_evaluations = int(state["quick_evaluations"])
        self.evaluations = list(state["evaluations"])
        self._evaluated_at = int(state["evaluated_at"])
        self.validated_at = int(state["validated_at"])
        self.cost_usd = float(state["cost_usd"])
        self._guard.validity.load_state_dict(state.get("guard", {}))
        self._demonstrations.load_state_dict(state.get("demonstrations", {}))
        self._outcomes.load_state_dict(state.get("outcomes", {}))
        self._pipeline.load_state_dict(state.get("written_ahead", {}))
        self._optimizer_steps = int(checkpoint["global_step"])
        self.optimizer_settings.overrule(checkpoint, self.trainer.max_steps)

    # Training

    def on_fit_start(self) -> None:
        """Make up for the last evaluations of a run that was stopped after its last step.

        Lightning finds no step left to do and would call neither `on_train_start` nor `_end`.
        """
        if not 0 <= self.trainer.max_steps <= self._optimizer_steps:
            return
        if self._validation_due and self.validated_at != self.iteration:
            self._quick_validation()
        if self._evaluated_at != self.iteration:
            self.on_train_end()

    def on_train_start(self) -> None:
        """Full evaluation before the first step of a new run."""
        if self.iteration == 0 and self._evaluated_at != 0 and self.evaluation.at_start:
            self._full_evaluation()

    def on_train_end(self) -> None:
        """Full evaluation after the last step."""
        if self.evaluation.at_end:
            self._full_evaluation()

    def reward_stage_of(self, iteration: int) -> Stage:
        """Which stage of the reward pays for an iteration that is about to be written."""
        return self._reward_stage.current(rollout_callback_of(self.trainer).reward, iteration)

    def training_step(self, batch: Sequence[Problem], batch_idx: int) -> STEP_OUTPUT:
        """One GRPO iteration on the problems of `batch`."""
        if settings := self._outcomes.explores(self.iteration):
            self._explore(settings)
        collected, draw = self._pipeline.collect(batch)
        self.rollouts = gather_rollouts(collected.every_B, Ranks.of(self.trainer))
        stage: Stage = "structure" if draw.rehearse else "full"
        outlook = None
        if stage == "full":
            with Ranks.of(self.trainer).together():
                outlook = self._outcomes.look(self.rollouts, self.iteration)
        self._update(collected, self._shown(collected, stage, outlook), stage, outlook)
        self.grpo.check_idle(self._idle_steps)
        return None

    def _explore(self, settings: OutcomeSettings) -> None:
        """Before the first iteration; kept as part ``explore`` of the journal."""
        executed = explore(self, settings.explore_samples, settings.explore)
        callback = rollout_callback_of(self.trainer)
        with Ranks.of(self.trainer).together():  # an outage is everybody's
            if self.trainer.is_global_zero:
                run = run_of(self.trainer.logger) or "fit"
                callback.keep(executed, Place(run, "explore", 0), None)
        with deferred_interrupt():  # a checkpoint has both or neither
            self._outcomes.explored(executed)
            self._count_cost(executed)

    def _shown(self, collected: Collected, stage: Stage, outlook: Outlook | None) -> Shown:
        """Demonstrations for the rollouts; none where nothing has been executed in earnest."""
        if stage == "structure":
            return Shown([], [])
        with Ranks.of(self.trainer).together():
            return self._demonstrations.for_batch(self, collected.rollouts_B, outlook)

    def _update(
        self, collected: Collected, shown: Shown, stage: Stage, outlook: Outlook | None
    ) -> None:
        """Everything that turns one boundary into the next: weights, counters, metrics.

        Until the first optimiser step an interrupt discards the iteration, whose rollouts the
        journal keeps; from then on it waits for the next boundary.
        """
        with ExitStack() as critical:
            self._critical = critical
            update = update_policy(
                self,
                collected.rollouts_B,
                lag=collected.lag,
                demonstrations=shown.demonstrations,
                judged=self._outcomes.judged(outlook, collected.rollouts_B, self.rollouts),
            )
            self._leave_boundary()
            if any(not rollout.masked for rollout in self.rollouts):
                self._idle_steps = 0 if update.learned else self._idle_steps + 1
            self.iteration += 1
            self._pipeline.advance()
            executed = gather_rollouts(shown.executed, Ranks.of(self.trainer))
            self._count_cost([*self.rollouts, *executed])
            self._demonstrations.remember(self.rollouts)
            self._outcomes.remember(self.rollouts)
            metrics = self._metrics(collected, update, stage)
            self._log(metrics | self._outcomes.metrics(outlook, self.rollouts))
            ended = 0 <= self.trainer.max_steps <= self.trainer.global_step
            if ended or self.iteration % DRAW_EVERY_N_ITERATIONS == 0:
                self._log_lengths("train", self.rollouts)
            self._guard.observe(self, update.metrics)
            self.at_boundary = True
            self._critical = None

    def _metrics(
        self, collected: Collected, update: UpdateReport, stage: Stage
    ) -> dict[str, float]:
        """Of the iteration that has just been completed."""
        rollouts, trainer = self.rollouts, self.trainer
        metrics = rollout_metrics(rollouts, "train", operators=self.policy.operators)
        metrics |= update.metrics
        reward = rollout_callback_of(trainer).reward
        metrics |= self._reward_stage.observe(reward, rollouts, stage)
        metrics |= left_out_metrics(trainer, "train")
        if stage == "full":
            metrics |= self._forecast.observe(self, rollouts)
        if self.objective.zero_variance == "resample":
            replaced = {(r.group, r.problem.id) for r in collected.replaced_B}
            metrics["train/resampled_groups"] = float(sum(Ranks.of(trainer).gather(len(replaced))))
        metrics["train/cost_usd_total"] = self.cost_usd
        metrics["time/sample_s"] = collected.sample_s
        metrics["time/execute_s"] = collected.wait_s
        metrics["time/update_s"] = update.seconds
        return metrics

    def on_before_backward(self, loss: torch.Tensor) -> None:
        """SIGTERM abandons an update that has changed nothing yet."""
        if self.at_boundary and self.trainer.received_sigterm:
            raise SIGTERMException

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """From here on the update has to be finished."""
        self._leave_boundary()

    def _leave_boundary(self) -> None:
        if self._critical is not None and self.at_boundary:
            cancel_calls = rollout_callback_of(self.trainer).cancel_calls
            self._critical.enter_context(deferred_interrupt(on_held=cancel_calls))
            self.at_boundary = False
