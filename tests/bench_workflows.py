"""Figures of the interpreter and of the fixed workflows, for `tests.bench`.

Every rate comes with the load of the machine and with a reference of the same run: the same
workflow under CPython in this process, a thing only a benchmark of our own code may do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aflow_grpo.data.generate import generate_problems
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.records import DOMAINS, WorkflowSource
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.workflow.contract import OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.library import library

MARKERS = {spec.attribute: spec.marker for spec in OPERATORS}
HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"
BODY = """\
        r = await self.custom(input=problem)
        s = await self.custom(input=r["response"])
        t = await self.custom(input=s["response"])
        return t["response"], self.llm.get_usage_summary()["total_cost"]
"""
THREE_CALLS = HEAD + BODY
ROOT = Path(__file__).resolve().parents[1]
SHORT_RUN = """
import asyncio
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.library import fallback_workflow

async def operator(index, attribute, arguments):
    return {"thought": "", "answer": "5"}

async def main():
    async with Interpreter(workers=2) as interpreter:
        outcome = await interpreter.run(fallback_workflow("math"), problem="2+3?", entry_point="",
                                        call_operator=operator)
        print(outcome.answer)

asyncio.run(main())
"""


async def instant(index: int, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operator that answers at once."""
    return {"response": "1", "thought": "", "answer": "1", "solution": "1"}


async def a_second(index: int, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operator that takes a second."""
    await asyncio.sleep(1)
    return {"response": "1"}


def in_cpython(count: int) -> float:
    """Seconds that CPython needs to define, create and run the workflow `count` times."""

    class Llm:
        def get_usage_summary(self) -> dict[str, float]:
            return {"total_cost": 0.0}

    async def custom(input: str) -> dict[str, str]:
        return {"response": "1"}

    started = time.perf_counter()
    for _ in range(count):
        namespace: dict[str, Any] = {}
        exec(compile(THREE_CALLS, "<bench>", "exec"), namespace)
        workflow = namespace["Workflow"]()
        workflow.custom, workflow.llm = custom, Llm()
        asyncio.run(workflow("1 + 1?"))
    return time.perf_counter() - started


async def _throughput(count: int, workers: int) -> float:
    source = WorkflowSource(THREE_CALLS)
    async with Interpreter(workers=workers) as interpreter:

        async def one() -> None:
            outcome = await interpreter.run(
                source, problem="1 + 1?", entry_point="", call_operator=instant
            )
            assert outcome.fault is None, outcome.fault

        await asyncio.gather(*(one() for _ in range(workers)))
        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return time.perf_counter() - started


async def _many_at_once(count: int) -> tuple[float, float]:
    started = time.perf_counter()
    source = WorkflowSource(THREE_CALLS)
    async with Interpreter(workers=count) as interpreter:
        opened = time.perf_counter()
        outcomes = await asyncio.gather(
            *(
                interpreter.run(source, problem="1?", entry_point="", call_operator=a_second)
                for _ in range(count)
            )
        )
        ended = time.perf_counter()
    assert all(outcome.fault is None for outcome in outcomes)
    return opened - started, ended - opened


def children() -> set[int]:
    """Processes whose parent is this one."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(status.parent.name))
    return found


def measure_interpreter() -> None:
    """Throughput, many workflows at once, processes left behind."""
    before = children()
    reference = 2000 / in_cpython(2000)
    for workers in (2, 16):
        rate = 1000 / asyncio.run(_throughput(1000, workers))
        print(
            f"3 instant operators, {workers:2} workers {rate:8.0f} workflows/s   "
            f"{rate / reference:5.2f} of CPython in process ({reference:.0f}/s)",
            flush=True,
        )
    opened, wall = asyncio.run(_many_at_once(500))
    print(f"500 workflows, 3 x 1 s each   {wall:8.2f} s   opening the pool {opened:.2f} s")
    time.sleep(0.3)
    print(f"processes left behind         {len(children() - before):8}")
    print(f"load                          {os.getloadavg()[0]:8.1f}")


def measure_exits(count: int = 100) -> None:
    """How many of `count` short runs end otherwise than cleanly."""
    bad = []
    for _ in range(count):
        ended = subprocess.run(
            [sys.executable, "-c", SHORT_RUN], capture_output=True, text=True, cwd=ROOT
        )
        if ended.returncode or ended.stderr or ended.stdout.strip() != "5":
            bad.append((ended.returncode, ended.stderr[-200:]))
    print(f"short runs {count}, not clean {len(bad)}   {bad[:3]}")


async def _library() -> None:
    problems = generate_problems(9, 90, held_out=False)
    with Simulator(problems, MARKERS) as simulator:
        client = ExecutorClient([simulator.tier()])
        async with (
            Interpreter() as interpreter,
            Sandbox() as sandbox,
            ScorerSet(sandbox) as scorers,
        ):
            executor = WorkflowExecutor(client, interpreter, sandbox)
            for domain in DOMAINS:
                ours = [problem for problem in problems if problem.domain == domain]
                for name, source in library(domain).items():
                    runs = await asyncio.gather(
                        *(executor.run(source, p.visible, seed=i) for i, p in enumerate(ours))
                    )
                    scores = [
                        await scorers.score(problem, run.answer)
                        for problem, run in zip(ours, runs, strict=True)
                        if run.answer is not None
                    ]
                    right = sum(score.correct for score in scores) / len(ours)
                    cost = sum(run.usage.cost_usd for run in runs) / len(ours)
                    calls = sum(run.usage.calls for run in runs) / len(ours)
                    print(
                        f"{domain:5} {name:18} {right:6.0%} right   "
                        f"{1e6 * cost:7.0f} USD per million problems   {calls:4.1f} executor calls",
                        flush=True,
                    )
        await client.aclose()


def measure_library() -> None:
    """Accuracy and list cost of every fixed workflow on the sample problems, simulated executor."""
    asyncio.run(_library())
