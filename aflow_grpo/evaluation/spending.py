"""What reward costs: curves of held-out reward against USD, and when one way to it pays off.

A curve is a step function: from a point's USD on, the policy or workflow that had been found by
then is what one would use. Not here: how the points are made (`search`, `workbench.experiments`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

from aflow_grpo.intervals import Interval

__all__ = [
    "BreakEven",
    "Point",
    "break_even",
    "geometric_mean",
    "mean_and_interval",
    "mean_curve",
    "point_at",
]


@dataclass(frozen=True)
class Point:
    """What had been found when so much had been spent, judged on held-out problems."""

    spent_usd: float
    reward: float
    """Mean over the problems, in [-10, 10]."""
    accuracy: float
    """Share of the problems that were answered right."""
    problem_usd: float
    """Mean list cost of answering one problem."""


def point_at(points: Sequence[Point], reward: float) -> Point | None:
    """The first point from which on the held-out reward is never below `reward`; None: no point is.

    A curve that touches the reward by luck and falls back has not reached it.

    Args:
        points: In the order in which the money was spent.
        reward: Wanted.
    """
    found = None
    for point in reversed(points):
        if point.reward < reward:
            break
        found = point
    return found


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean of several repetitions' curves, at every USD at which one of them changes.

    It begins where all of them have a point.

    Args:
        curves: At least one, none empty; the points of each in the order of their USD.
    """
    begin = max(curve[0].spent_usd for curve in curves)
    steps = sorted({p.spent_usd for curve in curves for p in curve if p.spent_usd >= begin})
    mean = []
    for usd in steps:
        there = [[p for p in curve if p.spent_usd <= usd][-1] for curve in curves]
        mean.append(
            Point(
                usd,
                fmean(p.reward for p in there),
                fmean(p.accuracy for p in there),
                fmean(p.problem_usd for p in there),
            )
        )
    return mean


@dataclass(frozen=True)
class BreakEven:
    """For how many future problems a first way is at most as expensive as a second one."""

    first: int | None
    """From so many problems on; None: for no number."""
    last: int | None = None
    """Up to so many; None: for all above `first`."""

    def __str__(self) -> str:
        if self.first is None:
            return "never"
        if self.last is not None:
            return f"up to {self.last:,}"
        return "from the start" if self.first == 0 else f"from {self.first:,}"


def break_even(first: Point, second: Point) -> BreakEven:
    """For which N ``spent + N x cost per problem`` of `first` is at most that of `second`.

    Worked numbers: 1 USD and .0001 a problem against .4 USD and .0003 break even at 3,000.
    """
    ahead = first.spent_usd - second.spent_usd
    saved = second.problem_usd - first.problem_usd
    if ahead <= 0:
        return BreakEven(0) if saved >= 0 else BreakEven(0, math.floor(ahead / saved + 1e-9))
    if saved <= 0:
        return BreakEven(None)
    return BreakEven(math.ceil(ahead / saved - 1e-9))


def mean_and_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """The mean of independent repetitions with Student's 95 % interval; infinite for one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, (-math.inf, math.inf)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, (mean - half, mean + half)


def geometric_mean(ratios: Sequence[float]) -> tuple[float, Interval]:
    """The geometric mean of ratios above 0, with Student's interval of their logarithms."""
    mean, (low, high) = mean_and_interval([math.log(ratio) for ratio in ratios])
    return math.exp(mean), (math.exp(low), math.exp(high) if high < math.inf else math.inf)
