"""What one executor call per problem costs, measured: the constant that efficiency is paid by.

The workflow `io` (one call, nothing asked but the answer) runs on a few problems by the same path
as the policy's workflows. Whether its answers are right is not looked at.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fractions import Fraction

from aflow_grpo.data.apportion import apportion
from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.llm.tiers import Tier, default_tiers
from aflow_grpo.records import Execution, Problem, Status
from aflow_grpo.rollout import RolloutSettings
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.seeds import derive_seed
from aflow_grpo.terminal import progress
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.library import library

__all__ = ["Cost", "MeasureSettings", "choose", "interval", "measure", "render_costs"]

_WORKFLOW = "io"
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 97.5 %, for 1 to 30 degrees of freedom; 1.96 beyond."""


@dataclass(frozen=True)
class MeasureSettings:
    """How many problems; the keys are those of a run's `rollout`."""

    problems: int = 20
    """Problems per dataset and domain."""
    seed: int = 0
    """Which problems."""
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    """Only its concurrency counts here."""

    def __post_init__(self) -> None:
        if self.problems < 2:
            raise ConfigError(f"rollout.problems is {self.problems}, expected 2 or more")


@dataclass(frozen=True)
class Cost:
    """List cost of one call per problem, in USD."""

    dataset: str
    domain: str
    answered: int
    """Problems whose workflow ran; the others are in no figure."""
    failed: int
    mean_usd: float
    low_usd: float
    high_usd: float
    """Ends of the 95 % interval of the mean."""
    first_failure: str = ""


def choose(problems: Sequence[Problem], most: int, seed: int) -> list[Problem]:
    """`most` of the problems, or all: each difficulty by its share, seeded, in the given order."""
    strata: dict[int, list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        strata[problem.difficulty].append(index)
    levels = sorted(strata)
    wanted = apportion(min(most, len(problems)), [Fraction(len(strata[k])) for k in levels])
    draw = random.Random(derive_seed("data.measure", seed))
    chosen = {i for k, n in zip(levels, wanted, strict=True) for i in draw.sample(strata[k], n)}
    return [problem for index, problem in enumerate(problems) if index in chosen]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval (Student's t); both infinite for a single value."""
    mean, free = statistics.fmean(values), len(values) - 1
    if free < 1:
        return mean, -math.inf, math.inf
    t = _T975[free - 1] if free <= len(_T975) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def measure(problems: Sequence[Problem], settings: MeasureSettings, llm: LLMSettings) -> list[Cost]:
    """One cost per dataset and domain of `problems`, in the order of their first problems.

    Raises:
        ExecutorError: An endpoint cannot be used, or no workflow of a dataset ran.
    """
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.dataset, problem.domain].append(problem)
    chosen = {k: choose(p, settings.problems, settings.seed) for k, p in groups.items()}
    simulator = None
    if llm.simulator is not None:
        world = [problem for members in chosen.values() for problem in members]
        simulator = Simulator(world, TEN_OPERATORS.markers, llm.simulator).start()
    try:
        tiers = [simulator.tier()] if simulator is not None else llm.tiers or default_tiers()
        done = asyncio.run(_run(chosen, settings, tiers, check=simulator is None))
    finally:
        if simulator is not None:
            simulator.close()
    return [_cost(*key, executions) for key, executions in done.items()]


async def _run(
    chosen: Mapping[tuple[str, str], Sequence[Problem]],
    settings: MeasureSettings,
    tiers: Sequence[Tier],
    *,
    check: bool,
) -> dict[tuple[str, str], list[Execution]]:
    async with AsyncExitStack() as stack:
        client = ExecutorClient(tiers)
        stack.push_async_callback(client.aclose)
        if check:
            await client.check()
        sandbox = await stack.enter_async_context(Sandbox(workers=1))
        interpreter = await stack.enter_async_context(Interpreter(workers=2))
        executor = WorkflowExecutor(client, interpreter, sandbox)
        free = asyncio.Semaphore(settings.rollout.concurrency)

        async def run(problem: Problem) -> Execution:
            source = library(problem.domain)[_WORKFLOW]
            seed = derive_seed("data.measure", settings.seed, problem.id)
            async with free:
                execution = await executor.run(source, problem.visible, seed=seed)
            step.advance(1, f"${client.usage.cost_usd:.4f}")
            return execution

        with progress("measuring", sum(map(len, chosen.values()))) as step:
            return {
                key: list(await asyncio.gather(*map(run, members)))
                for key, members in chosen.items()
            }


def _cost(dataset: str, domain: str, executions: Sequence[Execution]) -> Cost:
    costs = [e.usage.cost_usd for e in executions if e.status is Status.OK]
    failures = [e.message for e in executions if e.status is not Status.OK]
    if not costs:
        raise ExecutorError(
            f"{dataset}/{domain}: none of {len(executions)} calls gave an answer, expected some; "
            f"the first said: {failures[0]}"
        )
    return Cost(dataset, domain, len(costs), len(failures), *interval(costs), *failures[:1])


def render_costs(costs: Sequence[Cost], llm: LLMSettings) -> str:
    """The figures, and the lines for a config."""
    simulated = llm.simulator is not None
    who = "the simulated executor" if simulated else (llm.tiers or default_tiers())[0].model
    lines = [f"list cost of one call per problem, {who}:"]
    for cost in costs:
        line = (
            f"  {cost.dataset}/{cost.domain}: {cost.mean_usd:.6f} USD, n = {cost.answered}, "
            f"95 % interval {cost.low_usd:.6f} to {cost.high_usd:.6f}"
        )
        if cost.failed:
            line += f"; {cost.failed} failed, the first: {cost.first_failure}"
        lines.append(line)
    domains = Counter(cost.dataset for cost in costs)
    lines += ["", "rollout:", "  reward:", "    io_cost_usd:"]
    for cost in costs:
        key = cost.dataset if domains[cost.dataset] == 1 else f"{cost.dataset}/{cost.domain}"
        lines.append(f"      {key}: {cost.mean_usd:.6f}")
    if simulated:
        lines.append("# simulated: for training on the simulator. Measure again for a real model.")
    return "\n".join(lines)
