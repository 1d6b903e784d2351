"""Speed of the sandbox, and how exactly it keeps its limits: `nox -s bench -- sandbox`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox

_SYMPY = "import sympy\nx = sympy.Symbol('x')\ny = str(sympy.{})"
_JOBS = {
    "trivial jobs": "y = 1",
    "sympy jobs, a quadratic": _SYMPY.format("solve(x**2 - 5*x + 6, x)"),
    "sympy jobs, an integral": _SYMPY.format("integrate(x * sympy.sin(x), x)"),
}
_ADD_ONE = "def f(x): return x + 1"
_TESTS = {
    "judgements, one assertion": "assert f(1) == 2",
    "judgements, a loop": "for i in range(20):\n    assert f(i) == i + 1",
}
_ENDLESS = {"processor time": "while True: pass", "wall time": "import time\ntime.sleep(99)"}
_FITS = """
def fits(mb):
    try:
        bytearray(mb << 20)
    except MemoryError:
        return False
    return True
"""


async def _rate(name: str, count: int, one: Callable[[], Awaitable[Any]]) -> None:
    slots = asyncio.Semaphore(4)

    async def slotted() -> Any:
        async with slots:
            return await one()

    await slotted()  # imports
    started = time.perf_counter()
    ended = await asyncio.gather(*(slotted() for _ in range(count)))
    rate = count / (time.perf_counter() - started)
    used_ms = 1000 * sum(getattr(job, "cpu_seconds", 0.0) for job in ended) / count
    inside = f"   {used_ms:6.1f} CPU ms inside" if used_ms else ""
    print(f"{name:38} {rate:8.0f} /s{inside}", flush=True)


async def measure_sandbox() -> None:
    """Print jobs and judgements per second, and how far limits are exceeded at most."""
    async with Sandbox(memory_mb=512, wall_factor=4) as sandbox:
        print(f"{'sandbox mode':38} {sandbox.mode:>8}")
        for name, source in _JOBS.items():
            count = 100 if "sympy" in name else 500
            await _rate(name, count, lambda source=source: sandbox.evaluate(source, ["y"]))
        for name, test in _TESTS.items():
            await _rate(name, 60, lambda test=test: judge(sandbox, _ADD_ONE, "f", [test]))
        for name, source in _ENDLESS.items():
            late_s = 0.0
            for limit_s in (0.25, 0.5, 1.0):
                ran = await sandbox.evaluate(source, [], timeout_s=limit_s)
                computed = name == "processor time"
                used_s = ran.cpu_seconds if computed else ran.seconds
                late_s = max(late_s, used_s - limit_s * (1 if computed else 4))
            print(f"{f'kill at the limit of {name}, late by':38} {late_s:8.3f} s")
        sizes = list(range(8, 1024, 8))
        ran = await sandbox.evaluate(_FITS, [f"[fits(mb) for mb in {sizes}]"])
        fitting = [mb for mb, fits in zip(sizes, ran.values[0].value, strict=True) if fits]
        print(f"{'largest array under a limit of 512 MB':38} {max(fitting):8} MB")
