"""How the workflows of a draw come along, told to whoever shows it; nothing hangs on being watched.

`collect` tells; the rollout callback's `watcher`, if there is one, says whom. Not here: what is
shown (`progress`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aflow_grpo.records import Rollout

__all__ = ["UNWATCHED", "DrawWatch", "Watcher"]


class DrawWatch(Protocol):
    """Is told of one draw; its methods raise nothing and return at once."""

    def written(self) -> None:
        """One more workflow has been written; called in the main thread."""

    def ended(self, rollout: Rollout) -> None:
        """One more has been executed and judged; called in the event loop's thread."""

    def over(self) -> None:
        """The draw is complete: what has not ended by now was too late, or only checked."""


Watcher = Callable[[str, int, bool], DrawWatch]
"""Called as a draw begins, with its split, its number of workflows, and whether they are executed
or only checked."""


class _Unwatched:
    def written(self) -> None:
        """Nobody wants to know."""

    def ended(self, rollout: Rollout) -> None:
        """Nobody wants to know."""

    def over(self) -> None:
        """Nobody wants to know."""


UNWATCHED: DrawWatch = _Unwatched()
