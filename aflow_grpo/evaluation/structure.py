r"""Noise and agreement of a score table, and the variance behind its scores.

Whether run r of workflow w on problem p is right is described by a latent normal:

    right  iff  problem_p + interaction_pw + noise_pwr > threshold_w,   the variances add up to 1

so that the correlation behind two repeats of one workflow is problem + interaction, and behind runs
of two workflows problem alone. Both are read off the share of problems on which both are right
(the tetrachoric correlation): no likelihood, no starting values. Real outcomes are more bimodal
than a normal, so this describes agreement, not the tails.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.evaluation.scores import ScoreTable

__all__ = [
    "Agreement",
    "LatentParts",
    "Noise",
    "agreement",
    "latent_parts",
    "noise",
    "tetrachoric",
]

_NORMAL = NormalDist()
_LEAST_SHARE = 0.02
"""Where nearly all is right or wrong, correlations are not told by the data."""
_HIGHEST = 0.999
_STEPS = 40
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


@dataclass(frozen=True)
class Noise:
    """How repeats of one workflow differ; medians over workflows."""

    deviation: float
    """Standard deviation of the mean score over repeats."""
    always_right: float
    """Share of problems on which every repeat is right."""
    always_wrong: float
    agreement: float
    """Chance that two repeats on one problem are both right or both wrong."""
    icc: float
    """Intraclass correlation of the scores (one-way)."""
    histogram: tuple[float, ...]
    """Share of (problem, workflow) cells with 0, 1, ... R right repeats."""


@dataclass(frozen=True)
class Agreement:
    """Two repeats of one workflow on one problem: medians over workflows."""

    agree: float
    """Chance of the same normalised answer."""
    right_if_agree: float
    right_if_differ: float
    right: float


@dataclass(frozen=True)
class LatentParts:
    """Shares of the latent variance; they add up to 1."""

    problem: float
    interaction: float
    residual: float
    between: Mapping[tuple[str, str], float]
    """Median correlation behind two workflows of these families."""


def noise(table: ScoreTable) -> Noise:
    """The noise of a table's workflows."""
    right = table.right_PWR
    repeats = right.shape[2]
    counts_PW = right.sum(2)
    pairs_PW = counts_PW * (counts_PW - 1) + (repeats - counts_PW) * (repeats - counts_PW - 1)
    return Noise(
        float(np.median(table.scores_PWR.mean(0).std(1, ddof=1))),
        float(np.median((counts_PW == repeats).mean(0))),
        float(np.median((counts_PW == 0).mean(0))),
        float(np.median(pairs_PW.mean(0) / (repeats * (repeats - 1)))),
        float(np.median([_icc(table.scores_PWR[:, w]) for w in range(right.shape[1])])),
        tuple(float((counts_PW == k).mean()) for k in range(repeats + 1)),
    )


def agreement(scores_PWR: NDArray[np.float64], forms_PWR: NDArray[np.int64]) -> Agreement:
    """What the agreement of two repeats tells: medians over workflows.

    Args:
        scores_PWR: Scores in [0, 1].
        forms_PWR: Equal numbers of one problem stand for the same answer.
    """
    repeats = scores_PWR.shape[2]
    pairs = [(i, j) for i in range(repeats) for j in range(i)]
    rows = []
    for w in range(scores_PWR.shape[1]):
        same = np.stack([forms_PWR[:, w, i] == forms_PWR[:, w, j] for i, j in pairs])
        mean = np.stack([scores_PWR[:, w, [i, j]].mean(1) for i, j in pairs])
        rows.append(
            (same.mean(), *(mean[part].mean() if part.any() else np.nan for part in (same, ~same)),
             mean.mean())
        )  # fmt: skip
    return Agreement(*(float(value) for value in np.nanmedian(rows, axis=0)))


def latent_parts(table: ScoreTable, families: Mapping[str, str]) -> LatentParts:
    """The variance components of a table, by the median over workflows and pairs of them.

    Args:
        table: At least two workflows and two repeats.
        families: Workflow -> what kind of method it is.
    """
    right = table.right_PWR
    repeats = right.shape[2]
    shares_PW = right.mean(2)
    means_W = shares_PW.mean(0)
    counts_PW = right.sum(2)
    both_W = (counts_PW * (counts_PW - 1)).mean(0) / (repeats * (repeats - 1))
    within = [tetrachoric(p, p, both) for p, both in zip(means_W, both_W, strict=True)]
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i, one in enumerate(table.workflows):
        for j, other in enumerate(table.workflows[:i]):
            both = float((shares_PW[:, i] * shares_PW[:, j]).mean())
            first, second = sorted((families[one], families[other]))
            pairs[first, second].append(tetrachoric(means_W[i], means_W[j], both))
    repeat = float(np.nanmedian(within))
    problem = float(np.nanmedian([value for values in pairs.values() for value in values]))
    between = {
        names: float(np.nanmedian(values))
        for names, values in sorted(pairs.items())
        if not np.isnan(values).all()
    }
    return LatentParts(problem, max(0.0, repeat - problem), 1 - max(repeat, problem), between)


def tetrachoric(first: float, second: float, both: float) -> float:
    """The correlation of two normals cut at thresholds.

    Args:
        first: Share above the first threshold.
        second: Share above the second.
        both: Share above both.

    Returns:
        In [-0.999, 0.999]; nan where a share is within 0.02 of 0 or 1.
    """
    if min(first, second) < _LEAST_SHARE or max(first, second) > 1 - _LEAST_SHARE:
        return math.nan
    a, b = _NORMAL.inv_cdf(first), _NORMAL.inv_cdf(second)
    low, high = -_HIGHEST, _HIGHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _both_above(a, b, middle) < both else (low, middle)
    return (low + high) / 2


def _both_above(a: float, b: float, rho: float) -> float:
    """P(X < a, Y < b) = P(X > -a, Y > -b) of correlated normals, by Plackett's identity."""
    top = math.asin(rho)
    theta = top * (_NODES + 1) / 2
    exponent = -(a * a + b * b - 2 * a * b * np.sin(theta)) / (2 * np.cos(theta) ** 2)
    integral = top / 2 * float((_WEIGHTS * np.exp(exponent)).sum()) / (2 * math.pi)
    return _NORMAL.cdf(a) * _NORMAL.cdf(b) + integral


def _icc(scores_PR: NDArray[np.float64]) -> float:
    repeats = scores_PR.shape[1]
    between = repeats * float(scores_PR.mean(1).var(ddof=1))
    within = float(scores_PR.var(1, ddof=1).mean())
    total = between + (repeats - 1) * within
    return (between - within) / total if total else math.nan
