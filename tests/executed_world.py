"""A small world to execute workflows in: problems, completions, and everything real, opened."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aflow_grpo.execution import ExecutionSettings, WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Completion, Problem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.contract import OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits

__all__ = [
    "CODE", "COST", "MARKERS", "MATH", "QA", "WORLD", "Opened", "body", "closed_port_tier",
    "completion", "leftovers", "opened", "written",
]  # fmt: skip

MARKERS = {spec.attribute: spec.marker for spec in OPERATORS}
COST = 'self.llm.get_usage_summary()["total_cost"]'

MATH = [
    Problem(
        id=f"math/{n}",
        dataset="sample",
        domain="math",
        question=f"Runner {n} has {n} medals and wins {n + 2} more a day. How many after a week?",
        answer=str(n + 7 * (n + 2)),
        difficulty=n % 3 + 1,
    )
    for n in range(6)
]
QA = [
    Problem(
        id="qa/0",
        dataset="sample",
        domain="qa",
        question="Which town lies closest to the sea?",
        answer="Old Harbour",
        context="Old Harbour is by the sea. New Castle and Green Hill lie inland.",
    )
]
CODE = [
    Problem(
        id="code/0",
        dataset="sample",
        domain="code",
        question="Write total(values): the sum of the values up to 100.",
        answer="def total(values):\n    return sum(v for v in values if v <= 100)",
        entry_point="total",
        public_tests=("assert total([1, 2]) == 3",),
        hidden_tests=("assert total([100, 101]) == 100",),
        difficulty=1,
    )
]
WORLD = [*MATH, *QA, *CODE]


def body(*lines: str) -> str:
    """Graph code whose `__call__` has these lines, from line 3 on; COST is the usage's cost."""
    head = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"
    return head + "".join(f"        {line}\n" for line in lines).replace("COST", COST)


def completion(text: str, *, finished: bool = True) -> Completion:
    """A completion with this text; its tokens do not matter here."""
    return Completion(text, (1,), (2,), (-0.1,), finished)


def written(*lines: str, **prompts: str) -> Completion:
    """What a policy writes in the hybrid form, for a `__call__` with these lines."""
    return completion(json.dumps({"prompts": prompts, "graph_code": body(*lines)}))


class Opened(NamedTuple):
    """Everything that runs workflows, for one event loop."""

    executor: WorkflowExecutor
    client: ExecutorClient
    sandbox: Sandbox
    interpreter: Interpreter


@asynccontextmanager
async def opened(
    tier: Tier,
    settings: ExecutionSettings | None = None,
    limits: InterpreterLimits | None = None,
    executor: type[WorkflowExecutor] = WorkflowExecutor,
    sandbox: Sandbox | None = None,
) -> AsyncIterator[Opened]:
    """The real client, sandbox and interpreter around one tier."""
    client = ExecutorClient([tier])
    async with (
        sandbox or Sandbox(workers=1) as running,
        Interpreter(workers=16, limits=limits) as interpreter,
    ):
        try:
            yield Opened(
                executor(client, interpreter, running, settings), client, running, interpreter
            )
        finally:
            await client.aclose()


def closed_port_tier(**changes: Any) -> Tier:
    """A tier whose endpoint is dead: nothing listens on its port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    fields: dict[str, Any] = {"name": "dead", "max_attempts": 1, "api_key": "none", **changes}
    return Tier(base_url=f"http://127.0.0.1:{port}/v1", api_key_env="", **fields)


async def leftovers(before: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that are not in `before` and do not end by themselves once nobody waits for them."""
    after = asyncio.all_tasks() - set(before) - {asyncio.current_task()}
    if not after:
        return []
    _, pending = await asyncio.wait(after, timeout=5)
    return list(pending)
