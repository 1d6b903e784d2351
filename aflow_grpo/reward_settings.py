"""What `rollout.reward` can say: weights, penalties, presets, stages; and what it may not.

Settings that break a promise are refused here, when the config is read, not in the middle of a run:
above all the order of outcomes that the presets `ordered`, `additive` and `v1` promise. How a
reward is computed from these settings is `rewards`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Literal

from aflow_grpo.errors import ConfigError

__all__ = [
    "ONE_CALL_COST_USD",
    "POINTS",
    "REWARD_LIMIT",
    "Bounds",
    "RewardPenalties",
    "RewardSchedule",
    "RewardSettings",
    "RewardWeights",
    "Stage",
    "outcome_ranges",
]

REWARD_LIMIT = 10.0
"""Every total lies in [-REWARD_LIMIT, REWARD_LIMIT]."""
POINTS = 100.0
"""What the five weights sum to."""
_MARGIN = 1e-3
"""Smallest distance between two outcomes, far above what rounding can eat."""

ONE_CALL_COST_USD: dict[str, float] = {
    "gsm8k": 0.000180,
    "math": 0.000549,
    "humaneval": 0.000263,
    "mbpp": 0.000197,
    "drop": 0.000082,
    "hotpotqa": 0.000224,
    "sample/math": 0.00012,
    "sample/code": 0.00018,
    "sample/qa": 0.00010,
    "default": 0.00020,
}
"""List cost of answering one problem with one executor call, by `dataset` or `dataset/domain`.

Measured on AFlow's published raw runs (gpt-4o-mini, $0.15 / $0.60 per million tokens); the sample
problems' figures are choices: a call of their simulated executor costs a fifth to a half of that
(`aflow-grpo data describe data/sample/val.jsonl --measure`)."""

Stage = Literal["structure", "full"]


def _require(holds: bool, key: str, expected: str, given: float) -> None:
    if not (holds and math.isfinite(given)):
        raise ConfigError(f"rollout.reward.{key}: expected {expected}, got {given}")


@dataclass(frozen=True)
class RewardWeights:
    """Points of the five dimensions, which sum to 100; or shares, which sum to 1 (0.65 for 65).

    Shares are turned into points, so that a record of this class always holds points.
    """

    correctness: float = 65.0
    """For the score: all of them for a right answer, a part for a partly right one."""
    efficiency: float = 15.0
    """For a list cost near that of one executor call."""
    simplicity: float = 10.0
    """For few operator calls."""
    format: float = 5.0
    """For a text that parses as it stands and holds a valid workflow."""
    repetition: float = 5.0
    """For a text that does not repeat itself."""

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            _require(value >= 0, f"weights.{name}", "a number of at least 0", value)
        total = sum(values.values())
        if math.isclose(total, 1.0, abs_tol=1e-6):
            for name, value in values.items():
                object.__setattr__(self, name, value * POINTS)
        elif not math.isclose(total, POINTS, abs_tol=1e-6):
            raise ConfigError(
                f"rollout.reward.weights: the five weights must sum to 100 (points) or to 1 "
                f"(shares), got {total:g} from {values}. Give all five."
            )


@dataclass(frozen=True)
class RewardPenalties:
    """What faults cost, on the scale of the total; the most severe one applies, none are summed."""

    wrong: float = -2.0
    """The workflow ran, but its answer is wrong; of a partly right one the part that is wrong."""
    execution: float = -5.0
    """The workflow failed while running, or spent its time or call budget."""
    constraint: float = -7.0
    """The workflow is sound but uses an operator that its domain forbids."""
    validation: float = -10.0
    """There is no valid workflow, or the text was cut at its length limit."""
    partial_credit: float = 2.0
    """Added to `validation` when only one kind of flaw was found, less by a quarter for each
    further kind, so that every mended flaw shows; 0 switches it off."""

    def __post_init__(self) -> None:
        for name in ("wrong", "execution", "constraint", "validation"):
            value = getattr(self, name)
            _require(-REWARD_LIMIT <= value <= 0, f"penalties.{name}", "in [-10, 0]", value)
        credit, most = self.partial_credit, -self.validation
        _require(0 <= credit <= most, "penalties.partial_credit", f"in [0, {most:g}]", credit)


_LITERAL_PENALTIES = RewardPenalties(
    wrong=0.0, execution=-10.0, constraint=-5.0, validation=-3.0, partial_credit=0.0
)
"""The source documents' numbers. An invalid workflow beats a failed one with them, and the policy
collapses to invalid text: kept for comparison."""
_V1_WEIGHTS = RewardWeights(70.0, 20.0, 10.0, 0.0, 0.0)


@dataclass(frozen=True)
class RewardSchedule:
    """When the stage changes from `structure` to `full`, for good: whichever comes first."""

    full_from_step: int | None = None
    """The first training step of the full reward, counted from 0; null: not by step."""
    full_from_direct_rate: float | None = None
    """Share of training workflows that run as written, in (0, 1], from which the full reward
    begins; null: not by rate."""
    over_steps: int = 5
    """Steps over which that share is taken: the mean of the last so many."""

    def __post_init__(self) -> None:
        step, rate = self.full_from_step, self.full_from_direct_rate
        if step is not None:
            _require(step >= 0, "schedule.full_from_step", "a step of at least 0 or null", step)
        if rate is not None:
            expected = "a share in (0, 1] or null"
            _require(0 < rate <= 1, "schedule.full_from_direct_rate", expected, rate)
        _require(self.over_steps >= 1, "schedule.over_steps", "at least 1 step", self.over_steps)


@dataclass(frozen=True)
class Bounds:
    """The gap between right and wrong answers, as far as the settings alone tell, as totals."""

    lowest_right: float
    """Of an answer with score 1."""
    highest_wrong: float
    """Of an answer with score 0."""


@dataclass(frozen=True)
class RewardSettings:
    """How rewards are computed; the config section `rollout.reward`."""

    preset: Literal["ordered", "additive", "v1", "literal", "custom"] = "ordered"
    """`ordered`: total = points / 10 + penalty, with the order right > wrong but ran > failed >
    forbidden > invalid checked when the config is read; `additive`: the same, but efficiency and
    simplicity count for wrong answers too; `v1`: `ordered` with weights 70/20/10/0/0; `custom`:
    `ordered` without the check and without its ceiling; `literal`: the source documents' letter,
    where a workflow that ran has total = points / 5 - 10 and a fault has its penalty alone."""
    weights: RewardWeights | None = None
    """Points per dimension; left out, 70/20/10/0/0 for preset `v1`, else 65/15/10/5/5."""
    penalties: RewardPenalties | None = None
    """What faults cost; left out, the preset's own numbers, given, it replaces all of them."""
    mode: Literal["gated", "additive"] | None = None
    """`gated`: efficiency and simplicity are multiplied by the score, so that they count only as
    far as the answer is right; `additive`: they count for every workflow that ran to an answer, as
    in the source documents (in a group of wrong answers it trains to fail cheaply). Left out:
    `additive` for the presets `additive` and `literal`, else `gated`."""
    form: Literal["any", "hybrid", "code"] = "any"
    """The form that earns the format points: JSON with prompts, plain code, or either."""
    io_cost_usd: dict[str, float] = field(default_factory=lambda: dict(ONE_CALL_COST_USD))
    """List cost of one executor call in USD by `dataset` or `dataset/domain`; keys left out keep
    their built-in value, `default` is for every other dataset."""
    simplicity_zero_at: int = 9
    """Operator calls from which simplicity is 0; it falls evenly from 1 call on."""
    repetition_free: float = 0.25
    """Share of repeated text that is normal in a workflow and costs nothing, in [0, 1)."""
    stage: Stage = "full"
    """`full`: workflows are executed and rewarded by all of the above; `structure`: training runs
    them on stub operators, which cost nothing, and pays validity, operator choice, argument match
    and constraint adherence. Evaluation always executes. In trials a first stage on structure
    alone, at learning rate 1e-3, collapsed to the shortest workflows: see docs/reward.md."""
    schedule: RewardSchedule = field(default_factory=RewardSchedule)
    """When training changes from stage `structure` to `full`; empty: never."""

    def __post_init__(self) -> None:
        for key, cost in self.io_cost_usd.items():
            _require(cost > 0, f"io_cost_usd.{key}", "the USD of one call, above 0", cost)
        zero_at, free = self.simplicity_zero_at, self.repetition_free
        _require(zero_at >= 2, "simplicity_zero_at", "at least 2 calls", zero_at)
        _require(0 <= free < 1, "repetition_free", "a share in [0, 1)", free)
        if self.preset == "additive" and self.mode == "gated":
            raise ConfigError(
                "rollout.reward: preset=additive and mode=gated contradict each other; leave mode "
                "out, or choose preset=ordered"
            )
        if self.is_ordered:
            _check_order(self)

    @property
    def is_ordered(self) -> bool:
        """Whether the preset promises the order of outcomes."""
        return self.preset in ("ordered", "additive", "v1")

    @property
    def effective_weights(self) -> RewardWeights:
        """The weights given, or the preset's own."""
        if self.weights is not None:
            return self.weights
        return _V1_WEIGHTS if self.preset == "v1" else RewardWeights()

    @property
    def effective_penalties(self) -> RewardPenalties:
        """The penalties given, or the preset's own."""
        if self.penalties is not None:
            return self.penalties
        return _LITERAL_PENALTIES if self.preset == "literal" else RewardPenalties()

    @property
    def gated(self) -> bool:
        """Whether the score multiplies efficiency and simplicity."""
        if self.mode is not None:
            return self.mode == "gated"
        return self.preset not in ("additive", "literal")

    @property
    def bounds(self) -> Bounds:
        """The least that a right answer can get and the most that a wrong one can."""
        ranges = outcome_ranges(self)
        return Bounds(ranges["right answer"][0], ranges["wrong answer"][1])


def outcome_ranges(settings: RewardSettings) -> dict[str, tuple[float, float]]:
    """The lowest and highest total of each outcome, best first, without preset `literal`'s scale.

    A partly right answer is neither `right answer` nor `wrong answer`: its ceiling lies between.
    """
    weights, penalties = settings.effective_weights, settings.effective_penalties
    scale = REWARD_LIMIT / POINTS
    repetition = weights.repetition * scale
    form = weights.format * scale + repetition
    cheap = 0.0 if settings.gated else (weights.efficiency + weights.simplicity) * scale
    return {
        "right answer": (weights.correctness * scale, REWARD_LIMIT),
        "wrong answer": (penalties.wrong, penalties.wrong + form + cheap),
        "failed while running": (penalties.execution, penalties.execution + form),
        "forbidden operator": (penalties.constraint, penalties.constraint + repetition),
        "invalid or cut": (
            penalties.validation,
            penalties.validation + penalties.partial_credit + repetition,
        ),
    }


def _check_order(settings: RewardSettings) -> None:
    """Refuse weights and penalties under which a worse outcome could earn more than a better."""
    for (better, (lowest, _)), (worse, (_, highest)) in pairwise(outcome_ranges(settings).items()):
        if lowest - highest < _MARGIN:
            raise ConfigError(
                f"rollout.reward.preset={settings.preset} promises that '{better}' beats "
                f"'{worse}', but with these reward.weights and reward.penalties the first can fall "
                f"to {lowest:g} and the second reach {highest:g} (at least {_MARGIN:g} must lie "
                "between); move the weights towards correctness, make the penalties more severe "
                "from one outcome to the next, or choose rollout.reward.preset=custom"
            )
