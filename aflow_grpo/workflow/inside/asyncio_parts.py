"""Parts of asyncio that the interpreter lacks, in its own language (see `builtin_parts`).

A task runs when it is first awaited or gathered: it does not start early. Locks and semaphores let
everyone pass: operator calls of one round are made at once whatever they hold. Nothing ever times
out or is cancelled inside; the workflow's budgets end it.
"""

from __future__ import annotations

import asyncio
from typing import Any


class _Task:
    def __init__(self, awaitable: Any) -> None:
        self.awaitable = awaitable
        self.state = "new"
        self.value: Any = None
        self.error: Any = None

    async def run(self) -> Any:
        if self.state == "new":
            self.state = "running"
            try:
                self.value = await _awaited(self.awaitable)
            except Exception as error:
                self.error = error
            self.state = "done"
        return self.result()

    def result(self) -> Any:
        if self.state != "done":
            raise RuntimeError("Result is not set.")
        if self.error is not None:
            raise self.error
        return self.value

    def exception(self) -> Any:
        return self.error

    def done(self) -> bool:
        return self.state == "done"

    def cancelled(self) -> bool:
        return False

    def cancel(self, *args: Any) -> bool:
        return False

    def add_done_callback(self, callback: Any) -> None:
        return None


async def _awaited(awaitable: Any) -> Any:
    if isinstance(awaitable, _Task):
        return await awaitable.run()
    return await awaitable


async def _caught(awaitable: Any) -> Any:
    try:
        return await _awaited(awaitable)
    except Exception as error:
        return error


def _asyncio_create_task(awaitable: Any, **options: Any) -> Any:
    return _Task(awaitable)


def _asyncio_ensure_future(awaitable: Any, **options: Any) -> Any:
    return awaitable if isinstance(awaitable, _Task) else _Task(awaitable)


async def _asyncio_gather(*awaitables: Any, return_exceptions: bool = False) -> Any:
    if return_exceptions:
        return await asyncio.gather(*[_caught(awaitable) for awaitable in awaitables])
    return await asyncio.gather(*[_awaited(awaitable) for awaitable in awaitables])


async def _asyncio_wait_for(fut: Any, timeout: Any = None) -> Any:
    return await _awaited(fut)


async def _asyncio_shield(awaitable: Any) -> Any:
    return await _awaited(awaitable)


async def _asyncio_wait(tasks: Any, **options: Any) -> Any:
    tasks = list(tasks)
    await asyncio.gather(*[_caught(task) for task in tasks])
    return set(tasks), set()


def _asyncio_as_completed(tasks: Any, **options: Any) -> Any:
    return list(tasks)


async def _asyncio_to_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _asyncio_iscoroutine(value: Any) -> bool:
    return type(value).__name__ == "coroutine"


def _asyncio_iscoroutinefunction(value: Any) -> bool:
    return False


class _Passing:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.value = args[0] if args else 1

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return False

    async def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None

    def locked(self) -> bool:
        return False


_asyncio_Semaphore = _Passing
_asyncio_BoundedSemaphore = _Passing
_asyncio_Lock = _Passing
_asyncio_timeout = _Passing


class _asyncio_TaskGroup:
    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def create_task(self, awaitable: Any, **options: Any) -> Any:
        task = _Task(awaitable)
        self.tasks.append(task)
        return task

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if error is None:
            await _asyncio_gather(*self.tasks)
        return False


_asyncio_TimeoutError = TimeoutError
_asyncio_FIRST_COMPLETED = "FIRST_COMPLETED"
_asyncio_FIRST_EXCEPTION = "FIRST_EXCEPTION"
_asyncio_ALL_COMPLETED = "ALL_COMPLETED"


class _asyncio_CancelledError:
    pass
