"""Work that ranks share: who draws which problems, and everybody's rollouts put together again.

Rank after rank, the shares are the whole in its order. So everything that is computed from all
rollouts (metrics, costs, stages, forecasts) is what one process would have computed, to the bit,
and every rank takes the same decisions. Not here: the gathering itself (`ranks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from aflow_grpo.records import Rollout
from aflow_grpo.training.ranks import Ranks

__all__ = ["Share", "gather_rollouts", "own_share"]

T = TypeVar("T")


@dataclass(frozen=True)
class Share(Generic[T]):
    """A part of a sequence."""

    first: int
    """Where it begins."""
    items: Sequence[T]


def own_share(items: Sequence[T], ranks: Ranks) -> Share[T]:
    """This rank's part, as near as can be to the others' in size; it may be empty."""
    count = len(items)
    first, last = (count * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
    return Share(first, items[first:last])


def gather_rollouts(rollouts_B: Sequence[Rollout], ranks: Ranks) -> list[Rollout]:
    """The rollouts of all ranks, rank by rank; their groups are numbered on.

    They are sent whole, once an iteration: 5 kB each with the tiny policy, where all of it is 150
    tokens and a few calls, and some twelve bytes for every further token.
    """
    every: list[Rollout] = []
    first = 0
    for theirs_B in ranks.gather(list(rollouts_B)):
        every += [replace(r, group=first + r.group) for r in theirs_B] if first else theirs_B
        first += 1 + max((r.group for r in theirs_B), default=-1)
    return every
