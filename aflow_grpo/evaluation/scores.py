"""The scores of some workflows on some problems, each run several times.

Recorded and simulated runs take this form, so that every figure about them comes from the same
code. Not here: where the scores come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figure", "ScoreTable", "bootstrap", "spread_by_weight", "tilt_to"]

_RIGHT = 0.5
"""A score of F1 from here on counts as right; other scorers give 0 or 1."""


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class ScoreTable:
    """Axes: `P` problems, `W` workflows, `R` repeats."""

    dataset: str
    problems: tuple[str, ...]
    """Problem ids."""
    workflows: tuple[str, ...]
    """Names, unique."""
    scores_PWR: NDArray[np.float64]
    """In [0, 1]."""
    usd_W: NDArray[np.float64]
    """Mean cost of one execution, in USD."""

    def __post_init__(self) -> None:
        expected = (len(self.problems), len(self.workflows))
        if self.scores_PWR.ndim != 3 or self.scores_PWR.shape[:2] != expected:
            raise ValueError(f"scores_PWR: shape {self.scores_PWR.shape}; expected {expected} + R")
        if self.usd_W.shape != (len(self.workflows),):
            raise ValueError(f"usd_W: shape {self.usd_W.shape}; expected one per workflow")

    @property
    def right_PWR(self) -> NDArray[np.bool_]:
        """Whether each run was right: a score of at least one half."""
        return self.scores_PWR >= _RIGHT

    @property
    def means_W(self) -> NDArray[np.float64]:
        """Each workflow's mean score."""
        means: NDArray[np.float64] = self.scores_PWR.mean((0, 2))
        return means

    def of(self, workflow: str) -> NDArray[np.float64]:
        """One workflow's scores, (P, R).

        Raises:
            KeyError: There is none of that name.
        """
        if workflow not in self.workflows:
            raise KeyError(f"{self.dataset}: no workflow {workflow!r} in {self.workflows}")
        return self.scores_PWR[:, self.workflows.index(workflow)]

    def mean(self, workflow: str) -> float:
        """One workflow's mean score."""
        return float(self.of(workflow).mean())

    def usd(self, workflow: str) -> float:
        """What one execution of a workflow costs on average, in USD."""
        return float(self.usd_W[self.workflows.index(workflow)])

    def take(self, problems: NDArray[np.intp]) -> ScoreTable:
        """The problems at these positions; one may come several times."""
        return ScoreTable(
            self.dataset,
            tuple(self.problems[p] for p in problems),
            self.workflows,
            self.scores_PWR[problems],
            self.usd_W,
        )

    def within(self, best_by: float) -> ScoreTable:
        """The workflows whose mean is at most `best_by` below the best one's."""
        means = self.means_W
        return self.select([i for i, mean in enumerate(means) if mean >= means.max() - best_by])

    def select(self, workflows: Sequence[int]) -> ScoreTable:
        """The workflows at these positions."""
        kept = list(workflows)
        return ScoreTable(
            self.dataset,
            self.problems,
            tuple(self.workflows[i] for i in kept),
            self.scores_PWR[:, kept],
            self.usd_W[kept],
        )


def spread_by_weight(weights_P: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """Positions drawn in proportion to weights, evenly (systematic resampling, no chance in it).

    Args:
        weights_P: Not negative, not all 0.
        size: How many positions.
    """
    ends = np.cumsum(weights_P) / weights_P.sum()
    places = (np.arange(size) + 0.5) / size
    return np.minimum(np.searchsorted(ends, places), len(weights_P) - 1)


def tilt_to(
    abilities_P: NDArray[np.float64], anchors_P: NDArray[np.float64], wanted: float
) -> NDArray[np.intp]:
    """Positions of problems such that the mean of `anchors_P` is `wanted`.

    Problems are drawn with weights exp(t * ability): a harder or easier selection of the same
    problems, and the one closest to the given sample.

    Args:
        abilities_P: How well a problem is solved on average, in [0, 1].
        anchors_P: What is to have the mean `wanted`.
        wanted: In (0, 1).
    """
    low, high = -30.0, 30.0
    rows = np.arange(len(abilities_P))
    for _ in range(40):
        tilt = (low + high) / 2
        rows = spread_by_weight(np.exp(tilt * (abilities_P - 0.5)), len(abilities_P))
        low, high = (tilt, high) if anchors_P[rows].mean() < wanted else (low, tilt)
    return rows


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], n: int, *, draws: int = 400, seed: int = 0
) -> Figure:
    """A statistic of problems with its percentile interval.

    Args:
        statistic: Of the positions of the problems that are in; nan where it is undefined.
        n: Number of problems.
        draws: Resamples.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, n, n)) for _ in range(draws)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Figure(statistic(np.arange(n)), float(low), float(high))
