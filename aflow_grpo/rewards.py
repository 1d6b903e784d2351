"""What a rollout is worth to the policy: five dimensions, one penalty, a total in [-10, 10].

Pure functions: problem + completion + execution + score + settings -> `RewardBreakdown`. The
default preset `ordered` keeps one promise, whatever the other dimensions say:

    right > wrong but ran > failed while running > forbidden operator > invalid or cut

because a policy that earns more for rubbish than for an honest attempt learns to write rubbish.
Only the policy's own workflow earns: a fallback's answer is worth nothing here, and a rollout
that nobody is to blame for (`unavailable`) is 0 and masked anyway. Only what the policy wrote is
judged for form, never the executor's text; wall-clock time is in no dimension, since it measures
the endpoint.

Not covered: whether an answer is right (`scoring`), and how rewards become advantages (`grpo`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import pairwise
from typing import Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Problem,
    RewardBreakdown,
    Score,
    Status,
)

__all__ = [
    "ONE_CALL_COST_USD",
    "RewardPenalties",
    "RewardSettings",
    "RewardWeights",
    "compute_reward",
    "efficiency_share",
    "one_call_cost",
    "repeated_share",
    "repetition_share",
    "simplicity_share",
]

REWARD_LIMIT = 10.0
"""Every total lies in [-REWARD_LIMIT, REWARD_LIMIT]."""
POINTS = 100.0
"""What the five weights sum to."""

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
problems' figures are their simulated executor's."""

EFFICIENCY_BANDS: tuple[tuple[float, float], ...] = (
    (1.0, 1.0),
    (2.0, 0.8),
    (5.0, 0.5),
    (10.0, 0.25),
    (20.0, 0.0),
)
"""(cost / one-call cost, share of the efficiency points), interpolated on a log scale."""

_BLIND_KINDS = frozenset({FaultKind.NO_WORKFLOW, FaultKind.SYNTAX_ERROR, FaultKind.BAD_STRUCTURE})
"""Findings that hide all others: no partial credit, or writing nothing would look nearly right."""
_NGRAM = 8
"""Words and signs in a row that count as one repeated piece of text."""
_TOKEN = re.compile(r"\w{1,16}|[^\w\s]")
"""A word (a long one in pieces, so that a flood of one letter repeats) or a sign."""


def _require(holds: bool, key: str, expected: str, given: float) -> None:
    if not (holds and math.isfinite(given)):
        raise ConfigError(f"rollout.reward.{key}: expected {expected}, got {given}")


@dataclass(frozen=True)
class RewardWeights:
    """Points of the five dimensions; they sum to 100 (70/20/10/0/0 are those of version 1)."""

    correctness: float = 65.0
    """For a right answer; a nearly right one earns nothing."""
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
        if not math.isclose(sum(values.values()), POINTS, abs_tol=1e-6):
            raise ConfigError(
                f"rollout.reward.weights: the five weights must sum to 100, got "
                f"{sum(values.values()):g} from {values}"
            )


@dataclass(frozen=True)
class RewardPenalties:
    """What faults cost, on the scale of the total; the most severe one applies, none are summed."""

    wrong: float = -2.0
    """The workflow ran, but its answer is wrong."""
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


@dataclass(frozen=True)
class RewardSettings:
    """How rewards are computed; the config section `rollout.reward`."""

    preset: Literal["ordered", "literal", "custom"] = "ordered"
    """`ordered`: total = points / 10 + penalty, with the order of the module docstring checked;
    `custom`: the same without the check; `literal`: the source documents' letter, where a workflow
    that ran has total = points / 5 - 10 and a fault has its penalty alone."""
    weights: RewardWeights = field(default_factory=RewardWeights)
    """Points per dimension."""
    penalties: RewardPenalties | None = None
    """What faults cost; left out, the preset's own numbers, given, it replaces all of them."""
    mode: Literal["gated", "additive"] = "gated"
    """`gated`: efficiency and simplicity count only for a right answer; `additive`: for every
    workflow that ran to an answer, as in the source documents (in a group of wrong answers it
    trains to fail cheaply)."""
    form: Literal["any", "hybrid", "code"] = "any"
    """The form that earns the format points: JSON with prompts, plain code, or either."""
    io_cost_usd: dict[str, float] = field(default_factory=lambda: dict(ONE_CALL_COST_USD))
    """List cost of one executor call in USD by `dataset` or `dataset/domain`; keys left out keep
    their built-in value, `default` is for every other dataset."""
    simplicity_zero_at: int = 9
    """Operator calls from which simplicity is 0; it falls evenly from 1 call on."""
    repetition_free: float = 0.25
    """Share of repeated text that is normal in a workflow and costs nothing, in [0, 1)."""

    def __post_init__(self) -> None:
        for key, cost in self.io_cost_usd.items():
            _require(cost > 0, f"io_cost_usd.{key}", "the USD of one call, above 0", cost)
        zero_at, free = self.simplicity_zero_at, self.repetition_free
        _require(zero_at >= 2, "simplicity_zero_at", "at least 2 calls", zero_at)
        _require(0 <= free < 1, "repetition_free", "a share in [0, 1)", free)
        if self.preset == "ordered":
            _check_order(self)

    @property
    def effective_penalties(self) -> RewardPenalties:
        """The penalties given, or the preset's own."""
        if self.penalties is not None:
            return self.penalties
        return _LITERAL_PENALTIES if self.preset == "literal" else RewardPenalties()


class _Outcome(Enum):
    """What a rollout came to, best first."""

    RIGHT = "right answer"
    WRONG = "wrong answer"
    FAILED = "failed while running"
    FORBIDDEN = "forbidden operator"
    INVALID = "invalid or cut"


def _check_order(settings: RewardSettings) -> None:
    """Refuse weights and penalties under which a worse outcome could earn more than a better."""
    weights, penalties = settings.weights, settings.effective_penalties
    repetition = weights.repetition / REWARD_LIMIT
    form = weights.format / REWARD_LIMIT + repetition
    cheap = (weights.efficiency + weights.simplicity) / REWARD_LIMIT
    extra = {
        _Outcome.WRONG: form + (cheap if settings.mode == "additive" else 0.0),
        _Outcome.FAILED: form,
        _Outcome.FORBIDDEN: repetition,
        _Outcome.INVALID: penalties.partial_credit + repetition,
    }
    base = {
        _Outcome.RIGHT: weights.correctness / REWARD_LIMIT,
        _Outcome.WRONG: penalties.wrong,
        _Outcome.FAILED: penalties.execution,
        _Outcome.FORBIDDEN: penalties.constraint,
        _Outcome.INVALID: penalties.validation,
    }
    for better, worse in pairwise(base):
        lowest, highest = base[better], base[worse] + extra[worse]
        if lowest <= highest:
            raise ConfigError(
                f"rollout.reward.preset=ordered promises that '{better.value}' beats "
                f"'{worse.value}', but with these reward.weights and reward.penalties the first "
                f"can fall to {lowest:g} "
                f"and the second reach {highest:g}; move the weights towards correctness, make "
                "the penalties more severe from one outcome to the next, or choose "
                "rollout.reward.preset=custom"
            )


def compute_reward(
    problem: Problem,
    completion: Completion,
    execution: Execution,
    score: Score,
    settings: RewardSettings,
) -> RewardBreakdown:
    """The reward of one rollout.

    Args:
        problem: Its dataset and domain select the one-call cost.
        completion: The policy's own text, judged for repetition.
        execution: What happened when the workflow ran, with its list cost.
        score: Of the policy's own workflow's answer; ignored unless that workflow ran.
        settings: Weights, penalties and preset.

    Returns:
        Points in [0, weight] per dimension, the penalty (at most 0, on the total's scale) and the
        total in [-10, 10]; all zeros for `unavailable`.
    """
    if execution.status is Status.UNAVAILABLE:
        return RewardBreakdown(0.0, 0.0, 0.0, 0.0, 0.0, penalty=0.0, total=0.0)
    outcome = _outcome(execution, score)
    shares = _shares(problem, completion, execution, outcome, settings)
    parts = {name: share * getattr(settings.weights, name) for name, share in shares.items()}
    penalty = _penalty(outcome, execution, settings.effective_penalties)
    total = _total(outcome, sum(parts.values()), penalty, settings)
    return RewardBreakdown(**parts, penalty=penalty, total=total)


def _outcome(execution: Execution, score: Score) -> _Outcome:
    if execution.status is Status.OK:
        return _Outcome.RIGHT if score.correct else _Outcome.WRONG
    if execution.status in (Status.ERROR, Status.TIMEOUT):
        return _Outcome.FAILED
    only_forbidden = _kinds(execution) == {FaultKind.FORBIDDEN_OPERATOR}
    if execution.status is Status.INVALID and only_forbidden:
        return _Outcome.FORBIDDEN
    return _Outcome.INVALID


def _kinds(execution: Execution) -> set[FaultKind]:
    """Every kind of flaw that was found in the policy's text."""
    kinds = {finding.kind for finding in execution.findings if finding.severity == "reject"}
    return kinds | {execution.fault_kind} if execution.fault_kind is not None else kinds


def _shares(
    problem: Problem,
    completion: Completion,
    execution: Execution,
    outcome: _Outcome,
    settings: RewardSettings,
) -> dict[str, float]:
    """Each dimension's share of its weight, in [0, 1]."""
    right = outcome is _Outcome.RIGHT
    counts = right or (settings.mode == "additive" and outcome is _Outcome.WRONG)
    cheap = efficiency_share(execution, one_call_cost(problem, settings))
    simple = simplicity_share(len(execution.calls), settings.simplicity_zero_at)
    return {
        "correctness": float(right),
        "efficiency": cheap if counts else 0.0,
        "simplicity": simple if counts else 0.0,
        "format": float(_well_formed(execution, settings)),
        "repetition": repetition_share(completion.text, settings.repetition_free),
    }


def _penalty(outcome: _Outcome, execution: Execution, penalties: RewardPenalties) -> float:
    match outcome:
        case _Outcome.RIGHT:
            return 0.0
        case _Outcome.WRONG:
            return penalties.wrong
        case _Outcome.FAILED:
            return penalties.execution
        case _Outcome.FORBIDDEN:
            return penalties.constraint
        case _Outcome.INVALID:
            penalty = penalties.validation + penalties.partial_credit * _partial_share(execution)
            forbidden = FaultKind.FORBIDDEN_OPERATOR in _kinds(execution)
            return min(penalty, penalties.constraint) if forbidden else penalty


def _partial_share(execution: Execution) -> float:
    """How near an invalid workflow is to a valid one: 1 with one kind of flaw, 0 with five."""
    kinds = _kinds(execution)
    if execution.status is Status.CUT or not kinds or kinds & _BLIND_KINDS:
        return 0.0
    return max(0.0, 1.0 - (len(kinds) - 1) / 4)


def _total(outcome: _Outcome, points: float, penalty: float, settings: RewardSettings) -> float:
    if settings.preset == "literal":
        ran = outcome in (_Outcome.RIGHT, _Outcome.WRONG)
        total = points * 2 * REWARD_LIMIT / POINTS - REWARD_LIMIT + penalty if ran else penalty
    else:
        total = points * REWARD_LIMIT / POINTS + penalty
    return max(-REWARD_LIMIT, min(REWARD_LIMIT, total))


def one_call_cost(problem: Problem, settings: RewardSettings) -> float:
    """List cost in USD of answering `problem` with one executor call, by the config's table."""
    table = {**ONE_CALL_COST_USD, **settings.io_cost_usd}
    for key in (f"{problem.dataset}/{problem.domain}", problem.dataset):
        if key in table:
            return table[key]
    return table["default"]


def efficiency_share(execution: Execution, one_call_usd: float) -> float:
    """Share of the efficiency points: 1 up to the cost of one call, falling to 0 at 20 times.

    Executor calls without a cost are unpriced, not cheap: they earn 0. A workflow that made no
    executor call at all is as good as one call, never better.
    """
    usage = execution.usage
    if usage.calls == 0 and usage.cost_usd == 0:
        return 1.0
    ratio = usage.cost_usd / one_call_usd
    if not ratio > 0:  # also catches NaN
        return 0.0
    if ratio <= EFFICIENCY_BANDS[0][0]:
        return 1.0
    for (low, high_share), (high, low_share) in pairwise(EFFICIENCY_BANDS):
        if ratio <= high:
            way = math.log(ratio / low) / math.log(high / low)
            return high_share + way * (low_share - high_share)
    return 0.0


def simplicity_share(operator_calls: int, zero_at: int) -> float:
    """Share of the simplicity points: 1 for one operator call really made, 0 from `zero_at` on."""
    return min(1.0, max(0.0, (zero_at - operator_calls) / (zero_at - 1)))


def _well_formed(execution: Execution, settings: RewardSettings) -> bool:
    """The policy's text parsed as it stands, in the form asked for, and the workflow is valid."""
    source = execution.source
    if source is None or source.repaired:
        return False
    if execution.status in (Status.CUT, Status.INVALID):
        return False
    return settings.form == "any" or (settings.form == "hybrid") == source.hybrid


def repeated_share(text: str) -> float:
    """Share of the text's eight-word runs that occurred before, in [0, 1).

    ``"a b " * 100`` has 193 runs of eight words, 2 of them new: 191 / 193.
    """
    tokens = _TOKEN.findall(text)
    runs = list(zip(*(tokens[i:] for i in range(_NGRAM)), strict=False))
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0


def repetition_share(text: str, free: float) -> float:
    """Share of the repetition points: 1 up to `free` repeated text, evenly down to 0 at all.

    An empty text earns 0.
    """
    if not text.strip():
        return 0.0
    return min(1.0, (1.0 - repeated_share(text)) / (1.0 - free))
