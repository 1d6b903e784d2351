"""Which stage of the reward training is in: structure first, then full, and never back.

The state (whether the change has come, the recent rates of direct execution) is part of the
checkpoint, so that a resumed run changes at the same step as an uninterrupted one. Not covered:
what each stage pays (`rewards`), and evaluation, which always executes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from aflow_grpo.records import Rollout
from aflow_grpo.rewards import RewardSettings, Stage

__all__ = ["RewardStage"]


class RewardStage:
    """The stage of the coming training step."""

    def __init__(self) -> None:
        self._switched = False
        self._direct_rates: list[float] = []

    def current(self, settings: RewardSettings, step: int) -> Stage:
        """The stage of training step `step`, counted from 0.

        A step may be asked about before the one that precedes it has been made: a change that
        comes with the number of steps is remembered by `observe`, once it has been.

        Args:
            settings: Where training starts, and when it changes.
            step: Completed training steps.
        """
        if settings.stage == "full" or self._switched:
            return "full"
        schedule = settings.schedule
        if schedule.full_from_step is not None and step >= schedule.full_from_step:
            return "full"
        recent = self._direct_rates[-schedule.over_steps :]
        self._switched = (
            schedule.full_from_direct_rate is not None
            and len(recent) == schedule.over_steps
            and fmean(recent) >= schedule.full_from_direct_rate
        )
        return "full" if self._switched else "structure"

    def observe(
        self, settings: RewardSettings, rollouts: Sequence[Rollout], stage: Stage
    ) -> dict[str, float]:
        """Take note of a step's rollouts; masked ones and those of stage `full` do not count.

        Args:
            settings: As for `current`.
            rollouts: Of the step.
            stage: In which they were executed. A step whose workflows are written ahead is asked
                about before the one that precedes it has been observed.

        Returns:
            The metric of that step.
        """
        self._switched |= stage == "full" != settings.stage
        counted = [rollout for rollout in rollouts if not rollout.masked]
        if counted and stage == "structure":
            self._direct_rates.append(fmean(float(r.execution.direct) for r in counted))
            del self._direct_rates[: -settings.schedule.over_steps]
        return {"train/reward_stage": float(stage == "full")}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"switched": self._switched, "direct_rates": list(self._direct_rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one from before there were stages has an empty state."""
        self._switched = bool(state.get("switched", False))
        self._direct_rates = [float(rate) for rate in state.get("direct_rates", ())]
