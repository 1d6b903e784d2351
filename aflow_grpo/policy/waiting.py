"""Many requests on an event loop of another thread, and their answers in this one as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

__all__ = ["Run", "each_as_it_ends"]

T = TypeVar("T")
_Underway = dict["asyncio.Task[T]", int]
"""Requests on their way -> their number."""


class Run(Protocol):
    """Runs coroutines on the event loop to which a client belongs."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """The coroutine's result; tasks that it started go on."""


def each_as_it_ends(
    run: Run,
    works: Mapping[int, Callable[[], Coroutine[Any, Any, T]]],
    on_ended: Callable[[int, T], None],
) -> None:
    """Do all of `works` at once and call `on_ended` in this thread with each number and result.

    Args:
        run: On which loop, and what interrupts the wait.
        works: Number -> what makes the coroutine. Of those that end together the smaller numbers
            come first.
        on_ended: What it raises, like whatever else does, ends the others.
    """
    underway = run(_start(works))
    try:
        while underway:
            for number, result in run(_next_ended(underway)):
                on_ended(number, result)
    except BaseException:
        run(_cancel(underway))
        raise


async def _start(works: Mapping[int, Callable[[], Coroutine[Any, Any, T]]]) -> _Underway[T]:
    return {asyncio.create_task(work()): number for number, work in works.items()}


async def _next_ended(underway: _Underway[T]) -> list[tuple[int, T]]:
    """What has ended when anything has; taken out of `underway`."""
    ended, _ = await asyncio.wait(underway, return_when=asyncio.FIRST_COMPLETED)
    return [(underway.pop(task), task.result()) for task in sorted(ended, key=underway.__getitem__)]


async def _cancel(underway: _Underway[T]) -> None:
    for task in underway:
        task.cancel()
    await asyncio.gather(*underway, return_exceptions=True)
