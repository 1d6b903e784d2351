"""How hard a problem is, and how much of that its text shows.

Recorded: the longer a question and the more numbers in it, the likelier one call fails, on some
datasets (DROP, MATH) more than on others (HotpotQA, MBPP: hardly). The visible part of a problem's
difficulty is that score of its text; `weight_of` says with which weight it enters so that the
recorded area under the ROC curve comes out, and `visibility` times its excess over .5 on demand.
Problems whose level is known (the sample's) show it instead. Not covered: the hidden part, which
is `skill`'s.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from statistics import NormalDist

from aflow_grpo.llm.simulator.profile import Profile, Scale, Text
from aflow_grpo.records import Problem

__all__ = ["level_accuracies", "level_of", "roc_area", "text_score", "weight_of"]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NORMAL = NormalDist()
_MOST = 3.0
_CHANCE = 0.5
_GRID = tuple(-4.0 + 0.1 * i for i in range(81))
_DENSITY = tuple(math.exp(-z * z / 2) for z in _GRID)


def level_of(problem: Problem) -> int:
    """Its difficulty 1, 2 or 3; 0 when nobody knows."""
    return min(3, max(0, problem.difficulty))


def text_score(question: str, text: Text) -> float:
    """How hard a question looks, standardised over its dataset: near 0 on average, within 3."""
    mean, sd = text.log_chars
    chars = (math.log(max(1, len(question))) - mean) / sd
    mean, sd = text.log_numbers
    numbers = (math.log1p(len(_NUMBER.findall(question))) - mean) / sd
    return min(_MOST, max(-_MOST, (chars + numbers) / text.spread))


@lru_cache(maxsize=256)
def roc_area(accuracy: float, correlation: float) -> float:
    """Area under the ROC curve of a normal score for failure.

    Args:
        accuracy: Share of successes, in (0, 1).
        correlation: Of the score with the latent position, below 1.
    """
    threshold = _NORMAL.inv_cdf(accuracy)
    rest = math.sqrt(1 - correlation**2)
    right = [_NORMAL.cdf((threshold - correlation * z) / rest) for z in _GRID]
    below = area = rights = wrongs = 0.0
    for density, share in zip(_DENSITY, right, strict=True):
        r, w = density * share, density * (1 - share)
        area += w * (below + r / 2)
        below += r
        rights += r
        wrongs += w
    return area / (rights * wrongs)


def weight_of(profile: Profile, visibility: float) -> float:
    """Weight, at most .98, of the text score in the problem's part of the latent position."""
    shared = math.sqrt(1 - profile.family - profile.wording - profile.residual)
    return _weight(profile.accuracy, shared, 0.5 + visibility * (profile.auc - 0.5))


@lru_cache(maxsize=64)
def _weight(accuracy: float, shared: float, target: float) -> float:
    low, high = 0.0, 0.98
    for _ in range(12):
        middle = (low + high) / 2
        reached = roc_area(accuracy, middle * shared)
        low, high = (middle, high) if reached < target else (low, middle)
    return 0.0 if target <= _CHANCE else low


@lru_cache(maxsize=64)
def level_accuracies(scale: Scale, visibility: float) -> tuple[float, float, float]:
    """Accuracies by level when the distance between levels is scaled; their mean stays.

    The distances are those of the normal quantiles.
    """
    quantiles = [_NORMAL.inv_cdf(accuracy) for accuracy in scale.accuracy]
    centre = sum(quantiles) / 3
    mean = sum(scale.accuracy) / 3
    low, high = -4.0, 4.0
    for _ in range(40):
        shift = (low + high) / 2
        reached = sum(_NORMAL.cdf(shift + visibility * (q - centre)) for q in quantiles) / 3
        low, high = (shift, high) if reached < mean else (low, shift)
    one, two, three = (_NORMAL.cdf(low + visibility * (q - centre)) for q in quantiles)
    return one, two, three
