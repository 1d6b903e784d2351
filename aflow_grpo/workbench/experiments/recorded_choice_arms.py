"""Who chooses the workflow of a recorded problem: single workflows, mixes, models, the oracle.

An arm is a probability per (problem, workflow), made for each problem while its outcomes were held
out; what an arm may read are the training problems of the fold, their texts and their outcomes, and
the texts and costs of the held-out ones. Only the oracle sees held-out outcomes. Models come as
candidates (settings x steps), and the inner folds say which one chooses for an outer fold. Not
here: how the policy is trained (`recorded_policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.seeds import derive_seed
from aflow_grpo.workbench.experiments.recorded_choice_data import SURFACE, ChoiceWorld, Fit

__all__ = [
    "Candidate",
    "Chosen",
    "cost_matched",
    "greedy",
    "nested_choice",
    "oracle",
    "ridge_candidates",
    "single_arms",
    "visible",
]

Floats = NDArray[np.float64]
_EQUAL = 1e-9
_TOP = 3


@dataclass(frozen=True)
class Candidate:
    """One way to choose, fitted for every fold."""

    label: str
    dimensions: int
    """Of the words; 0: it reads no text at all."""
    utilities_KPW: Floats
    """Each fit's log-probabilities or predictions for all problems."""


@dataclass(frozen=True)
class Chosen:
    """What the inner folds chose for each outer one."""

    utilities_PW: Floats
    """Of the fit whose outer fold holds the problem."""
    labels_P: tuple[str, ...]
    """The candidate that chooses for the problem."""


def visible(features_KPF: Floats, dimensions: int) -> Floats:
    """The columns that a model with so many words' directions sees; with 0 none at all."""
    return features_KPF[:, :, : SURFACE + dimensions if dimensions else 0]


def greedy(utilities_PW: Floats) -> Floats:
    """All probability on the largest utility, (P, W)."""
    chosen: Floats = np.eye(utilities_PW.shape[1])[utilities_PW.argmax(1)]
    return chosen


def nested_choice(candidates: Sequence[Candidate], worth_PW: Floats, fits: Sequence[Fit]) -> Chosen:
    """Per outer fold the candidate whose greedy choice is worth most on the inner folds.

    Args:
        candidates: Among equals the first is taken.
        worth_PW: What is to be large: mean reward or mean score.
        fits: As the candidates were fitted.
    """
    problems = np.arange(len(worth_PW))
    inner_CO = np.zeros((len(candidates), max(fit.outer for fit in fits) + 1))
    for c, candidate in enumerate(candidates):
        worth_KP = worth_PW[problems, candidate.utilities_KPW.argmax(2)]
        for k, fit in enumerate(fits):
            if fit.inner is not None:
                inner_CO[c, fit.outer] += worth_KP[k, fit.held_P].sum()
    best_O = (inner_CO >= inner_CO.max(0) - _EQUAL).argmax(0)
    utilities_PW = np.empty_like(worth_PW)
    labels = [""] * len(worth_PW)
    for k, fit in enumerate(fits):
        if fit.inner is None:
            best = candidates[best_O[fit.outer]]
            utilities_PW[fit.held_P] = best.utilities_KPW[k, fit.held_P]
            for p in np.flatnonzero(fit.held_P):
                labels[p] = best.label
    return Chosen(utilities_PW, tuple(labels))


def single_arms(world: ChoiceWorld, rewards_PW: Floats, fits: Sequence[Fit]) -> dict[str, Floats]:
    """Arms that read no text: one workflow for all held-out problems, chosen on the training ones.

    The cheapest is taken among equals.
    """
    arms = {
        name: np.zeros_like(rewards_PW)
        for name in (
            "best single by score",
            "best single by reward",
            "cheapest single within 1 point",
            "random of the top 3",
        )
    }
    scores_PW = world.scores_PW
    for fit in (each for each in fits if each.inner is None):
        scores_W, rewards_W = scores_PW[fit.train_P].mean(0), rewards_PW[fit.train_P].mean(0)
        ranking = np.lexsort((world.usd_W, -scores_W))
        near = np.flatnonzero(scores_W >= scores_W.max() - 0.01 - _EQUAL)
        choices = (
            ranking[:1],
            np.lexsort((world.usd_W, -rewards_W))[:1],
            near[np.argmin(world.usd_W[near])],
            ranking[:_TOP],
        )
        for probs_PW, chosen in zip(arms.values(), choices, strict=True):
            probs_PW[np.ix_(fit.held_P, np.atleast_1d(chosen))] = 1 / np.size(chosen)
    return arms


def cost_matched(world: ChoiceWorld, like_PW: Floats, fits: Sequence[Fit]) -> Floats:
    """The best random mix of two workflows at the cost of another arm, blind to the problem.

    Of all mixes whose expected cost is that of `like_PW` on the held-out problems (or less, where
    one workflow alone is), the one with the highest score on the training problems.
    """
    probs_PW = np.zeros_like(like_PW)
    for fit in (each for each in fits if each.inner is None):
        usd = float((like_PW[fit.held_P] @ world.usd_W).mean())
        probs_PW[fit.held_P] = _best_mix(world.scores_PW[fit.train_P].mean(0), world.usd_W, usd)
    return probs_PW


def _best_mix(scores_W: Floats, usd_W: Floats, usd: float) -> Floats:
    cheap = np.flatnonzero(usd_W <= usd + 1e-12)
    best = cheap[np.argmax(scores_W[cheap])]
    probs_W: Floats = np.eye(len(usd_W))[best]
    highest = float(scores_W[best])
    for i in cheap:
        for j in np.flatnonzero(usd_W > usd + 1e-12):
            share = (usd - usd_W[i]) / (usd_W[j] - usd_W[i])
            score = float((1 - share) * scores_W[i] + share * scores_W[j])
            if score > highest + _EQUAL:
                probs_W, highest = np.zeros(len(usd_W)), score
                probs_W[i], probs_W[j] = 1 - share, share
    return probs_W


def ridge_candidates(
    features_KPF: Floats,
    rewards_PW: Floats,
    fits: Sequence[Fit],
    dimensions: Sequence[int],
    alphas: Sequence[float],
) -> list[Candidate]:
    """The outcome model as a router: one ridge regression per workflow, features to mean reward.

    Without text it predicts the mean, so that its choice is the best single one by reward.
    """
    found = []
    for size in dimensions:
        seen_KPF = visible(features_KPF, size)
        for alpha in alphas if size else alphas[:1]:
            predicted = [
                _ridge(seen_KPF[k], rewards_PW, fit.train_P, alpha) for k, fit in enumerate(fits)
            ]
            label = f"ridge {size} dimensions" + (f", alpha {alpha:g}" if size else "")
            found.append(Candidate(label, size, np.stack(predicted)))
    return found


def _ridge(
    features_PF: Floats, targets_PW: Floats, train_P: NDArray[np.bool_], alpha: float
) -> Floats:
    x, means_W = features_PF[train_P], targets_PW[train_P].mean(0)
    penalty = alpha * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ (targets_PW[train_P] - means_W))
    predicted: Floats = features_PF @ weights + means_W
    return predicted


def oracle(
    world: ChoiceWorld, rewards_PWR: Floats, *, splits: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Score, USD and reward per problem of a choice that has seen outcomes on that problem.

    One half of the repeats (rounded down) chooses by reward, the other half scores; each is a mean
    over random splits of the repeats.

    Returns:
        scores_P, usd_P, rewards_P.
    """
    rng = np.random.default_rng(derive_seed("oracle", world.dataset, seed))
    problems, half = np.arange(len(world.problems)), rewards_PWR.shape[2] // 2
    found = np.zeros((3, len(problems)))
    for _ in range(splits):
        order = np.argsort(rng.random(rewards_PWR.shape), axis=2)
        by_reward = np.take_along_axis(rewards_PWR, order, axis=2)
        by_score = np.take_along_axis(world.scores_PWR, order, axis=2)
        choice_P = by_reward[:, :, :half].mean(2).argmax(1)
        found[0] += by_score[problems, choice_P, half:].mean(1)
        found[1] += world.usd_W[choice_P]
        found[2] += by_reward[problems, choice_P, half:].mean(1)
    scores_P, usd_P, rewards_P = found / splits
    return scores_P, usd_P, rewards_P
