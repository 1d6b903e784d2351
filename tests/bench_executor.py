"""What executor calls cost, and how well they overlap: `nox -s bench -- executor`.

Everything runs over real HTTP against the simulator in a process of its own, with a latency that
does not spread, so that the critical path is known. CPU is that of this process alone, all threads.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import openai
import psutil

from aflow_grpo.data.generate import generate_problems
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.simulator import SIMULATED_MODEL, Simulator, SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Problem, Status, WorkflowSource
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.seeds import derive_seed
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter
from tests.bench_workflows import THREE_CALLS

WORKFLOWS, CALLS, LATENCY_S = 64, 3, 2.0
AT_ONCE = 64
CALLS_COUNTED = 2000
QUEUED, SOCKETS, QUEUED_LATENCY_S = 2000, 64, 0.2
_LOOK_S = 0.05


def endpoint(problems: list[Problem], latency_s: float = 0.0) -> Simulator:
    """A simulator whose replies all take `latency_s`."""
    settings = SimulatorSettings(latency_ms=1000 * latency_s, latency_spread="none")
    return Simulator(problems, TEN_OPERATORS.markers, settings)


async def critical_path(problems: list[Problem]) -> None:
    """Workflows of three calls, one after the other in each, all workflows at once."""
    with endpoint(problems, LATENCY_S) as simulator:
        client = ExecutorClient([simulator.tier(max_concurrent=WORKFLOWS)])
        async with Interpreter(workers=WORKFLOWS) as interpreter, Sandbox(workers=1) as sandbox:
            executor = WorkflowExecutor(client, interpreter, sandbox)
            await client.check()  # as before every run; imports the transport
            for when in ("first", "then"):
                await wave(when, executor, problems)
        await client.aclose()


async def wave(when: str, executor: WorkflowExecutor, problems: list[Problem]) -> None:
    """All workflows at once; their first calls all arrive together, and so do the others."""
    source = WorkflowSource(THREE_CALLS)
    started, cpu = time.perf_counter(), time.process_time()
    runs = await asyncio.gather(
        *(
            executor.run(source, problems[i].visible, seed=derive_seed(when, i), timeout_s=60.0)
            for i in range(WORKFLOWS)
        )
    )
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert all(run.status is Status.OK and run.usage.calls == CALLS for run in runs)
    path = CALLS * LATENCY_S
    print(
        f"{when:5} {WORKFLOWS} workflows x {CALLS} calls of {LATENCY_S:g} s: {wall:6.2f} s, "
        f"{wall / path:5.3f} of the critical path ({path:g} s), "
        f"{1000 * cpu / (WORKFLOWS * CALLS):.2f} CPU ms a call with the workflow",
        flush=True,
    )


async def rate(name: str, one: Callable[[int], Awaitable[object]]) -> float:
    """Make the calls, `AT_ONCE` at once; print and return CPU milliseconds a call."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def slotted(index: int) -> None:
        async with slots:
            await one(index)

    await asyncio.gather(*(slotted(-1 - i) for i in range(AT_ONCE)))
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(slotted, range(CALLS_COUNTED)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    cpu_ms = 1000 * cpu / CALLS_COUNTED
    print(f"{name:34} {CALLS_COUNTED / wall:7.0f} calls/s {cpu_ms:6.2f} CPU ms a call", flush=True)
    return cpu_ms


async def cost_of_a_call(problems: list[Problem]) -> None:
    """The same calls by the openai client alone and by the executor's client."""
    system = TEN_OPERATORS.markers["answer_generate"]
    prompts = [f"<problem>\n{problem.text}\n</problem>" for problem in problems]

    def body(index: int) -> dict[str, object]:
        user = prompts[index % len(prompts)]
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return {"model": SIMULATED_MODEL, "messages": messages, "seed": index + AT_ONCE}

    with endpoint(problems) as simulator, tempfile.TemporaryDirectory() as folder:
        url = simulator.base_url
        async with openai.AsyncOpenAI(api_key="x", base_url=url, max_retries=0) as bare:
            alone = await rate(
                "openai client alone",
                lambda i: bare.chat.completions.create(**body(i)),  # type: ignore[call-overload]
            )
        tier = simulator.tier(max_concurrent=AT_ONCE)
        ours = await _executor_rate("executor client", tier, None, prompts, system)
        journal = Journal(Path(folder, "journal.db"))
        kept = await _executor_rate("executor client, journal", tier, journal, prompts, system)
        journal.close()
    print(f"to the openai client alone: {ours / alone:.2f}, with a journal {kept / alone:.2f}")


async def _executor_rate(
    name: str, tier: Tier, journal: Journal | None, prompts: list[str], system: str
) -> float:
    client = ExecutorClient([tier], journal=journal)
    cpu_ms = await rate(
        name, lambda i: client.session(i + AT_ONCE)(prompts[i % len(prompts)], system=system)
    )
    await client.aclose()
    return cpu_ms


async def sockets_of_a_queue(problems: list[Problem]) -> None:
    """Most connections while many more calls wait than may be on their way."""
    with endpoint(problems, QUEUED_LATENCY_S) as simulator:
        port = int(simulator.base_url.split(":")[2].split("/")[0])
        client = ExecutorClient([simulator.tier(max_concurrent=SOCKETS)])
        calls = [
            asyncio.ensure_future(client.session(i)(problems[i % len(problems)].text))
            for i in range(QUEUED)
        ]
        this, most = psutil.Process(), 0
        started = time.perf_counter()
        while not all(call.done() for call in calls):
            await asyncio.sleep(_LOOK_S)
            open_now = this.net_connections(kind="tcp")
            most = max(most, sum(bool(each.raddr) and each.raddr.port == port for each in open_now))
        wall = time.perf_counter() - started
        assert all(call.result() for call in calls)
        await client.aclose()
    least = QUEUED * QUEUED_LATENCY_S / SOCKETS
    print(
        f"{QUEUED} calls at once, at most {SOCKETS} on their way: {most} connections, "
        f"{wall:.2f} s of {least:.2f} s"
    )


async def measure_executor() -> None:
    """All figures."""
    problems = generate_problems(9, WORKFLOWS, held_out=False)
    await critical_path(problems)
    await cost_of_a_call(problems)
    await sockets_of_a_queue(problems)
    print(f"load {os.getloadavg()[0]:.1f}")
