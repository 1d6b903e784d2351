"""What is open while a trainer verb runs: event loop, clients, journal, simulator, sandbox, traces.

Opened in one go and closed in the opposite order. Not here: when (`rollout_callback`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflow_grpo.execution import ExecutionSettings, WorkflowExecutor
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.journal_files import billed_by_run, journal_path, journal_paths, rank_of
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.llm.tiers import Tier, default_tiers
from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.operators.registry import OperatorKit
from aflow_grpo.records import Problem
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutEngine, RolloutSettings
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.sandbox.settings import SandboxSettings
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.training.event_loop import EventLoopThread
from aflow_grpo.training.traces import TracedRun, Tracer
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits

if TYPE_CHECKING:  # torch and lightning, which answering by a fixed workflow does not need
    from aflow_grpo.policy.endpoint import EndpointPolicy
    from aflow_grpo.training.ranks import Ranks

__all__ = ["OpenRun", "RunParts", "SandboxSettings"]

_BEFORE_RUNS = ""
"""Whose calls a journal of an older version holds: they have no run."""
_TRACES_S = 10.0
"""Longest wait for traces at the end."""


@dataclass(frozen=True)
class RunParts:
    """Settings of everything that is opened."""

    llm: LLMSettings
    journal: Path | None
    """This process's file; None for none."""
    ranks: int
    """Processes of the run, which share the budget."""
    execution: ExecutionSettings
    interpreter: InterpreterLimits
    sandbox: SandboxSettings
    reward: RewardSettings
    rollout: RolloutSettings
    scoring: ScoringSettings
    operators: OperatorKit
    scorers: type[ScorerSet] = ScorerSet
    """What decides whether answers are right."""


@dataclass
class OpenRun:
    """What is open during a run, in the order in which it was opened."""

    loop: EventLoopThread = field(default_factory=EventLoopThread)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: ExecutorClient = field(init=False)
    writer: ExecutorClient | None = None
    journal: Journal | None = None
    others_usd: Counter[str] = field(default_factory=Counter)
    """Run -> what other ranks, also those of an earlier session, were billed before this one."""
    budget: Budget = field(init=False)
    sandbox: Sandbox = field(init=False)
    engine: RolloutEngine = field(init=False)
    world: str = ""
    """The simulator's digest; empty where a real endpoint executes."""
    run: str | None = None
    tracer: Tracer | None = None

    def start(
        self,
        settings: RunParts,
        problems: Sequence[Problem],
        policy: EndpointPolicy | None,
    ) -> None:
        """Open everything; after an exception, `close` closes what was.

        Args:
            settings: Of the parts.
            problems: What a simulator is to know.
            policy: A policy that needs a client, or None.

        Raises:
            ExecutorError: An endpoint cannot be used.
        """
        llm = settings.llm
        tiers, scope = llm.tiers or default_tiers(), ""
        if llm.simulator is not None:
            markers = settings.operators.contract.markers
            simulator = Simulator(problems, markers, llm.simulator).start()
            self.stack.callback(simulator.close)
            tiers, scope = [simulator.tier()], simulator.digest
            self.world = scope
        self.loop.run(self._connect(settings, tiers, scope, policy))
        self.loop.run(self._prepare(settings))

    async def _connect(
        self,
        settings: RunParts,
        tiers: Sequence[Tier],
        scope: str,
        policy: EndpointPolicy | None,
    ) -> None:
        """The clients of all endpoints, and whether these answer."""
        stack, llm = self.stack, settings.llm
        if settings.journal is not None:
            self.journal = Journal(settings.journal)
            stack.callback(self.journal.close)
        self.budget = Budget(llm.budget_usd, ranks=settings.ranks)
        shared: dict[str, Any] = {
            "journal": self.journal,
            "cache": llm.cache,
            "budget": self.budget,
        }
        # A simulator's replies are those of its world; a real endpoint's know no scope.
        self.client = ExecutorClient(tiers, scope=scope, limits=llm.workflow, **shared)
        stack.push_async_callback(self.client.aclose)
        if policy is not None:
            self.writer = ExecutorClient([policy.tier], **shared)
            stack.push_async_callback(self.writer.aclose)
        if llm.check_endpoints:
            real = self.client if llm.simulator is None else None
            for client in (self.writer, real):
                if client is not None:
                    await client.check()

    def meet(self, ranks: Ranks, neighbours: Iterable[int]) -> None:
        """Know what the other ranks have been billed, and be answered by their journals.

        Called by all ranks when each has opened its own and has paid for nothing yet.

        Args:
            ranks: All of them.
            neighbours: Those on this machine; journals on another one are not read.

        Raises:
            ConfigError: A journal cannot be read.
        """
        journal = self.journal
        billed = ranks.gather(journal.billed_by_run() if journal is not None else {})
        if journal is None:
            return
        with ranks.together():
            folder = journal.path.parent
            gone = [path for path in journal_paths(folder) if rank_of(path) >= ranks.world_size]
            near = [journal_path(folder, rank) for rank in neighbours if rank != ranks.rank]
            journal.consult([*near, *gone])
            others = [sums for rank, sums in enumerate(billed) if rank != ranks.rank]
            for sums in [*others, *map(billed_by_run, gone)]:
                self.others_usd.update(sums)

    def join_run(self, run: str, takes_over: str | None) -> None:
        """Calls belong to `run` from here on, and so do those of the run `takes_over`."""
        self.run = run
        for client in (self.client, self.writer):
            if client is not None:
                client.join_run(run)
        if self.journal is not None:
            before = {takes_over, _BEFORE_RUNS} - {run} if takes_over is not None else set()
            for rows in before:
                self.journal.adopt(str(rows), run)
            others_usd = fsum(self.others_usd[name] for name in (run, *sorted(map(str, before))))
            self.budget.begin(self.journal.billed_usd(run) + others_usd)

    async def _prepare(self, settings: RunParts) -> None:
        """Everything that runs workflows."""
        stack = self.stack
        limits = settings.sandbox
        self.sandbox = await stack.enter_async_context(
            Sandbox(workers=limits.workers, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb)
        )
        interpreter = await stack.enter_async_context(
            Interpreter(workers=settings.rollout.concurrency, limits=settings.interpreter)
        )
        executor = WorkflowExecutor(
            self.client, interpreter, self.sandbox, settings.execution, settings.operators
        )
        scorers = await stack.enter_async_context(settings.scorers(self.sandbox, settings.scoring))
        self.engine = RolloutEngine(executor, scorers, settings.reward, settings.rollout)

    def tracer_of(self, run: TracedRun, settings: TraceSettings) -> Tracer:
        """Made when the run has begun, which is after everything here was opened."""
        if self.tracer is None:
            self.tracer = Tracer(run, settings)
        return self.tracer

    def drain(self) -> None:
        """Wait for calls that nobody waits for any more, so that what is paid for is kept."""
        for client in (self.client, self.writer):
            if client is not None:
                self.loop.run(client.drain())

    def close(self) -> None:
        """Cancel what runs, close clients, processes and the loop."""
        if self.tracer is not None:
            self.tracer.close(_TRACES_S)
        self.loop.cancel_all()
        self.loop.run(self.stack.aclose())
        self.loop.close()
