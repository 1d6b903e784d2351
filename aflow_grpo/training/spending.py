"""What a run will spend, forecast from its first iterations.

The budget itself is kept where calls are made (`llm.budget`). Not here: a forecast before the run
(`preflight`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L

from aflow_grpo.records import Rollout
from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.training.forecast import Phases, Plan, forecast, plan_run, step_figures
from aflow_grpo.training.settings import EvaluationSettings

__all__ = ["SpendForecast", "plan_rest"]

_LOG = logging.getLogger(__name__)
_ITERATIONS = 3
"""So many are looked at before anything is forecast."""
_ENDLESS = 100
_NO_TIME = Phases(0.0, 0.0, 0.0, 0.0)


def plan_rest(
    trainer: L.Trainer,
    pl_module: Any,
    *,
    steps_done: int,
    first_iteration: int,
    evaluation: EvaluationSettings,
    workflows: int,
    fallback: bool,
) -> Plan:
    """What is left to do of a run; of an endless one, a hundred iterations.

    Args:
        trainer: Its max_steps, data and validation interval.
        pl_module: Its optimiser steps per iteration.
        steps_done: Optimiser steps that the run has behind it.
        first_iteration: Iterations that it has behind it.
        evaluation: What its evaluations do.
        workflows: Workflows per iteration.
        fallback: Whether evaluations answer by the fixed workflow where a greedy one does not run.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    per_iteration = pl_module.grpo.ppo_epochs * pl_module.grpo.minibatches
    every = trainer.val_check_batch
    left = math.ceil((trainer.max_steps - steps_done) / per_iteration)
    plan = plan_run(
        first_iteration=first_iteration,
        iterations=left if trainer.max_steps >= 0 else _ENDLESS,
        workflows_per_iteration=workflows,
        evaluation=evaluation,
        val_problems=len(data.problems("val")),
        quick_problems=len(data.val_dataloader().dataset) if data.problems("val") else 0,
        quick_every=math.inf if every is None else every,
        fallback=fallback,
    )
    outcomes = pl_module.grpo.outcome_model
    if outcomes is None or not outcomes.explore or first_iteration:
        return plan
    checked = plan.checked + outcomes.explore_samples
    return replace(plan, explored=outcomes.explore, checked=checked)


class SpendForecast:
    """Says after the first iterations what the run will cost by its list prices, once."""

    def __init__(self) -> None:
        self._seen: list[list[float]] = []

    def state_dict(self) -> dict[str, Any]:
        """What the first iterations showed: part of the checkpoint."""
        return {"seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one from before there were forecasts has an empty state."""
        self._seen = [list(figures) for figures in state.get("seen", ())]

    def observe(self, pl_module: Any, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Take note of an iteration; warns when the budget looks too small.

        Args:
            pl_module: With the list cost so far, this iteration's included.
            rollouts: Of the iteration, whose workflows were really executed.

        Returns:
            After the last of the first iterations the two ends of the forecast; else nothing.
        """
        if len(self._seen) >= _ITERATIONS:
            return {}
        trainer, settings = pl_module.trainer, rollout_callback_of(pl_module.trainer)
        figures = step_figures(rollouts, settings.reward)
        # Where nothing ran, an assumption stands for the mean, and weighs as one workflow.
        ran = max(1, figures.ran)
        self._seen.append([figures.workflows, figures.total_usd, ran, ran * figures.ran_usd])
        if len(self._seen) < _ITERATIONS:
            return {}
        workflows, total_usd, ran_in_all, ran_usd = map(sum, zip(*self._seen, strict=True))
        figures = replace(
            figures,
            workflows=int(workflows),
            total_usd=total_usd,
            ran=int(ran_in_all),
            ran_usd=ran_usd / ran_in_all,
        )
        plan = plan_rest(
            trainer,
            pl_module,
            steps_done=trainer.global_step,
            first_iteration=pl_module.iteration,
            evaluation=pl_module.evaluation,
            workflows=int(workflows) // _ITERATIONS,
            fallback=settings.rollout.fallback == "evaluation",
        )
        found = forecast(figures, _NO_TIME, plan, concurrency=1)
        low, high = pl_module.cost_usd + found.low_usd, pl_module.cost_usd + found.high_usd
        budget_usd = settings.llm.budget_usd
        if budget_usd is not None and budget_usd < high:
            _LOG.warning(
                "The first %d iterations say that the run will cost %.4f USD, and %.4f if every "
                "workflow runs; llm.budget_usd=%g may end it early.",
                *(_ITERATIONS, low, high, budget_usd),
            )
        return {"forecast/cost_usd_low": low, "forecast/cost_usd_high": high}
