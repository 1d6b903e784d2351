"""How able the imitated gpt-4o-mini is: a first model on recorded facts, uncalibrated in detail.

Recorded: repeats of one workflow on one problem mostly agree (GSM8K .95, DROP .94, MATH .69); most
problems are always right or always wrong; agreement is informative (MATH: .67 right when two runs
agree, .15 when they differ). Independent coin flips would make self-consistency look far too good.
So each problem has a latent position u in (0, 1), uniform; an operator solves what lies below its
threshold, almost always, and what lies above, almost never; in between is a narrow mixed band:

    p(u) = 1 - e    for u < R;     .85 -> .15 (linear)    for R <= u < R + m;     e    above

R and m are chosen so that the mean over problems is the operator's accuracy and the mean of
p (1 - p) its `wobble`. Operators share u up to a correlation: the Programmer fails on other
problems than a written solution does. Wrong replies are clustered on two or three wrong values per
problem; `cluster` is the chance that two wrong replies agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from aflow_grpo.records import Domain, Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["Level", "Skill", "level_of"]

_SURE = 0.01
_MIXED_VARIANCE = 0.209
"""Mean of p (1 - p) over the mixed band: 1/4 minus the variance of a uniform on (.15, .85)."""
_SECOND_SHARE = 0.7
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Level:
    """One operator on problems of one difficulty."""

    accuracy: float
    wobble: float
    """Mean over problems of p (1 - p): how often two runs differ in being right, halved."""
    cluster: float
    """Chance that two wrong replies on one problem are the same."""


_WRITTEN: dict[Domain, tuple[Level, Level, Level]] = {
    "math": (Level(0.92, 0.012, 0.75), Level(0.75, 0.03, 0.68), Level(0.40, 0.05, 0.62)),
    "qa": (Level(0.85, 0.015, 0.88), Level(0.70, 0.02, 0.88), Level(0.50, 0.035, 0.80)),
    "code": (Level(0.90, 0.015, 0.75), Level(0.75, 0.025, 0.70), Level(0.52, 0.04, 0.60)),
}
"""One written solution, by domain, then difficulty 1, 2, 3."""

_GAINS: dict[tuple[str, Domain], tuple[float, float, float]] = {
    ("custom", "qa"): (-0.03, -0.03, -0.03),
    ("custom", "code"): (-0.02, -0.02, -0.02),
    ("programmer", "math"): (0.01, 0.08, 0.13),
}
"""Accuracy of an operator minus that of a written solution."""

_CORRELATION = {"programmer": 0.8}
"""Of an operator's position with the problem's own; 0.98 for those not listed."""


def level_of(problem: Problem) -> int:
    """Its difficulty 1, 2 or 3; where nobody knows, drawn from its id."""
    if problem.difficulty:
        return min(3, max(1, problem.difficulty))
    return (1, 1, 2, 2, 3)[derive_seed("difficulty", problem.id) % 5]


class Skill:
    """The chance that one call is right, per problem and operator.

    Args:
        seed: Decides which problems are within reach.
        noise: Scales the wobble.
    """

    def __init__(self, seed: int, noise: float) -> None:
        self._seed = seed
        self._noise = noise
        self._cached = lru_cache(maxsize=65_536)(self._compute)

    def probability(self, problem: Problem, operator: str, gain: float = 0.0) -> float:
        """Chance in [0, 1] that a call of `operator` on `problem` is right.

        Args:
            problem: What is to be solved.
            operator: The operator's attribute name.
            gain: Added to the operator's accuracy, e.g. for a good draft in the prompt.
        """
        return self._cached(problem, operator, gain)

    def wrong_choice(self, problem: Problem, uniform: float) -> int:
        """Which of three wrong values (0 the likeliest) a wrong reply has, for a uniform draw."""
        first = _first_share(_WRITTEN[problem.domain][level_of(problem) - 1].cluster)
        if uniform < first:
            return 0
        return 1 if uniform < first + (1 - first) * _SECOND_SHARE else 2

    def latent(self, problem: Problem, purpose: str) -> float:
        """A fixed uniform draw in (0, 1) of the problem, e.g. whether its code can be mended."""
        return (derive_seed(self._seed, problem.id, purpose) + 0.5) / 2**31

    def _compute(self, problem: Problem, operator: str, gain: float) -> float:
        index = level_of(problem) - 1
        level = _WRITTEN[problem.domain][index]
        shifts = _GAINS.get((operator, problem.domain), (0.0, 0.0, 0.0))
        accuracy = min(0.99, max(0.01, level.accuracy + shifts[index] + gain))
        return _curve(self._position(problem, operator), accuracy, level.wobble, self._noise)

    def _position(self, problem: Problem, operator: str) -> float:
        shared = _NORMAL.inv_cdf(self.latent(problem, "problem"))
        own = _NORMAL.inv_cdf(self.latent(problem, operator))
        rho = _CORRELATION.get(operator, 0.98)
        return _NORMAL.cdf(rho * shared + math.sqrt(1 - rho**2) * own)


def _curve(position: float, accuracy: float, wobble: float, noise: float) -> float:
    """p(u) of the module docstring."""
    sure = min(0.1, _SURE * noise)
    band = min(0.5, noise * max(0.0, wobble - _SURE) / (_MIXED_VARIANCE - _SURE))
    solid = (accuracy - band / 2 - (1 - band) * sure) / (1 - 2 * sure)
    solid = min(1 - band, max(0.0, solid))
    if position < solid:
        return 1 - sure
    if position < solid + band:
        return 0.85 - 0.7 * (position - solid) / band
    return sure


@lru_cache(maxsize=64)
def _first_share(cluster: float) -> float:
    """Share w of the likeliest wrong value: w^2 + (1-w)^2 (.7^2 + .3^2) = cluster."""
    rest = _SECOND_SHARE**2 + (1 - _SECOND_SHARE) ** 2
    root = math.sqrt(max(0.0, rest**2 - (1 + rest) * (rest - cluster)))
    return (rest + root) / (1 + rest)
