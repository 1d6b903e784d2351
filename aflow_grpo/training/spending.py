"""What a run spends: a forecast from its first iterations, and an end when nobody answers.

The budget itself is kept where calls are made (`llm.budget`). Not here: a forecast before the run
(`preflight`).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L

from aflow_grpo.errors import OutageError
from aflow_grpo.records import Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.training.forecast import Phases, Plan, forecast, plan_run, step_figures
from aflow_grpo.training.settings import EvaluationSettings

__all__ = ["OutageGuard", "SpendForecast", "plan_rest"]

_LOG = logging.getLogger(__name__)
_ITERATIONS = 3
"""So many are looked at before anything is forecast."""
_ENDLESS = 100
_NO_TIME = Phases(0.0, 0.0, 0.0, 0.0)


class OutageGuard:
    """Ends the run when too many of the latest workflows that asked the executor got no answer.

    Args:
        max_unavailable: The share that may be lost, 0 to 1.
        over_workflows: Of so many; before there are that many, nothing is judged.
    """

    def __init__(self, max_unavailable: float, over_workflows: int) -> None:
        self._max = max_unavailable
        self._lost: deque[bool] = deque(maxlen=over_workflows)

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Look at the rollouts of one draw, in their order.

        Raises:
            OutageError: Too many were masked; the message repeats what the last of them says.
        """
        for rollout in rollouts:
            if not (rollout.masked or rollout.execution.calls):
                continue  # it asked nobody
            self._lost.append(rollout.masked)
            lost = sum(self._lost)
            if len(self._lost) == self._lost.maxlen and lost > self._max * len(self._lost):
                raise OutageError(
                    f"{lost} of the last {len(self._lost)} workflows that asked the executor got "
                    f"no answer, more than llm.max_unavailable={self._max:g} allows. The last "
                    f"says: {rollout.execution.message} Mend the tier, or add one to llm.tiers."
                )


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
    return plan_run(
        first_iteration=first_iteration,
        iterations=left if trainer.max_steps >= 0 else _ENDLESS,
        workflows_per_iteration=workflows,
        evaluation=evaluation,
        val_problems=len(data.problems("val")),
        quick_problems=len(data.val_dataloader().dataset) if data.problems("val") else 0,
        quick_every=math.inf if every is None else every,
        fallback=fallback,
    )


class SpendForecast:
    """Says after the first iterations what the run will cost by its list prices, once.

    Args:
        reward: Knows what one call costs where no workflow has run yet.
        budget_usd: The run's budget; None for none.
        fallback: As in `plan_rest`.
    """

    def __init__(self, reward: RewardSettings, budget_usd: float | None, fallback: bool) -> None:
        self._reward = reward
        self._budget_usd = budget_usd
        self._fallback = fallback
        self._seen: list[list[float]] = []

    def state_dict(self) -> dict[str, Any]:
        """What the first iterations showed, for a run that is stopped among them."""
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The counterpart of `state_dict`."""
        self._seen = list(state["seen"])

    def observe(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Call after every training iteration.

        Args:
            trainer: Of the fit; its loggers get the two ends of the forecast.
            pl_module: With the iteration's rollouts and the list cost so far.
        """
        if len(self._seen) >= _ITERATIONS:
            return
        figures = step_figures(pl_module.rollouts, self._reward)
        # Where nothing ran, an assumption stands for the mean, and weighs as one workflow.
        ran = max(1, figures.ran)
        self._seen.append([figures.workflows, figures.total_usd, ran, ran * figures.ran_usd])
        if len(self._seen) < _ITERATIONS:
            return
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
            fallback=self._fallback,
        )
        found = forecast(figures, _NO_TIME, plan, concurrency=1)
        low, high = pl_module.cost_usd + found.low_usd, pl_module.cost_usd + found.high_usd
        for logger in trainer.loggers:
            metrics = {"forecast/cost_usd_low": low, "forecast/cost_usd_high": high}
            logger.log_metrics(metrics, step=pl_module.iteration)
        if self._budget_usd is not None and self._budget_usd < high:
            _LOG.warning(
                "The first %d iterations say that the run will cost %.4f USD, and %.4f if every "
                "workflow runs; llm.budget_usd=%g may end it early.",
                *(_ITERATIONS, low, high, self._budget_usd),
            )
