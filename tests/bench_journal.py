"""What keeping every call costs: `nox -s bench -- journal`.

Calls arrive evenly, as from an executor that is kept busy, and each waits until its row is on disk.
The same schedule without a journal is the base that processor time and the event loop's lag are
compared with. `busy` gives the event loop work of its own between the calls.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aflow_grpo.llm.journal import Entry, Journal, request_key

RATE = 500
SECONDS = 4.0
REPLY = "The seventh bag holds 12 apples, so 12 * 7 = 84. " * 20
Write = Callable[[Entry], Awaitable[object]]


@dataclass(frozen=True)
class Load:
    """What one schedule of calls showed."""

    waits_s: list[float]
    """From the call to its row on disk."""
    lags_s: list[float]
    """How much later than asked the event loop woke a timer up."""
    cpu_s: float
    """Of this process, all threads, per call."""


def entry_of(number: int) -> Entry:
    """A call like those of a run: a kilobyte of reply."""
    return Entry(
        request_key({"number": number}), "run", number // 6, f"{number % 6}.0", "custom",
        "gpt-4o-mini", "primary", 1, True, REPLY, "stop", 420, 210, 0, 0.00019, 0.00019,
        time.time(), 1.4,
    )  # fmt: skip


async def _lag(lags_s: list[float]) -> None:
    while True:
        asked = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        lags_s.append(time.perf_counter() - asked)


async def load(write: Write, calls: int, rate: float, *, busy: float = 0.0) -> Load:
    """Let `calls` calls arrive at `rate` per second, whether earlier ones are through or not.

    Args:
        write: Keeps one row.
        calls: How many.
        rate: Per second.
        busy: Share of each interval in which the event loop computes.
    """
    waits_s: list[float] = []
    lags_s: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        await write(entry_of(number))
        waits_s.append(time.perf_counter() - started)

    lag = asyncio.create_task(_lag(lags_s))
    cpu, started = time.process_time(), time.perf_counter()
    tasks = []
    for number in range(calls):
        tasks.append(asyncio.create_task(one(number)))
        until = time.perf_counter() + busy / rate
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.perf_counter()))
    await asyncio.gather(*tasks)
    cpu = time.process_time() - cpu
    lag.cancel()
    return Load(waits_s, lags_s, cpu / calls)


async def nothing(entry: Entry) -> None:
    """Where a journal would write."""


async def measure_journal() -> None:
    """Processor time and wait per call at 500 calls/s, the loop's lag, and the highest rate."""
    calls = int(RATE * SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        for busy in (0.0, 0.5):
            without = await load(nothing, calls, RATE, busy=busy)
            journal = Journal(Path(folder) / f"busy{busy}.db")
            kept = await load(journal.write, calls, RATE, busy=busy)
            journal.close()
            _show(f"journal, {RATE} calls/s" + (", loop half busy" if busy else ""), without, kept)
        journal = Journal(Path(folder) / "most.db")
        await _saturate(journal, 5000)
        await _look_up(journal, 5000)
        journal.close()


def _show(name: str, without: Load, kept: Load) -> None:
    waits = sorted(1000 * wait for wait in kept.waits_s)
    print(
        f"{name:38} {1000 * (kept.cpu_s - without.cpu_s):6.2f} CPU ms a call, wait "
        f"{statistics.median(waits):.2f} ms (99 %: {waits[len(waits) * 99 // 100]:.1f}), "
        f"longest lag {1000 * max(kept.lags_s):.1f} ms (without: {1000 * max(without.lags_s):.1f})",
        flush=True,
    )


async def _saturate(journal: Journal, calls: int) -> None:
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await journal.write(entry_of(number))

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(64)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rate = f"{calls / wall:8.0f} /s   {1000 * cpu / calls:6.2f} CPU ms here"
    print(f"{'journal, 64 callers':38} {rate}", flush=True)


async def _look_up(journal: Journal, calls: int) -> None:
    keys = [entry_of(number).key for number in range(calls)]
    started = time.perf_counter()
    assert all(journal.get(key) for key in keys)
    took_s = time.perf_counter() - started
    print(f"{'journal, look-ups':38} {calls / took_s:8.0f} /s", flush=True)
