"""What choosing a workflow per problem is worth, without the luck of choosing.

Choosing and scoring on the same runs pays for luck: the maximum over twenty noisy workflows beats
the best one even when all are equal. Here one half of each cell's repeats chooses and the other
half scores, over many random splits. What is left is an oracle that has seen outcomes on the same
problem: still more than a text can tell, but no luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.evaluation.scores import ScoreTable

__all__ = ["Headroom", "headroom"]

_TOP = 3
_EQUAL = 1e-9


@dataclass(frozen=True)
class Headroom:
    """Means over the random splits."""

    best_mean: float
    """Mean score of the best single workflow, chosen and scored on all repeats."""
    best: float
    """Of the workflow with the best mean on the choosing half, scored on the other half."""
    best_usd: float
    """What that workflow costs per problem, in USD."""
    gain_top3: float
    """Of choosing, per problem, among the three best of the choosing half, over `best`."""
    gain_all: float
    """Of choosing among all."""
    thrifty: float
    """Score of taking, per problem, the cheapest that does as well as the best single one."""
    thrifty_usd: float
    """What that choice costs per problem, in USD."""

    @property
    def saved(self) -> float:
        """Share of the best single workflow's cost that the thrifty choice saves."""
        return 1 - self.thrifty_usd / self.best_usd if self.best_usd else 0.0


def headroom(table: ScoreTable, *, splits: int = 100, seed: int = 0) -> Headroom:
    """The headroom of a table.

    Every (problem, workflow) cell is split by its own permutation; half of the repeats, rounded
    down, choose. Among equals a choice stays with the best single workflow if that is one of them,
    and is random otherwise; the thrifty choice takes the cheapest.

    Args:
        table: At least two repeats.
        splits: Random splits to average over.
        seed: Of the splits.

    Raises:
        ValueError: Fewer than two repeats.
    """
    repeats = table.scores_PWR.shape[2]
    if repeats < 2:
        raise ValueError("headroom needs two repeats at least: one to choose by, one to score by")
    rng = np.random.default_rng(seed)
    rounds = np.array([_one_split(table, rng) for _ in range(splits)])
    return Headroom(float(table.means_W.max()), *(float(value) for value in rounds.mean(0)))


def _one_split(table: ScoreTable, rng: np.random.Generator) -> tuple[float, ...]:
    """best, best_usd, gain_top3, gain_all, thrifty, thrifty_usd of one split."""
    shape = table.scores_PWR.shape
    order = np.argsort(rng.random(shape), axis=2)
    shuffled_PWR = np.take_along_axis(table.scores_PWR, order, axis=2)
    half = shape[2] // 2
    choosing_PW = shuffled_PWR[:, :, :half].mean(2)
    scoring_PW = shuffled_PWR[:, :, half:].mean(2)
    ranking_W = np.argsort(-choosing_PW.mean(0), kind="stable")
    best = ranking_W[0]
    base = scoring_PW[:, best].mean()
    top = ranking_W[:_TOP]
    as_good_PW = choosing_PW >= choosing_PW[:, [best]] - _EQUAL
    thrifty_P = np.argmin(np.where(as_good_PW, table.usd_W, np.inf), axis=1)
    return (
        float(base),
        float(table.usd_W[best]),
        float(_chosen(choosing_PW[:, top], scoring_PW[:, top], rng) - base),
        float(_chosen(choosing_PW[:, ranking_W], scoring_PW[:, ranking_W], rng) - base),
        float(np.take_along_axis(scoring_PW, thrifty_P[:, None], axis=1).mean()),
        float(table.usd_W[thrifty_P].mean()),
    )


def _chosen(
    choosing_PW: NDArray[np.float64], scoring_PW: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """Mean score of the per-problem choice; the first column is the best single workflow."""
    tied_PW = choosing_PW >= choosing_PW.max(1, keepdims=True) - _EQUAL
    drawn_P = np.argmax(tied_PW * rng.random(tied_PW.shape), axis=1)
    choice_P = np.where(tied_PW[:, 0], 0, drawn_P)
    return float(np.take_along_axis(scoring_PW, choice_P[:, None], axis=1).mean())
