"""What the workflows under way have come to, in numbers that a person can follow.

Told of every draw as it comes along (`watching`), in two threads. Not here: how it is shown
(`progress`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from aflow_grpo.records import Rollout

__all__ = ["Underway"]


class Underway:
    """Counts the workflows of all draws since it was made.

    Args:
        changed: Called after each change with how many more workflows have ended, in the thread
            that brought it; must raise nothing.
    """

    def __init__(self, changed: Callable[[int], None]) -> None:
        self.cost_usd = 0.0
        """List cost of what has ended, policy, executor and fallback."""
        self._changed = changed
        self._lock = threading.Lock()
        self._open: list[_Draw] = []
        self._judged = self._direct = self._right = 0
        self._reward = 0.0

    def open(self, split: str, workflows: int, executed: bool) -> _Draw:
        """A draw that begins; see `watching.Watcher`."""
        draw = _Draw(self, split, workflows, executed)
        with self._lock:
            self._open = [*self._open, draw]
        self._changed(0)
        return draw

    @property
    def phase(self) -> str:
        """What is being done now, e.g. ``written 64/64, executed 24``; empty between two draws."""
        draws = self._open
        if not draws:
            return ""
        written, ended = sum(d.written_count for d in draws), sum(d.ended_count for d in draws)
        workflows = sum(d.workflows for d in draws)
        if not any(draw.executed for draw in draws):
            return f"checking {written}/{workflows}"
        return f"written {written}/{workflows}, executed {ended}"

    @property
    def validating(self) -> bool:
        """Whether all that is under way belongs to an evaluation."""
        draws = self._open
        return bool(draws) and all(draw.split != "train" for draw in draws)

    @property
    def figures(self) -> str:
        """Means over what has ended; empty while nothing has. Masked workflows are in none."""
        with self._lock:
            n = self._judged
            if n == 0:
                return ""
            return (
                f"reward {self._reward / n:+.2f}  direct {self._direct / n:.0%}  "
                f"accuracy {self._right / n:.0%}"
            )

    def wrote(self, draw: _Draw) -> None:
        """One more workflow of `draw` has been written."""
        draw.written_count += 1
        self._changed(0 if draw.executed else 1)

    def count(self, draw: _Draw, rollout: Rollout) -> None:
        """One more workflow of `draw` has ended."""
        with self._lock:
            draw.ended_count += 1
            self.cost_usd += (
                rollout.completion.usage.cost_usd
                + rollout.execution.usage.cost_usd
                + rollout.execution.fallback_usage.cost_usd
            )
            if not rollout.masked:
                self._judged += 1
                self._direct += rollout.execution.direct
                self._right += rollout.score.correct
                self._reward += rollout.reward.total
        self._changed(1)

    def close(self, draw: _Draw) -> None:
        """`draw` is complete."""
        with self._lock:
            self._open = [d for d in self._open if d is not draw]
        self._changed(max(0, draw.workflows - draw.ended_count) if draw.executed else 0)


class _Draw:
    """One draw, as `collect` tells of it."""

    def __init__(self, whole: Underway, split: str, workflows: int, executed: bool) -> None:
        self.split, self.workflows, self.executed = split, workflows, executed
        self.written_count = self.ended_count = 0
        self._whole = whole

    def written(self) -> None:
        """See `watching.DrawWatch`."""
        self._whole.wrote(self)

    def ended(self, rollout: Rollout) -> None:
        """See `watching.DrawWatch`."""
        self._whole.count(self, rollout)

    def over(self) -> None:
        """See `watching.DrawWatch`."""
        self._whole.close(self)
