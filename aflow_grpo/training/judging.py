"""The part of the LightningModule that judges: validation, test, full evaluations, their logging.

Nothing here changes the policy. A *full* evaluation executes workflows for every problem, a quick
one inside `fit` looks at a subset; see `EvaluationSettings`. Ranks share the problems, and each
knows all rollouts afterwards. Not here: training (`module`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.training.collect import Draw, collect
from aflow_grpo.training.lengths import left_out_metrics, log_lengths, token_limits
from aflow_grpo.training.metrics import interval_metrics, rollout_metrics, valid_rate
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.report import choose_example
from aflow_grpo.training.sample_tables import evenly_spaced, log_rollout_table
from aflow_grpo.training.settings import EvaluationSettings
from aflow_grpo.training.shares import gather_rollouts, own_share

__all__ = ["JudgingModule"]


class JudgingModule(L.LightningModule):
    """Judges a policy that writes workflows.

    Args:
        policy: What writes the workflows.
        evaluation: How validation and test judge it.
        seed: The run's seed.
    """

    def __init__(self, policy: BasePolicy, evaluation: EvaluationSettings, seed: int) -> None:
        super().__init__()
        self.policy = policy
        self.evaluation = evaluation
        self.seed = seed
        self.iteration = 0
        """Completed GRPO iterations; also the training data's position."""
        self.evaluations: list[dict[str, float]] = []
        """The full evaluations of this fit, in order: the first is *before*, the last *after*."""
        self.example: Rollout | None = None
        """One rollout of the last full evaluation, to be shown."""
        self.validated_at = 0
        """The iteration after which validation inside `fit` last ended; before the first, none."""
        self.cost_usd = 0.0
        """List cost of every rollout since the run began, evaluations and fallbacks included."""
        self._evaluated_at = -1
        self._quick_evaluations = 0
        self._sampled: list[Rollout] = []
        self._greedy: list[Rollout] = []

    def validation_step(self, batch: Sequence[Problem], batch_idx: int) -> None:
        """Judge one batch: fully by `validate`, quickly in the middle of `fit`."""
        if self._inside_fit:
            self._greedy += self._draw("val", batch, greedy=True, execute=self._quick_executes)
        else:
            self._judge("val", batch)

    def test_step(self, batch: Sequence[Problem], batch_idx: int) -> None:
        """Judge one batch of test problems fully."""
        self._judge("test", batch)

    def predict_step(self, batch: Sequence[Problem], batch_idx: int) -> list[Rollout]:
        """Answer one batch of problems, greedily; a callback writes what comes out."""
        return self._draw("predict", batch, greedy=True)

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
        ranks = Ranks.of(self.trainer)
        share = own_share(problems, ranks)
        draw = Draw(
            first_group=share.first,
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
        with ranks.together():
            mine_B = collect(self.policy, self.trainer, share.items, draw).rollouts_B
        return gather_rollouts(mine_B, ranks)

    def _report(self, split: str) -> dict[str, float]:
        known = self.policy.operators
        metrics = rollout_metrics(self._sampled, split, operators=known)
        metrics |= rollout_metrics(self._greedy, split, greedy=True, operators=known)
        metrics |= interval_metrics(self._sampled, split)
        metrics |= interval_metrics(self._greedy, split, greedy=True)
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
        log_rollout_table(self.trainer.logger, rows, self.iteration, name, self.policy.operators)

    def _count_cost(self, rollouts: Sequence[Rollout]) -> None:
        """Counted rollout by rollout in their order: the sum is the same to the bit every time."""
        self.cost_usd += fsum(
            r.completion.usage.cost_usd
            + r.execution.usage.cost_usd
            + r.execution.fallback_usage.cost_usd
            for r in rollouts
        )

    def _log(self, metrics: Mapping[str, float]) -> None:
        """To the logger under our own step, and to Lightning for callbacks that monitor."""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.iteration)
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in metrics.items()}
        )
