"""Random draws that are the same to the bit on every platform and Python version.

Python guarantees that `Random.random()` repeats for a seed; the algorithms of `choice`, `sample`
and `shuffle` may change between versions. Shipped files and sampler positions must not, so every
draw here is built on `random()` alone. Not for cryptography, and not uniform beyond 2^-53.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from aflow_grpo.seeds import derive_seed

__all__ = ["Dice"]

T = TypeVar("T")


class Dice:
    """A stream of draws that depends on the names it was made with, and on nothing else."""

    def __init__(self, *names: int | str) -> None:
        self._random = Random(derive_seed(*names))

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        return int(self._random.random() * bound)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def picks(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different positions of `items`, in random order."""
        return self.shuffled(items)[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A shuffled copy (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
