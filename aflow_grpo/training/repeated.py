"""What a continued run need not log again: steps that were made before it was stopped.

A resumed run repeats the iterations after its checkpoint and finds the same metrics to the bit.
MLflow would keep both values of a step, and draw both. Not here: the lab book itself (`tracking`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

__all__ = ["RepeatedMetrics"]

_TIMES = "time/"
"""Seconds differ every time; those of the first time are kept."""


class _Logged(Protocol):
    @property
    def step(self) -> int: ...

    @property
    def value(self) -> float: ...


class RepeatedMetrics:
    """Which metrics of a run are in its lab book already.

    Args:
        history: The values of a metric so far, by its name.
    """

    def __init__(self, history: Callable[[str], Iterable[_Logged]]) -> None:
        self._history = history
        self._known: dict[str, dict[int, float]] = {}

    def new(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Those that are not there yet; a value that has changed is new."""
        return {name: value for name, value in metrics.items() if self._is_new(name, step, value)}

    def _is_new(self, name: str, step: int, value: float) -> bool:
        if name not in self._known:
            self._known[name] = {each.step: each.value for each in self._history(name)}
        before = self._known[name].get(step)
        if before is None:
            return True
        same = before == value or (math.isnan(before) and math.isnan(value))
        return not same and not name.startswith(_TIMES)
