"""From a completion to an `Execution`: parse, validate, run, and fall back for the user.

Three levels, as in the source documents: the policy's own workflow, else the fixed workflow of
the problem's domain, else no answer. Only the first can be rewarded; the fallback's answer and
usage are kept apart. Trouble is told apart by whose doing it is: what the workflow does becomes
`invalid`, `error` or `timeout`, what the endpoint or the clock does becomes `unavailable`.

Not here: retries and tiers (`llm`), whether the answer is right (`scoring`), concurrency
(`rollout`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from aflow_grpo.errors import ConfigError, Unavailable, rollout_fault
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import LLMSession
from aflow_grpo.operators.base import Operator
from aflow_grpo.operators.registry import OperatorKit, run_operator
from aflow_grpo.operators.stub import stub_kit
from aflow_grpo.problem import require_visible
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Status,
    Usage,
    VisibleProblem,
    WorkflowSource,
)
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.frozen_prompts import FrozenPrompts
from aflow_grpo.workflow.interpreter import Interpreter, Outcome
from aflow_grpo.workflow.library import fallback_workflow
from aflow_grpo.workflow.limits import InterpreterLimits
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.validate import is_valid, primary_fault, validate

__all__ = ["ExecutionSettings", "WorkflowExecutor", "inspect_completion"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionSettings:
    """Clocks of one execution, and whose prompts its operators get."""

    timeout_s: float = 180.0
    """Wall-clock limit of the policy's own workflow, executor calls included."""
    total_timeout_s: float = 300.0
    """Wall-clock limit of the workflow and its fallback together."""
    operator_prompts: Literal["own", "frozen"] = "own"
    """`own`: operators get the instructions that the workflow gives them. `frozen`: they keep their
    built-in ones, whatever the workflow says in `prompts` and in texts of its code; Custom gets a
    fixed one. What is validated, rewarded and stored is the workflow as written either way."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= self.total_timeout_s:
            raise ConfigError(
                f"rollout.execution.timeout_s={self.timeout_s:g} and "
                f"rollout.execution.total_timeout_s={self.total_timeout_s:g}: expected "
                "0 < timeout_s <= total_timeout_s. Raise total_timeout_s or lower timeout_s."
            )


def inspect_completion(
    completion: Completion,
    problem: VisibleProblem,
    operators: OperatorSet = TEN_OPERATORS,
    call_budget: int = InterpreterLimits.max_operator_calls,
) -> Execution:
    """What can be said of a completion without running it.

    Args:
        completion: What the policy wrote.
        problem: Its domain decides which operators are allowed.
        operators: The operators that exist.
        call_budget: Most operator calls of one run.

    Returns:
        An `Execution` whose status is `cut` or `invalid` with its findings, `unavailable` when
        nobody wrote it, or `ok` without an answer, and perhaps with warnings, when the workflow is
        valid and may be run.
    """
    if completion.unavailable:
        return Execution(
            Status.UNAVAILABLE, fault_kind=FaultKind.ENDPOINT, message=completion.unavailable
        )
    parsed = parse_completion(completion.text)
    if not completion.finished:
        message = "The completion hit its length limit before it ended."
        return Execution(
            Status.CUT, fault_kind=FaultKind.LENGTH_LIMIT, message=message, source=parsed.source
        )
    findings = parsed.findings
    if parsed.source is not None:
        findings = validate(
            parsed.source, problem.domain, operators=operators, call_budget=call_budget
        )
    if parsed.source is None or not is_valid(findings):
        worst = primary_fault(findings)
        return Execution(
            Status.INVALID,
            fault_kind=worst.kind,
            message=worst.message,
            source=parsed.source,
            findings=findings,
        )
    return Execution(Status.OK, source=parsed.source, findings=findings)


class _Recorder:
    """Runs the operator calls of one workflow and keeps their records in the order of the calls.

    With `frozen`, calls are made, and recorded, without the workflow's own instructions.
    """

    def __init__(
        self,
        session: LLMSession,
        operators: Mapping[str, Operator],
        frozen: FrozenPrompts | None,
    ) -> None:
        self._session = session
        self._operators = operators
        self._frozen = frozen
        self._calls: dict[int, OperatorCall] = {}

    @property
    def calls(self) -> tuple[OperatorCall, ...]:
        return tuple(self._calls[index] for index in sorted(self._calls))

    @property
    def cost_usd(self) -> float:
        return self._session.usage.cost_usd

    async def __call__(
        self, index: int, attribute: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if self._frozen is not None:
            arguments = self._frozen.arguments(attribute, arguments)
        call = await run_operator(index, attribute, arguments, self._session, self._operators)
        self._calls[index] = call
        if call.fault_kind is not None:
            raise rollout_fault(call.fault_kind, call.message)
        return call.result


class WorkflowExecutor:
    """Runs workflows on one client, one interpreter and one sandbox, all injected and shared.

    Args:
        client: The executor's tiers.
        interpreter: Runs the graph code.
        sandbox: Runs what the Programmer and Test operators need to run.
        settings: Clocks, and whose prompts count.
        operators: The operators that exist; None for the ten.
    """

    def __init__(
        self,
        client: ExecutorClient,
        interpreter: Interpreter,
        sandbox: Sandbox,
        settings: ExecutionSettings | None = None,
        operators: OperatorKit | None = None,
    ) -> None:
        self._client = client
        self._interpreter = interpreter
        self._sandbox = sandbox
        self._settings = settings or ExecutionSettings()
        self._operators = operators or OperatorKit()

    @property
    def operators(self) -> OperatorSet:
        """The contracts of the operators that exist."""
        return self._operators.contract

    def rehearsal(self) -> WorkflowExecutor:
        """This executor with stub operators: no endpoint is asked, nothing enters the sandbox."""
        return WorkflowExecutor(
            self._client,
            self._interpreter,
            self._sandbox,
            self._settings,
            stub_kit(self._operators),
        )

    def inspect(self, completion: Completion, problem: VisibleProblem) -> Execution:
        """What can be said of a completion without running it; see `inspect_completion`."""
        budget = self._interpreter.limits.max_operator_calls
        return inspect_completion(completion, problem, self._operators.contract, budget)

    async def execute(
        self, completion: Completion, problem: VisibleProblem, *, seed: int, fallback: bool
    ) -> Execution:
        """Run what the policy wrote; with `fallback`, answer by the fixed workflow if it fails.

        Never raises for what a policy or an endpoint does: that is in the record's status.
        """
        started = time.perf_counter()
        checked = self.inspect(completion, problem)
        if checked.status is Status.OK and checked.source is not None:
            frozen = self._settings.operator_prompts == "frozen"
            execution = await self.run(checked.source, problem, seed=seed, frozen=frozen)
            execution = replace(execution, findings=checked.findings)  # warnings
        else:
            execution = checked
        if fallback and execution.status is not Status.OK:
            left_s = self._settings.total_timeout_s - (time.perf_counter() - started)
            rescue = await self.run(
                fallback_workflow(problem.domain), problem, seed=seed + 1, timeout_s=left_s
            )
            execution = replace(
                execution,
                fallback_answer=rescue.answer,
                fallback_calls=rescue.calls,
                fallback_usage=rescue.usage,
                fallback_message="" if rescue.status is Status.OK else rescue.message,
            )
        execution = replace(execution, seconds=time.perf_counter() - started)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: %s", problem.id, _account(execution))
        return execution

    async def run(
        self,
        source: WorkflowSource,
        problem: VisibleProblem,
        *,
        seed: int,
        timeout_s: float | None = None,
        frozen: bool = False,
    ) -> Execution:
        """Run a valid workflow within `timeout_s` (default: the setting).

        With `frozen`, its own prompts reach no operator; the record has them all the same.
        """
        require_visible(problem)
        session = self._client.session(seed)
        operators = self._operators.build(sandbox=self._sandbox, problem=problem)
        prompts = FrozenPrompts(source, problem.domain) if frozen else None
        recorder = _Recorder(session, operators, prompts)
        limit_s = self._settings.timeout_s if timeout_s is None else max(timeout_s, 0.0)
        clock = asyncio.timeout(limit_s)
        try:
            async with clock:
                outcome = await self._interpreter.run(
                    source if prompts is None else prompts.source,
                    problem=problem.text,
                    entry_point=problem.entry_point,
                    call_operator=recorder,
                    get_cost=lambda: recorder.cost_usd,
                    operators=self._operators.contract,
                )
        except TimeoutError:
            if not clock.expired():
                raise  # not this clock's: a bug of ours must not pass for a slow endpoint
            message = f"The executor had not answered within {limit_s:g} s."
            return self._ended(
                source, session, recorder, fault=Finding(FaultKind.DEADLINE, message)
            )
        except Unavailable as unavailable:
            return self._ended(
                source,
                session,
                recorder,
                fault=Finding(unavailable.kind, unavailable.message),
            )
        return self._ended(source, session, recorder, outcome=outcome)

    @staticmethod
    def _ended(
        source: WorkflowSource,
        session: LLMSession,
        recorder: _Recorder,
        *,
        outcome: Outcome | None = None,
        fault: Finding | None = None,
    ) -> Execution:
        fault = outcome.fault if outcome is not None else fault
        usage: Usage = session.usage
        if fault is None and outcome is not None:
            return Execution(
                Status.OK,
                answer=outcome.answer,
                source=source,
                calls=recorder.calls,
                usage=usage,
            )
        assert fault is not None
        return Execution(
            fault.kind.status,
            fault_kind=fault.kind,
            message=fault.message if fault.line is None else f"line {fault.line}: {fault.message}",
            source=source,
            calls=recorder.calls,
            usage=usage,
        )


def _account(execution: Execution) -> str:
    """What became of a workflow, and which layer and tiers answered, in one line."""
    parts = [str(execution.status)]
    if execution.message:
        kind = f" ({execution.fault_kind})" if execution.fault_kind else ""
        parts.append(f"{execution.message}{kind}")
    parts += [
        f"{finding.severity} by {finding.rule or finding.kind}, line {finding.line}"
        for finding in execution.findings
    ]
    layer = "nobody"
    if execution.status is Status.OK:
        layer = "its own workflow"
    elif execution.fallback_answer is not None:
        layer = "the fixed workflow"
    calls = [*execution.calls, *execution.fallback_calls]
    tiers = ", ".join(dict.fromkeys(tier for call in calls for tier in call.tiers))
    parts.append(f"answered by {layer}" + (f" and {tiers}" if tiers else ""))
    usage = execution.usage + execution.fallback_usage
    parts.append(f"{usage.calls} calls, ${usage.cost_usd:.6f}, {execution.seconds:.2f} s")
    return "; ".join(parts)
