"""One asyncio event loop in a thread of its own, for the whole life of a run.

Lightning is synchronous and the executor is not: `training_step` submits coroutines here and
waits. The wait is interruptible (Ctrl-C, SIGTERM): whatever ends it cancels the coroutine first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

__all__ = ["EventLoopThread"]

T = TypeVar("T")
_POLL_S = 0.1


class EventLoopThread:
    """A running event loop that synchronous code can submit coroutines to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="aflow-grpo-event-loop", daemon=True
        )
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` and return at once; pass the future to `result`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call `function` in the loop's thread, after everything submitted so far; do not wait."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def result(self, future: Future[T], *, poll: Callable[[], None] | None = None) -> T:
        """Wait for `future` and return its result.

        Args:
            future: What `submit` returned.
            poll: Called every 0.1 s while waiting; what it raises cancels the work and propagates.
        """
        try:
            while not wait([future], timeout=_POLL_S).done:
                if poll is not None:
                    poll()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def run(self, work: Coroutine[Any, Any, T], *, poll: Callable[[], None] | None = None) -> T:
        """Run `work` to its end and return its result; `poll` as in `result`."""
        return self.result(self.submit(work), poll=poll)

    def cancel_soon(self) -> None:
        """Cancel every coroutine that is running, without waiting: for signal handlers."""
        self.call(_cancel_tasks)

    def cancel_all(self) -> None:
        """Cancel every coroutine that is still running and wait until they have ended."""
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()

    def close(self) -> None:
        """Cancel what is left, stop the loop and join the thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        self.cancel_all()
        # In its own thread: in the caller's another loop may be running, as in a notebook.
        self.submit(self._loop.shutdown_asyncgens()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _cancel_tasks() -> list[asyncio.Task[Any]]:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    return tasks


async def _cancel_all() -> None:
    await asyncio.gather(*_cancel_tasks(), return_exceptions=True)
