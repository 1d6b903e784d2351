"""Means and differences over repetitions and problems, with both sources of chance.

A figure of a trained policy varies with the seed that trained it and with the problems that it is
judged on. The bootstrap here draws both: repetitions with replacement, and within each drawn one
its problems with replacement, each with all of its samples (a two-level, nested bootstrap; Davison
and Hinkley, 1997, section 3.8). Differences are taken problem by problem within a repetition, so
that both sides meet the same problems. With one repetition the interval says nothing about other
seeds. With k of them, resampling gives (k - 1) / k of their variance, and their means already hold
the chance of their problems; both are corrected for. Below about five the interval is a rough one,
rather too narrow.

Not here: what is averaged (`workbench.experiments`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CrossedFigure", "crossed_difference", "crossed_mean", "crossed_ratio"]

Cells = Mapping[int, Mapping[str, float]]
"""Repetition -> problem -> mean over the samples of that problem."""
DRAWS = 2000
_TAIL = (2.5, 97.5)


@dataclass(frozen=True)
class CrossedFigure:
    """An estimate with its 95 % interval over repetitions and problems."""

    value: float
    low: float
    high: float
    repetitions: int
    problems: int
    """Over all repetitions."""
    by_repetition: tuple[float, ...]
    """The figure of each repetition, in their order."""

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def crossed_mean(cells: Cells, *, draws: int = DRAWS, seed: int = 0) -> CrossedFigure:
    """The mean over repetitions of the mean over problems.

    Args:
        cells: At least one repetition, each with at least one problem.
        draws: Resamples.
        seed: Of the resampling.

    Raises:
        ValueError: There is nothing to average.
    """
    values = [np.array(list(problems.values()), dtype=np.float64) for problems in cells.values()]
    if not values or not all(len(each) for each in values):
        raise ValueError("a mean over repetitions and problems needs at least one of each")
    return _figure(values, draws, seed)


def crossed_difference(
    first: Cells, other: Cells, *, draws: int = DRAWS, seed: int = 0
) -> CrossedFigure:
    """The mean of `other` minus `first`, paired by repetition and problem.

    Raises:
        ValueError: They share no problem in any repetition.
    """
    paired = {
        repetition: {
            problem: other[repetition][problem] - value
            for problem, value in problems.items()
            if problem in other[repetition]
        }
        for repetition, problems in first.items()
        if repetition in other
    }
    return crossed_mean({r: p for r, p in paired.items() if p}, draws=draws, seed=seed)


def crossed_ratio(
    first: Cells, other: Cells, *, draws: int = DRAWS, seed: int = 0
) -> CrossedFigure:
    """The mean of `other` divided by the mean of `first`, paired by repetition and problem.

    The interval is that of the logarithm of each repetition's ratio, linearised over its problems.

    Raises:
        ValueError: They share no problem in any repetition, or a mean is not above 0.
    """
    logs: dict[int, dict[str, float]] = {}
    for repetition, problems in first.items():
        shared = [p for p in problems if p in other.get(repetition, {})]
        if not shared:
            continue
        below = np.array([problems[p] for p in shared])
        above = np.array([other[repetition][p] for p in shared])
        if below.mean() <= 0 or above.mean() <= 0:
            raise ValueError(f"repetition {repetition}: a ratio needs means above 0")
        spread = above / above.mean() - below / below.mean()
        values = math.log(above.mean() / below.mean()) + spread
        logs[repetition] = dict(zip(shared, values.tolist(), strict=True))
    figure = crossed_mean(logs, draws=draws, seed=seed)
    return CrossedFigure(
        math.exp(figure.value),
        math.exp(figure.low),
        math.exp(figure.high),
        figure.repetitions,
        figure.problems,
        tuple(math.exp(value) for value in figure.by_repetition),
    )


def _figure(values: Sequence[NDArray[np.float64]], draws: int, seed: int) -> CrossedFigure:
    rng = np.random.default_rng(seed)
    means = np.array([each.mean() for each in values])
    value, count = float(means.mean()), len(values)
    # Each repetition's mean, resampled over its problems, around its own mean.
    noise = np.stack(
        [each[rng.integers(0, len(each), (draws, len(each)))].mean(1) - each.mean()
         for each in values]
    )  # fmt: skip
    if count == 1:
        drawn = value + noise[0]
    else:
        # The means' own spread holds that of their problems, which is drawn apart.
        total = means.var(ddof=1)
        within = np.mean([each.var(ddof=1) / len(each) if len(each) > 1 else 0 for each in values])
        between = max(0.0, total - within) / total if total > 0 else 0.0
        spread = (means - value) * math.sqrt(between * count / (count - 1))
        picks = rng.integers(0, count, (draws, count))
        drawn = value + (spread[picks] + noise[picks, np.arange(draws)[:, None]]).mean(1)
    low, high = np.percentile(drawn, _TAIL)
    problems = sum(map(len, values))
    return CrossedFigure(value, float(low), float(high), count, problems, tuple(means.tolist()))
