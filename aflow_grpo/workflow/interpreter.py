"""Runs a workflow in `pydantic-monty`: a Python subset in a worker process of its own.

Workers have an empty environment and no files, network or clock; the only ways out are the external
functions through which the host makes operator calls and parses texts (`ast.parse`; never run).
What a workflow does wrong ends as a `Fault`
on the `Outcome`; `Unavailable`, cancellation and bugs of ours propagate.

Determinism: the program runs until every task of it waits for operators; these calls form a round.
A round's calls run concurrently on the host, and the program goes on only when all of them have
ended, with the results in the order in which it made the calls. So neither the calls' indices nor
anything else depends on which one ends first. Clock and random seed inside are fixed, sleeps
return at once.

Not covered: bugs of the interpreter itself (a language-level sandbox without system call filter),
and the truth of `cost` (the host counts, the workflow only reads). A worker that hits its memory
limit in one allocation prints a line to stderr before it is replaced.

A checkout owns its worker from start to end, so `workers` bounds how many workflows are under way.
"""

from __future__ import annotations

import atexit
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Self

from pydantic_monty import AsyncMonty, MontyError, OSPolicy, ResourceLimits

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Finding, WorkflowSource
from aflow_grpo.workflow.adapter import adapt
from aflow_grpo.workflow.anatomy import dataset_of, find_workflow, imports_all_prompts
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.drive import CallOperator, Drive, GetCost, Program, Stopped
from aflow_grpo.workflow.faults import fault_of, source_fault
from aflow_grpo.workflow.limits import InterpreterLimits
from aflow_grpo.workflow.prelude import driver_code
from aflow_grpo.workflow.syntax import SourceError, parse_source

__all__ = ["CallOperator", "GetCost", "Interpreter", "InterpreterLimits", "Outcome"]

_EXIT_PAUSE_S = 0.2
"""Between the pool's end and Python's; ten times what sufficed (see `_pause_before_exit`)."""
_OS_POLICY: OSPolicy = {
    "datetime": datetime(2025, 1, 1, tzinfo=UTC),
    "timezone": "utc",
    "sleep": "zero",
    "random_start": {"seed": 0},
}
"""Nothing inside a workflow depends on when or where it runs."""

_last_closed: float | None = None
"""Monotonic time of the last pool's end: infinite while one is open, None before the first."""


def _pause_before_exit() -> None:
    """Lets the pool's last thread end before Python's finalisation.

    pydantic-monty 1.4.0 wakes the event loop from a thread of its own; when the finalisation
    overtakes that thread, the process aborts (SIGABRT): 14 of 60 runs that ended right after their
    last workflow, none of 60 with a pause of 0.02 s.
    """
    if _last_closed is not None:
        remaining = _last_closed + _EXIT_PAUSE_S - time.monotonic()
        time.sleep(min(max(0.0, remaining), _EXIT_PAUSE_S))


atexit.register(_pause_before_exit)


@dataclass(frozen=True)
class Outcome:
    """How a workflow's run ended: exactly one of `answer` and `fault` is None."""

    answer: str | None
    fault: Finding | None
    """What went wrong, with the line in the graph code where one is known."""
    operator_calls: int
    """Calls made, also those of a run that failed later."""
    seconds: float
    """Wall-clock time, the wait for a worker not counted."""


class Interpreter:
    """Runs workflows in a pool of worker processes; an async context manager.

    Args:
        workers: Most workflows under way at once; a worker needs about 1 MB.
        limits: What one workflow may use.
    """

    def __init__(self, *, workers: int = 16, limits: InterpreterLimits | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"interpreter.workers={workers}: expected at least 1")
        self.workers = workers
        self.limits = limits or InterpreterLimits()
        self._pool: AsyncMonty | None = None

    async def __aenter__(self) -> Self:
        global _last_closed
        pool = AsyncMonty(
            min_processes=self.workers,
            max_processes=self.workers,
            feed_duration_limit_grace=1.0,
            request_timeout=self.limits.max_feed_s + 3.0,
        )
        await pool.__aenter__()
        self._pool = pool
        _last_closed = math.inf
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the workers; a second call does nothing."""
        global _last_closed
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)
            _last_closed = time.monotonic()

    async def run(
        self,
        source: WorkflowSource,
        *,
        problem: str,
        entry_point: str,
        call_operator: CallOperator,
        get_cost: GetCost = lambda: 0.0,
        operators: OperatorSet = TEN_OPERATORS,
    ) -> Outcome:
        """Runs a workflow on a problem.

        Args:
            source: The workflow; not necessarily a valid one.
            problem: What it receives as `problem`.
            entry_point: What it receives as `entry_point`, if it takes that.
            call_operator: Makes the operator calls. Raising `WorkflowFault` raises a RuntimeError
                with its message inside the workflow.
            get_cost: What `self.llm` tells as cost, read after each round of calls.
            operators: The operators that exist.

        Raises:
            Unavailable: From `call_operator`.
            RuntimeError: When the interpreter is not open.
        """
        if self._pool is None:
            raise RuntimeError("the interpreter is not open; use `async with Interpreter()`")
        program = _program(source.graph_code, self.limits.max_answer_chars, operators)
        if isinstance(program, Finding):
            return Outcome(None, program, 0, 0.0)
        async with self._pool.checkout(
            limits=_resource_limits(self.limits),
            os_policy=_OS_POLICY,
            assert_message_annotations=False,
        ) as session:
            started = time.monotonic()
            drive = Drive(session, self.limits, source.prompts, call_operator, get_cost, operators)
            answer, fault = None, None
            try:
                answer = await drive.run(program, problem, entry_point)
            except Stopped as stopped:
                fault = stopped.fault
            except MontyError as error:
                fault = fault_of(error, drive.operator_faults, program.adapted.line)
            return Outcome(answer, fault, drive.calls_made, time.monotonic() - started)


@lru_cache(maxsize=256)
def _program(graph_code: str, longest_answer: int, operators: OperatorSet) -> Program | Finding:
    """What the interpreter gets for a graph code, or why there is nothing to run."""
    code = graph_code.replace("\r\n", "\n").replace("\r", "\n")
    try:
        tree = parse_source(code, compiled=False)
    except SourceError as error:
        return source_fault(error)
    adapted = adapt(code)
    workflow = find_workflow(adapted.tree, operators)
    if isinstance(workflow, Finding):
        return workflow
    driver = driver_code(workflow, longest_answer, dataset_of(tree))
    return Program(adapted, driver, all_prompts=imports_all_prompts(tree))


def _resource_limits(limits: InterpreterLimits) -> ResourceLimits:
    return {
        "max_feed_duration_secs": limits.max_feed_s,
        "max_memory": limits.max_memory_mb * 2**20,
        "max_recursion_depth": limits.max_recursion,
        "max_suspensions": limits.max_suspensions,
    }
