"""The loop thread: results, errors, interruption, and nothing left behind."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from aflow_grpo.training.event_loop import EventLoopThread


@pytest.fixture
def loop() -> Iterator[EventLoopThread]:
    thread = EventLoopThread()
    yield thread
    thread.close()


async def _value(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def _raise(error: Exception) -> None:
    raise error


def test_results_come_back(loop: EventLoopThread) -> None:
    futures = [loop.submit(_value(i)) for i in range(5)]
    assert [loop.result(f) for f in futures] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [ValueError("ours"), TimeoutError("the coroutine's own")])
def test_the_coroutines_own_error_propagates(loop: EventLoopThread, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        loop.run(_raise(error))


def test_what_poll_raises_cancels_the_work(loop: EventLoopThread) -> None:
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run(forever(), poll=interrupt)
    assert cancelled.wait(timeout=5)


def test_close_cancels_what_still_runs_and_may_be_called_twice() -> None:
    loop = EventLoopThread()
    future = loop.submit(asyncio.Event().wait())
    loop.close()
    loop.close()
    assert future.cancelled()
    assert not any(t.name == "aflow-grpo-event-loop" for t in threading.enumerate())
