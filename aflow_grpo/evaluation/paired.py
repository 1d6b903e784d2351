"""Is one run better than another? Differences of means over problems, with interval and p-value.

A problem is the unit: repeats of one are averaged first, since they share its difficulty. Runs
that were judged on the same problems are paired by problem, which takes that difficulty out of the
difference. The interval is the bootstrap's percentile interval, widened for few problems: its
percentiles are those that make it as wide as Student's t where the data are normal (the "expanded
percentile" interval of Hesterberg 2015, "What Teachers Should Know About the Bootstrap"). The
p-value is the permutation test's: in pairs every difference's sign is drawn anew, else problems
change sides. It is exact where all arrangements can be counted, and unlike the interval it does not
vanish where all problems agree.

Holm's correction says which of several differences still count together. Not here: intervals of
one run's figures (`aflow_grpo.intervals`), where the values come from (`workbench.comparing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Difference", "difference_of_means", "holm"]

DRAWS = 10_000
"""Resamples, and permutations where they are too many to count."""
_EXACT_UP_TO = 13
"""So many pairs have 8,192 sign patterns, fewer than the draws."""
_CELLS = 2_000_000
"""Of one matrix of resamples: 16 MB."""
_TIES = 1e-9
"""Sums that differ by less are the same figure, added in another order."""


@dataclass(frozen=True)
class Difference:
    """The mean of `other` minus the mean of `first`, over problems."""

    first: float
    """Mean of the first run, over the problems that were used."""
    other: float
    value: float
    low: float
    """Of the 95 % interval."""
    high: float
    p: float
    """Two-sided, of no difference; 1 where there are fewer than two problems."""
    problems: int
    """Pairs; where not paired, the smaller of both numbers."""
    paired: bool
    spread: bool
    """False when the difference is the same on every problem: the interval then has no width, and
    says nothing about other problems."""


def difference_of_means(
    first: Mapping[str, float], other: Mapping[str, float], *, level: float = 0.95, seed: int = 0
) -> Difference | None:
    """How `other` differs from `first`; None where one of them has no problem.

    Args:
        first: Problem -> mean of its repeats, in the first run.
        other: The same of the other run. Paired over the problems that both have, where these are
            at least half of the smaller set; otherwise all problems of both count, unpaired.
        level: Of the interval.
        seed: Of the resampling; the same seed gives the same figures.
    """
    if not first or not other:
        return None
    shared = [problem for problem in first if problem in other]
    rng = np.random.default_rng(seed)
    if 2 * len(shared) >= min(len(first), len(other)):
        first_P = np.array([first[problem] for problem in shared], dtype=np.float64)
        other_P = np.array([other[problem] for problem in shared], dtype=np.float64)
        return _paired(first_P, other_P, level, rng)
    first_P = np.array(list(first.values()), dtype=np.float64)
    other_P = np.array(list(other.values()), dtype=np.float64)
    return _unpaired(first_P, other_P, level, rng)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: all below 0.05 hold together at 5 %."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


def _paired(
    first_P: NDArray[np.float64],
    other_P: NDArray[np.float64],
    level: float,
    rng: np.random.Generator,
) -> Difference:
    difference_P = other_P - first_P
    n = len(difference_P)
    means = _resampled_means(difference_P, rng)
    low, high = _interval(means, n, level)
    means_of_both = float(first_P.mean()), float(other_P.mean())
    spread = bool(np.ptp(difference_P) > _TIES)
    value = float(difference_P.mean())
    if not spread:
        low = high = value
    p = _sign_flip_p(difference_P, rng)
    return Difference(*means_of_both, value, low, high, p, n, True, spread)


def _unpaired(
    first_P: NDArray[np.float64],
    other_P: NDArray[np.float64],
    level: float,
    rng: np.random.Generator,
) -> Difference:
    n = min(len(first_P), len(other_P))
    means = _resampled_means(other_P, rng) - _resampled_means(first_P, rng)
    low, high = _interval(means, n, level)
    value = float(other_P.mean() - first_P.mean())
    spread = bool(max(np.ptp(first_P), np.ptp(other_P)) > _TIES)
    if not spread:
        low = high = value
    p = _change_sides_p(first_P, other_P, rng)
    both = float(first_P.mean()), float(other_P.mean())
    return Difference(*both, value, low, high, p, n, False, spread)


def _interval(means: NDArray[np.float64], n: int, level: float) -> tuple[float, float]:
    """Percentiles of resampled means, so far out that few problems are no excuse."""
    if n < 2:
        return float("-inf"), float("inf")
    wider = np.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1)
    tail = float(stats.norm.cdf(-wider))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_means(
    values_P: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """`DRAWS` means of as many values, drawn with replacement."""
    n = len(values_P)
    chunk = max(1, _CELLS // n)
    parts = []
    for start in range(0, DRAWS, chunk):
        rows = rng.integers(0, n, (min(chunk, DRAWS - start), n))
        parts.append(values_P[rows].mean(axis=1))
    return np.concatenate(parts)


def _sign_flip_p(difference_P: NDArray[np.float64], rng: np.random.Generator) -> float:
    """How often a sum as far from 0 comes up when every sign is a coin's; exact for few pairs."""
    moved = difference_P[np.abs(difference_P) > _TIES]  # a 0 is the same with either sign
    n = len(moved)
    if n == 0:
        return 1.0
    reached = abs(float(moved.sum())) - _TIES * n
    if n <= _EXACT_UP_TO:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ moved) >= reached))
    chunk = max(1, _CELLS // n)
    extreme = 0
    for start in range(0, DRAWS, chunk):
        signs = 2 * rng.integers(0, 2, (min(chunk, DRAWS - start), n)) - 1
        extreme += int(np.sum(np.abs(signs @ moved) >= reached))
    return (extreme + 1) / (DRAWS + 1)


def _change_sides_p(
    first_P: NDArray[np.float64], other_P: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """How often a difference as far from 0 comes up when problems are dealt to the runs anew."""
    pooled = np.concatenate([first_P, other_P])
    n = len(first_P)
    if len(pooled) < 3:
        return 1.0
    reached = abs(float(other_P.mean() - first_P.mean())) - _TIES
    extreme = 0
    chunk = max(1, _CELLS // len(pooled))
    for start in range(0, DRAWS, chunk):
        dealt = rng.permuted(
            np.broadcast_to(pooled, (min(chunk, DRAWS - start), len(pooled))), axis=1
        )
        difference = dealt[:, n:].mean(axis=1) - dealt[:, :n].mean(axis=1)
        extreme += int(np.sum(np.abs(difference) >= reached))
    return (extreme + 1) / (DRAWS + 1)
