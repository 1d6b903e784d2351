"""A batch of workflows that runs while it is still being written, as the writing thread sees it.

The workflows run in the event loop's thread; everything here is called in the main thread and none
of it waits, apart from `result`. Not here: what is written when (`collect`, `pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aflow_grpo.records import Rollout
from aflow_grpo.rollout import RolloutEngine, RolloutRequest
from aflow_grpo.training.event_loop import EventLoopThread

__all__ = ["RunningBatch"]


class RunningBatch:
    """One batch on the event loop.

    Args:
        loop: Where `engine` lives.
        engine: Runs the workflows.
        poll: Raises when the run has been told to stop.
        options: Of `RolloutEngine.stream`.
    """

    def __init__(
        self, loop: EventLoopThread, engine: RolloutEngine, poll: Callable[[], None], **options: Any
    ) -> None:
        self._loop = loop
        self._poll = poll
        self._stream = engine.stream(**options)
        self._future = loop.submit(self._stream.results())

    def submit(self, request: RolloutRequest) -> None:
        """Start a workflow.

        Raises:
            Exception: What has ended the batch, or the run, by now.
        """
        self._poll()
        if self._future.done():
            self._future.result()
        self._loop.call(self._stream.submit, request)

    def end(self) -> None:
        """That was the last; the deadline counts from here."""
        self._loop.call(self._stream.end)

    def result(self) -> list[Rollout]:
        """The rollouts, once all have ended, in the order in which they were submitted.

        Raises:
            Exception: What ended the batch; a signal that ends the run cancels it and propagates.
        """
        return self._loop.result(self._future, poll=self._poll)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._future.cancel()
