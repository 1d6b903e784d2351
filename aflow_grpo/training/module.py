"""The LightningModule: policy, GRPO update, evaluation.

One `training_step` is one GRPO iteration: sample a group of workflows for each problem of the
batch, hand them to the rollout callback, turn the rewards into group-relative advantages and
update the policy. Optimisation is manual, because one batch may mean several optimiser steps
(`grpo.ppo_epochs`, `grpo.minibatches`) and each of them accumulates over micro-batches.

All randomness is derived from (seed, split, iteration, problem, member); see `seeds.py`.
Not here: how workflows run (`rollout_callback`), printing (`progress`), logging (`tracking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import fsum
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.training.collect import Collected, Draw, collect, rollout_callback_of
from aflow_grpo.training.interrupts import deferred_interrupt
from aflow_grpo.training.lengths import (
    DRAW_EVERY_N_ITERATIONS,
    check_lengths,
    left_out_metrics,
    log_lengths,
    token_limits,
)
from aflow_grpo.training.metrics import rollout_metrics, valid_rate
from aflow_grpo.training.report import choose_example
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.spending import SpendForecast
from aflow_grpo.training.stage import RewardStage
from aflow_grpo.training.tracking import evenly_spaced, log_rollout_table
from aflow_grpo.training.update import update_policy

__all__ = ["GRPOModule"]

_STATE_KEY = "aflow_grpo"


class GRPOModule(L.LightningModule):
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
        super().__init__()
        if grpo.loss.kl_coef > 0:
            policy.keep_reference()
        self.policy = policy
        self.grpo = grpo
        self.optimizer_settings = optimizer
        self.evaluation = evaluation
        self.seed = seed
        self.iteration = 0
        """Completed GRPO iterations; also the training data's position."""
        self.evaluations: list[dict[str, float]] = []
        """The full evaluations of this fit, in order: the first is *before*, the last *after*."""
        self.example: Rollout | None = None
        """One rollout of the last full evaluation, to be shown."""
        self.rollouts: Sequence[Rollout] = ()
        """Of the last training iteration, for callbacks."""
        self.at_boundary = True
        """False from an iteration's first optimiser step until its counters are right again."""
        self.validated_at = 0
        """The iteration after which validation inside `fit` last ended; before the first, none."""
        self.cost_usd = 0.0
        """List cost of every rollout since the run began, evaluations and fallbacks included."""
        self._critical: ExitStack | None = None
        self._evaluated_at = -1
        self._optimizer_steps = 0
        self._idle_steps = 0
        self._reward_stage = RewardStage()
        self._forecast = SpendForecast()
        self._quick_evaluations = 0
        self._sampled: list[Rollout] = []
        self._greedy: list[Rollout] = []
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
        self.policy.setup()
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
        checkpoint[_STATE_KEY] = {
            "iteration": self.iteration,
            "idle_steps": self._idle_steps,
            "reward_stage": self._reward_stage.state_dict(),
            "forecast": self._forecast.state_dict(),
            "quick_evaluations": self._quick_evaluations,
            "evaluations": self.evaluations,
            "evaluated_at": self._evaluated_at,
            "validated_at": self.validated_at,
            "cost_usd": self.cost_usd,
            "policy": self.policy.fingerprint(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore our own state, after checking that the checkpoint is of this policy.

        Raises:
            ConfigError: The checkpoint was made with another base model, adapter or tokenizer, or
                the policy has no weights to load it into.
        """
        self.policy.require_weights()
        state: Mapping[str, Any] | None = checkpoint.get(_STATE_KEY)
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
        self._optimizer_steps = int(checkpoint["global_step"])

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

    def training_step(self, batch: Sequence[Problem], batch_idx: int) -> STEP_OUTPUT:
        """One GRPO iteration on the problems of `batch`."""
        reward = rollout_callback_of(self.trainer).reward
        draw = Draw(
            rehearse=self._reward_stage.current(reward, self.iteration) == "structure",
            split="train",
            step=self.iteration,
            run_seed=self.seed,
            group_size=self.grpo.group_size,
            chunk=self.grpo.sample_batch_size,
        )
        self.policy.eval()
        collected = collect(self.policy, self.trainer, batch, draw)
        self.policy.train()
        self.rollouts = collected.rollouts_B
        self._update(collected)
        self.grpo.check_idle(self._idle_steps)
        return None

    def _update(self, collected: Collected) -> None:
        """Everything that turns one boundary into the next: weights, counters, metrics.

        Until the first optimiser step an interrupt discards the iteration, whose rollouts the
        journal keeps; from then on it waits for the next boundary.
        """
        with ExitStack() as critical:
            self._critical = critical
            update = update_policy(self, collected.rollouts_B)
            self._leave_boundary()
            if any(not rollout.masked for rollout in collected.rollouts_B):
                self._idle_steps = 0 if update.learned else self._idle_steps + 1
            self.iteration += 1
            self._count_cost(collected.rollouts_B)
            known = self.policy.operators
            metrics = rollout_metrics(collected.rollouts_B, "train", operators=known)
            metrics |= update.metrics | self._reward_stage.observe(collected.rollouts_B)
            metrics |= left_out_metrics(self.trainer, "train")
            if self._reward_stage.is_full:
                metrics |= self._forecast.observe(self, collected.rollouts_B)
            metrics["train/cost_usd_total"] = self.cost_usd
            metrics["time/sample_s"] = collected.sample_s
            metrics["time/execute_s"] = collected.wait_s
            metrics["time/update_s"] = update.seconds
            self._log(metrics)
            ended = 0 <= self.trainer.max_steps <= self.trainer.global_step
            if ended or self.iteration % DRAW_EVERY_N_ITERATIONS == 0:
                self._log_lengths("train", collected.rollouts_B)
            self.at_boundary = True
            self._critical = None

    def on_before_backward(self, loss: torch.Tensor) -> None:
        """SIGTERM abandons an update that has changed nothing yet."""
        if self.at_boundary and self.trainer.received_sigterm:
            raise SIGTERMException

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """From here on the update has to be finished."""
        self._leave_boundary()

    def _leave_boundary(self) -> None:
        if self._critical is not None and self.at_boundary:
            self._critical.enter_context(deferred_interrupt())
            self.at_boundary = False

    def _count_cost(self, rollouts: Sequence[Rollout]) -> None:
        """Counted rollout by rollout in their order: the sum is the same to the bit every time."""
        self.cost_usd += fsum(
            r.completion.usage.cost_usd
            + r.execution.usage.cost_usd
            + r.execution.fallback_usage.cost_usd
            for r in rollouts
        )

    # Evaluation

    def validation_step(self, batch: Sequence[Problem], batch_idx: int) -> None:
        """Judge one batch: fully by `validate`, quickly in the middle of `fit`."""
        if self._inside_fit:
            self._greedy += self._draw("val", batch, greedy=True, execute=self._quick_executes)
        else:
            self._judge("val", batch)

    def test_step(self, batch: Sequence[Problem], batch_idx: int) -> None:
        """Judge one batch of test problems fully."""
        self._judge("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Log what the batches gave."""
        if not self._inside_fit:
            self._report("val")
            return
        if self._quick_executes:
            known = self.policy.operators
            self._log(rollout_metrics(self._greedy, "val/quick", greedy=True, operators=known))
            self._log_table(self._greedy, "quick")
        else:
            self._log(valid_rate(self._greedy, "val"))
        self._count_cost(self._greedy)
        self._quick_evaluations += 1
        self._greedy = []
        self.validated_at = self.iteration

    def on_test_epoch_end(self) -> None:
        """Log what the batches gave."""
        self._report("test")

    @property
    def _inside_fit(self) -> bool:
        return self.trainer.state.fn is TrainerFn.FITTING

    @property
    def _quick_executes(self) -> bool:
        every = self.evaluation.execute_every
        return every > 0 and (self._quick_evaluations + 1) % every == 0

    @property
    def _validation_due(self) -> bool:
        """Whether Lightning validates after this iteration."""
        every = self.trainer.val_check_interval
        return isinstance(every, int) and self.iteration % every == 0

    def _quick_validation(self) -> None:
        """What Lightning's validation inside `fit` does, outside its loop."""
        batches = self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        for index, batch in enumerate(batches):
            self.validation_step(batch, index)
        if self._greedy:
            self.on_validation_epoch_end()

    def _full_evaluation(self) -> None:
        problems: Sequence[Problem] = self.trainer.datamodule.problems("val")  # type: ignore[attr-defined]
        if problems:
            self._judge("val", problems)
            self.evaluations.append(self._report("val"))
        self._evaluated_at = self.iteration

    def _judge(self, split: str, problems: Sequence[Problem]) -> None:
        self._greedy += self._draw(split, problems, greedy=True)
        if self.evaluation.samples:
            self._sampled += self._draw(split, problems, greedy=False)

    def _draw(
        self, split: str, problems: Sequence[Problem], *, greedy: bool, execute: bool | None = None
    ) -> list[Rollout]:
        draw = Draw(
            split=f"{split}/greedy" if greedy else split,
            step=0,
            run_seed=self.seed,
            group_size=1 if greedy else self.evaluation.samples,
            greedy=greedy,
            execute=execute is not False,
            quick=execute is not None,
            evaluation=greedy,
            strip_flaws=self.evaluation.strip_flaws,
            chunk=self.evaluation.sample_batch_size,
        )
        self.policy.eval()
        return collect(self.policy, self.trainer, problems, draw).rollouts_B

    def _report(self, split: str) -> dict[str, float]:
        known = self.policy.operators
        metrics = rollout_metrics(self._sampled, split, operators=known)
        metrics |= rollout_metrics(self._greedy, split, greedy=True, operators=known)
        metrics |= left_out_metrics(self.trainer, split)
        self._log(metrics)
        self._log_lengths(split, self._sampled or self._greedy)
        self._count_cost([*self._sampled, *self._greedy])
        self._log_table(self._greedy, split)
        self.example = choose_example(self._greedy)
        self._sampled, self._greedy = [], []
        return metrics

    def _log_lengths(self, split: str, rollouts: Sequence[Rollout]) -> None:
        log_lengths(self.trainer.logger, rollouts, token_limits(self.policy), split, self.iteration)

    def _log_table(self, rollouts: Sequence[Rollout], name: str) -> None:
        rows = evenly_spaced(rollouts, self.evaluation.table_rows)
        log_rollout_table(self.trainer.logger, rows, self.iteration, name)

    def _log(self, metrics: Mapping[str, float]) -> None:
        """To the logger under our own step, and to Lightning for callbacks that monitor."""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.iteration)
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in metrics.items()}
        )
