"""How far the levels of problems of known difficulty show: in outcomes, gains and lengths alike.

The levels of the sample are told by their texts (a family of problems has one level), so a policy
that reads can know them. `visibility` moves every figure that hangs on the level towards its mean
over levels, or away from it; at 0 a level decides nothing about replies. What the levels' chosen
figures show is far more than recorded problems do: `recorded_visibility` says at which visibility
it is as much. Not covered: the length of the problem itself and of its reference solution, which no
figure decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from aflow_grpo.llm.simulator.difficulty import level_accuracies
from aflow_grpo.llm.simulator.profile import Lengths, Scale

__all__ = ["Three", "level_area", "recorded_visibility", "seen_at"]

Three = tuple[float, float, float]
_LEAST = 0.1
"""Least share of its mean that a positive figure keeps on any level."""
_LEAST_CHANCE, _MOST_CHANCE = 0.01, 0.99


def seen_at(scale: Scale, visibility: float) -> Scale:
    """The levels' figures with their distances from the mean over levels scaled.

    Accuracies keep their mean; at 1 nothing else changes at all.
    """
    accuracy = level_accuracies(scale, visibility)
    if visibility == 1:
        return Scale(accuracy, scale.residual, scale.same_wrong, scale.program, scale.lengths)
    same = _moved(scale.same_wrong, visibility)
    one, two, three = (min(_MOST_CHANCE, max(_LEAST_CHANCE, chance)) for chance in same)
    lengths = _moved_lengths(scale.lengths, visibility) if scale.lengths else None
    return Scale(
        accuracy,
        _positive(scale.residual, visibility),
        (one, two, three),
        _moved(scale.program, visibility),
        lengths,
    )


def level_area(accuracies: Three) -> float:
    """Area under the ROC curve of the level for "one call fails", levels being equally frequent.

    Args:
        accuracies: Of one call, by level, not all 0 and not all 1.
    """
    pairs = below = 0.0
    for accuracy in accuracies:
        pairs += (1 - accuracy) * (below + accuracy / 2)
        below += accuracy
    return pairs / (below * (len(accuracies) - below))


def recorded_visibility(scales: Iterable[tuple[Scale, float]], area: float) -> float:
    """The visibility in [0, 1] at which the mean area of the levels is `area`.

    Args:
        scales: Levels of each domain and the gain of its one call over the levels' accuracies.
        area: Mean area under the ROC curve that was recorded, .5 or more.
    """
    given = list(scales)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        areas = [_area_at(scale, gain, middle) for scale, gain in given]
        low, high = (middle, high) if sum(areas) / len(areas) < area else (low, middle)
    return low


def _area_at(scale: Scale, gain: float, visibility: float) -> float:
    easy, middle, hard = (accuracy + gain for accuracy in level_accuracies(scale, visibility))
    return level_area((easy, middle, hard))


def _moved(values: Three, visibility: float) -> Three:
    mean = sum(values) / 3
    one, two, three = (mean + visibility * (value - mean) for value in values)
    return one, two, three


def _positive(values: Three, visibility: float) -> Three:
    least = _LEAST * sum(values) / 3
    one, two, three = (max(least, value) for value in _moved(values, visibility))
    return one, two, three


def _moved_lengths(
    lengths: tuple[Lengths, Lengths, Lengths], visibility: float
) -> tuple[Lengths, Lengths, Lengths]:
    moved = {
        field.name: _positive(
            (
                getattr(lengths[0], field.name),
                getattr(lengths[1], field.name),
                getattr(lengths[2], field.name),
            ),
            visibility,
        )
        for field in fields(Lengths)
    }
    one, two, three = (
        Lengths(**{name: round(values[level]) for name, values in moved.items()})
        for level in range(3)
    )
    return one, two, three
