"""Speed figures of the parts that a step is made of: `nox -s bench`.

`nox -s bench -- interpreter` and so on runs single sections. Only when named run `executor` (calls
that take two seconds), `library` (accuracy and cost of the fixed workflows), `exits` (100 short
runs), which take a minute, and `traces` (pairs of fits), `overlap` (a fit whose calls are slow;
`overlap-short` is less of it), `grpo` (a step beside TRL's; `grpo-short`) and `sampling` (beside
`generate`; `sampling-short`), which take some, and `gpu` (beside TRL on a CUDA device).

Rates per second of wall clock and CPU milliseconds of this process, on the machine as it is:
compare ratios within one run, not numbers of different days.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import torch

from aflow_grpo.data.generate import generate_problems
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.policy import Policy
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.contract import OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.library import library
from tests.bench_executor import measure_executor
from tests.bench_gpu import measure_gpu
from tests.bench_grpo import measure_grpo
from tests.bench_journal import measure_journal
from tests.bench_overlap import measure_overlap
from tests.bench_sampling import measure_sampling
from tests.bench_sandbox import measure_sandbox
from tests.bench_traces import measure_traces
from tests.bench_workflows import measure_exits, measure_interpreter, measure_library

N = 300
MARKERS = {spec.attribute: spec.marker for spec in OPERATORS}


async def measure(name: str, count: int, one: Callable[[int], Awaitable[object]]) -> None:
    """Run `one` `count` times, 16 at once, and print its rate."""
    slots = asyncio.Semaphore(16)

    async def slotted(index: int) -> None:
        async with slots:
            await one(index)

    await asyncio.gather(*(slotted(i) for i in range(16)))
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(slotted(i) for i in range(16, count + 16)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:38} {count / wall:8.0f} /s   {1000 * cpu / count:6.2f} CPU ms here", flush=True)


async def measure_execution() -> None:
    """Workflows, sandbox jobs, judgements, executor calls."""
    problems = generate_problems(9, 60, held_out=False)
    code = [p for p in problems if p.domain == "code"]
    workflow = library("math")["review_revise"]

    async def instant(index: int, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"thought": "", "answer": "1", "review_result": True, "feedback": ""}

    with Simulator(problems, MARKERS) as simulator:
        client = ExecutorClient([simulator.tier()])
        async with Interpreter() as interpreter, Sandbox() as sandbox:
            await measure(
                "workflows (2 instant operators)",
                N,
                lambda i: interpreter.run(
                    workflow, problem="1 + 1?", entry_point="", call_operator=instant
                ),
            )
            await measure("sandbox jobs", N, lambda i: sandbox.evaluate("x = 1", ["x"]))
            await measure(
                "judgements (hidden tests)",
                100,
                lambda i: judge(
                    sandbox,
                    code[i % len(code)].answer,
                    code[i % len(code)].entry_point,
                    code[i % len(code)].hidden_tests,
                ),
            )
            await measure(
                "executor calls (HTTP, simulator)",
                3 * N,
                lambda i: client.session(i)(
                    f"<problem>\n{problems[i % 60].text}\n</problem>",
                    system=MARKERS["answer_generate"],
                ),
            )
        await client.aclose()


def measure_policy() -> None:
    """Tokens sampled and trained on per CPU second, one thread."""
    policy = Policy("tiny", threads=1)
    policy.setup()
    policy.eval()
    problems = generate_problems(9, 8, held_out=False)
    prompts = [ids for p in problems for ids in [policy.encode(p.visible)] * 8]
    started = time.process_time()
    completions = policy.sample(prompts, list(range(64)))
    tokens = sum(len(c.token_ids) for c in completions)
    print(
        f"{'sampling, 64 sequences':38} {tokens / (time.process_time() - started):8.0f} tok/CPU-s"
    )
    started = time.process_time()
    for first in (0, 32):
        scored = policy.score(completions[first : first + 32], with_entropy=True)
        (scored.logprobs_BT * scored.mask_BT).sum().backward()  # type: ignore[no-untyped-call]
    rate = tokens / (time.process_time() - started)
    print(f"{'forward + backward, 2 x 32':38} {rate:8.0f} tok/CPU-s")


SECTIONS: dict[str, Callable[[], None]] = {
    "execution": lambda: asyncio.run(measure_execution()),
    "policy": measure_policy,
    "interpreter": measure_interpreter,
    "sandbox": lambda: asyncio.run(measure_sandbox()),
    "library": measure_library,
    "exits": measure_exits,
    "executor": lambda: asyncio.run(measure_executor()),
    "journal": lambda: asyncio.run(measure_journal()),
    "traces": measure_traces,
    "grpo": measure_grpo,
    "grpo-short": lambda: measure_grpo(short=True),
    "sampling": measure_sampling,
    "sampling-short": lambda: measure_sampling(short=True),
    "overlap": measure_overlap,
    "overlap-short": lambda: measure_overlap(rounds=1),
    "gpu": measure_gpu,
}
DEFAULT = ("execution", "policy", "interpreter", "sandbox", "journal")


def main(names: Sequence[str]) -> None:
    """Print the figures of the sections named, or of the short ones."""
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        raise SystemExit(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    load = os.getloadavg()[0]
    print(json.dumps({"cores": os.cpu_count(), "load": round(load, 1), "torch": torch.__version__}))
    for name in names or DEFAULT:
        SECTIONS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
