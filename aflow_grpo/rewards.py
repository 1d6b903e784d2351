"""What a rollout is worth to the policy: five dimensions, one penalty, a total in [-10, 10].

Pure functions: problem + completion + execution + score + settings -> `RewardBreakdown`, from
stored records alone. The default preset `ordered` keeps one promise, whatever the other dimensions
say:

    right > wrong but ran > failed while running > forbidden operator > invalid or cut

because a policy that earns more for rubbish than for an honest attempt learns to write rubbish.
With v = the score in [0, 1], points of the dimensions are (weights 65/15/10/5/5 by default)

| dimension | points | range |
|---|---|---|
| correctness | weight x v | [0, 65] |
| efficiency | weight x v x `efficiency_share`: list cost against the one-call cost | [0, 15] |
| simplicity | weight x v x `simplicity_share`: operator calls | [0, 10] |
| format | weight x (parsed as it stands, in the form asked for, and valid) | {0, 5} |
| repetition | weight x `repetition_share`: the policy's own text | [0, 5] |

and total = points / 10 + penalty, clipped to [-10, 10]. The penalty is one of `wrong` x (1 - v),
`execution`, `constraint`, `validation` (+ partial credit). A partly right answer, 0 < v < 1, gets
at most ceiling(v) = highest_wrong + v x (lowest_right - highest_wrong): the total rises strictly
with v, without a jump below v = 1, and even its cheapest workflow stays under every right one.

Only the policy's own workflow earns: a fallback's answer is worth nothing here, and a rollout
that nobody is to blame for (`unavailable`) is 0 and masked anyway. Only what the policy wrote is
judged for form, never the executor's text; seconds, attempts, tiers, billed cost and messages are
in no dimension, since they measure the endpoint.

Not covered: whether an answer is right (`scoring`), and how rewards become advantages (`grpo`).
"""

from __future__ import annotations

import math
import re
from enum import Enum
from itertools import pairwise

from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Problem,
    RewardBreakdown,
    Score,
    Status,
)
from aflow_grpo.reward_settings import (
    ONE_CALL_COST_USD,
    POINTS,
    REWARD_LIMIT,
    RewardPenalties,
    RewardSchedule,
    RewardSettings,
    RewardWeights,
    Stage,
)
from aflow_grpo.structure import structure_measures
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = [
    "ONE_CALL_COST_USD",
    "REHEARSED",
    "REWARD_LIMIT",
    "Outcome",
    "RewardPenalties",
    "RewardSchedule",
    "RewardSettings",
    "RewardWeights",
    "Stage",
    "compute_reward",
    "efficiency_share",
    "is_rehearsed",
    "one_call_cost",
    "outcome_of",
    "repeated_share",
    "repetition_share",
    "simplicity_share",
]

REHEARSED = Score(0.0, correct=False, detail="not scored: ran on stub operators (stage structure)")
"""The score of every rollout of the stage `structure`; by its detail a stored one is known."""

EFFICIENCY_BANDS: tuple[tuple[float, float], ...] = (
    (1.0, 1.0),
    (2.0, 0.8),
    (5.0, 0.5),
    (10.0, 0.25),
    (20.0, 0.0),
)
"""(cost / one-call cost, share of the efficiency points), interpolated on a log scale."""

_RIGHT_FROM = 1.0 - 1e-9
"""Scores from here on are right: AFlow's F1 is a quotient of floats."""
_BLIND_KINDS = frozenset({FaultKind.NO_WORKFLOW, FaultKind.SYNTAX_ERROR, FaultKind.BAD_STRUCTURE})
"""Findings that hide all others: no partial credit, or writing nothing would look nearly right."""
_NGRAM = 8
"""Words and signs in a row that count as one repeated piece of text."""
_TOKEN = re.compile(r"\w{1,16}|[^\w\s]")
"""A word (a long one in pieces, so that a flood of one letter repeats) or a sign."""


class Outcome(Enum):
    """What a rollout came to, best first; the value is the penalty that it incurs."""

    RIGHT = "none"
    WRONG = "wrong"
    """It ran; the answer is wrong, or only partly right."""
    FAILED = "execution"
    FORBIDDEN = "constraint"
    INVALID = "validation"


def is_rehearsed(score: Score) -> bool:
    """Whether a stored rollout ran on stub operators, so that nothing about its answer is known."""
    return score.detail == REHEARSED.detail


def compute_reward(
    problem: Problem,
    completion: Completion,
    execution: Execution,
    score: Score,
    settings: RewardSettings,
    *,
    stage: Stage | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> RewardBreakdown:
    """The reward of one rollout.

    Args:
        problem: Its dataset and domain select the one-call cost.
        completion: The policy's own text, judged for repetition.
        execution: What happened when the workflow ran, with its list cost.
        score: Of the policy's own workflow's answer; ignored unless that workflow ran. Its value
            decides, whatever `correct` says; a value that is no number counts as 0.
        settings: Weights, penalties and preset. Their `stage` says how training runs workflows;
            a stored rollout is paid for what it was run for.
        stage: What to pay for; None: `structure` for a rollout that ran on stub operators (its
            score is `REHEARSED`), `full` for all others.
        operators: The operators that exist (stage `structure` only).

    Returns:
        Points in [0, weight] per dimension, the penalty (at most 0, on the total's scale) and the
        total in [-10, 10]; all zeros for `unavailable`. In stage `structure` the five dimensions
        are 0, since none of them is paid.
    """
    if execution.status is Status.UNAVAILABLE:
        return RewardBreakdown(0.0, 0.0, 0.0, 0.0, 0.0, penalty=0.0, total=0.0)
    if (stage or ("structure" if is_rehearsed(score) else "full")) == "structure":
        return _structure_reward(problem, completion, execution, settings, operators)
    outcome, value = outcome_of(execution, score), _value(score)
    shares = _shares(problem, completion, execution, outcome, value, settings)
    weights = settings.effective_weights
    parts = {name: share * getattr(weights, name) for name, share in shares.items()}
    penalty = _penalty(outcome, value, execution, settings.effective_penalties)
    total = _total(outcome, sum(parts.values()), penalty, settings)
    if settings.is_ordered and outcome is Outcome.WRONG and value > 0:
        total = min(total, _ceiling(value, settings))
    return RewardBreakdown(**parts, penalty=penalty, total=total)


def outcome_of(execution: Execution, score: Score) -> Outcome:
    """What a rollout came to; not asked of one that is `unavailable`."""
    if execution.status is Status.OK:
        return Outcome.RIGHT if _value(score) == 1.0 else Outcome.WRONG
    if execution.status in (Status.ERROR, Status.TIMEOUT):
        return Outcome.FAILED
    only_forbidden = _kinds(execution) == {FaultKind.FORBIDDEN_OPERATOR}
    if execution.status is Status.INVALID and only_forbidden:
        return Outcome.FORBIDDEN
    return Outcome.INVALID


def _value(score: Score) -> float:
    """The score in [0, 1], with 1 for right."""
    if not math.isfinite(score.value):
        return 0.0
    return 1.0 if score.value >= _RIGHT_FROM else max(0.0, float(score.value))


def _kinds(execution: Execution) -> set[FaultKind]:
    """Every kind of flaw that was found in the policy's text."""
    kinds = {finding.kind for finding in execution.findings if finding.severity == "reject"}
    return kinds | {execution.fault_kind} if execution.fault_kind is not None else kinds


def _shares(
    problem: Problem,
    completion: Completion,
    execution: Execution,
    outcome: Outcome,
    value: float,
    settings: RewardSettings,
) -> dict[str, float]:
    """Each dimension's share of its weight, in [0, 1]."""
    ran = outcome in (Outcome.RIGHT, Outcome.WRONG)
    right = value if ran else 0.0
    gate = right if settings.gated else float(ran)
    return {
        "correctness": right,
        "efficiency": gate * efficiency_share(execution, one_call_cost(problem, settings)),
        "simplicity": gate * simplicity_share(len(execution.calls), settings.simplicity_zero_at),
        "format": float(_well_formed(execution, settings)),
        "repetition": repetition_share(completion.text, settings.repetition_free),
    }


def _penalty(
    outcome: Outcome, value: float, execution: Execution, penalties: RewardPenalties
) -> float:
    match outcome:
        case Outcome.RIGHT:
            return 0.0
        case Outcome.WRONG:
            return penalties.wrong * (1.0 - value)
        case Outcome.FAILED:
            return penalties.execution
        case Outcome.FORBIDDEN:
            return penalties.constraint
        case Outcome.INVALID:
            penalty = penalties.validation + penalties.partial_credit * _partial_share(execution)
            forbidden = FaultKind.FORBIDDEN_OPERATOR in _kinds(execution)
            return min(penalty, penalties.constraint) if forbidden else penalty


def _partial_share(execution: Execution) -> float:
    """How near an invalid workflow is to a valid one: 1 with one kind of flaw, 0 with five."""
    kinds = _kinds(execution)
    if execution.status is Status.CUT or not kinds or kinds & _BLIND_KINDS:
        return 0.0
    return max(0.0, 1.0 - (len(kinds) - 1) / 4)


def _total(outcome: Outcome, points: float, penalty: float, settings: RewardSettings) -> float:
    if settings.preset == "literal":
        ran = outcome in (Outcome.RIGHT, Outcome.WRONG)
        scaled = points * 2 * REWARD_LIMIT / POINTS - REWARD_LIMIT
        return _clipped(scaled + penalty if ran else penalty)
    return _clipped(points * REWARD_LIMIT / POINTS + penalty)


def _clipped(total: float) -> float:
    return max(-REWARD_LIMIT, min(REWARD_LIMIT, total))


def _ceiling(value: float, settings: RewardSettings) -> float:
    """The most that a partly right answer can get: from a wrong one's best to a right one's least.

    ``ceiling(0) = highest_wrong``, which never binds, and ``ceiling(1) = lowest_right``.
    """
    bounds = settings.bounds
    return bounds.highest_wrong + value * (bounds.lowest_right - bounds.highest_wrong)


def _structure_reward(
    problem: Problem,
    completion: Completion,
    execution: Execution,
    settings: RewardSettings,
    operators: OperatorSet,
) -> RewardBreakdown:
    """Stage `structure`, with q = the mean of the four measures, in [0, 1].

    A workflow that ran gets 10 q, in [0, 10]; any other its penalty + q x (repetition weight / 10),
    so that the order of failed, forbidden and invalid is that of the full reward.
    """
    quality = structure_measures(completion, execution, problem.domain, operators).mean
    outcome = outcome_of(execution, REHEARSED)
    if outcome is Outcome.WRONG:  # ran: nobody has looked at its answer
        penalty, earned = 0.0, REWARD_LIMIT * quality
    else:
        penalty = _penalty(outcome, 0.0, execution, settings.effective_penalties)
        earned = quality * settings.effective_weights.repetition * REWARD_LIMIT / POINTS
    return RewardBreakdown(0.0, 0.0, 0.0, 0.0, 0.0, penalty, total=_clipped(penalty + earned))


def one_call_cost(problem: Problem, settings: RewardSettings) -> float:
    """List cost in USD of answering `problem` with one executor call, by the config's table."""
    table = {**ONE_CALL_COST_USD, **settings.io_cost_usd}
    for key in (f"{problem.dataset}/{problem.domain}", problem.dataset):
        if key in table:
            return table[key]
    return table["default"]


def efficiency_share(execution: Execution, one_call_usd: float) -> float:
    """Share of the efficiency points: 1 up to the cost of one call, falling to 0 at 20 times.

    At 2, 5 and 10 times it is 0.8, 0.5 and 0.25 (`EFFICIENCY_BANDS`), between them linear in the
    logarithm of the cost. Executor calls without a cost are unpriced, not cheap: they earn 0, as
    does a cost that is negative or no number. A workflow that made no executor call at all is as
    good as one call, never better.
    """
    usage = execution.usage
    if not (usage.calls or usage.prompt_tokens or usage.completion_tokens or usage.cost_usd):
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
