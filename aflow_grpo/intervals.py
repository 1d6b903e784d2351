"""95 % intervals of rates and means over problems: what a figure of n problems is worth.

The unit is the problem. The samples of one problem resemble each other, so that 5 workflows for
each of 100 problems say less than 500 problems would; taking them for independent makes intervals
too narrow. An interval tells how far a figure may be off because other problems could have been
drawn. What differs between two runs on the same problems, and between seeds, is not in here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

__all__ = ["Interval", "mean_interval", "rate_interval", "wilson_interval"]

Interval = tuple[float, float]
"""Lower and upper end."""
_Z = NormalDist().inv_cdf(0.975)
_RESAMPLES = 4000
_AT_ONCE = 1 << 20
"""Most drawn problems in memory."""


def wilson_interval(hits: float, n: float) -> Interval:
    """The Wilson score interval of a share (E. B. Wilson, 1927); (0, 1) without data.

    Worked numbers: 5 of 10 give (0.2366, 0.7634); 0 of 10 give (0, 0.2775).

    Args:
        hits: How many of the `n`; neither has to be whole.
        n: Independent trials.
    """
    if n == 0:
        return 0.0, 1.0
    share, square = hits / n, _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate_interval(hits_P: Sequence[float], counts_P: Sequence[int]) -> Interval:
    """The interval of ``sum(hits) / sum(counts)``, with several samples per problem.

    Wilson's for as many independent trials as the samples are worth: their number divided by the
    design effect, which of few problems is itself uncertain (Student's t in place of the normal
    quantile), at least one per problem (Korn and Graubard, 1998; Franco et al., 2019). With one
    sample per problem it is Wilson's, and it has a width where every sample is right, which a
    bootstrap has not.

    Args:
        hits_P: For each problem, how many of its samples have what is counted.
        counts_P: Its samples, at least one.
    """
    problems, samples = len(counts_P), sum(counts_P)
    if samples == 0:
        return 0.0, 1.0
    share = sum(hits_P) / samples
    worth: float = problems
    if problems > 1 and 0 < share < 1:
        squares = sum((h - share * n) ** 2 for h, n in zip(hits_P, counts_P, strict=True))
        variance = problems / (problems - 1) * squares / samples**2
        effective = share * (1 - share) / variance if variance else math.inf
        effective *= (_Z / _student(problems - 1)) ** 2
        worth = min(max(effective, problems), samples)
    return wilson_interval(share * worth, worth)


def mean_interval(sums_P: Sequence[float], counts_P: Sequence[int], seed: int = 0) -> Interval:
    """The expanded percentile bootstrap interval of ``sum(sums) / sum(counts)``.

    Problems are drawn with replacement, each with all of its samples (Efron, 1979). The percentiles
    are those of Student's t and of the variance's n - 1 (Hesterberg, 2015): plain ones are too
    narrow where there are few problems. Below about 8 they still are, and one problem has no width;
    `problems` is reported beside them. The same arguments give the same numbers.

    Args:
        sums_P: For each problem, the sum over its samples.
        counts_P: Its samples, at least one.
        seed: Of the draws.

    Raises:
        ValueError: There is no problem.
    """
    import numpy as np  # here, not above: verbs that count nothing should not wait for it

    problems = len(counts_P)
    if problems == 0:
        raise ValueError("an interval needs a problem, got none")
    totals, counts = np.asarray(sums_P, dtype=np.float64), np.asarray(counts_P, dtype=np.float64)
    random = np.random.default_rng(seed)
    means = []
    left = _RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // problems))
        drawn = random.integers(problems, size=(rows, problems))
        means.append(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
        left -= rows
    tail = 0.025
    if problems > 1:
        wider = math.sqrt(problems / (problems - 1)) * _student(problems - 1)
        tail = NormalDist().cdf(-wider)
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # here, not above: as numpy

    return float(stdtrit(degrees, 0.975))
