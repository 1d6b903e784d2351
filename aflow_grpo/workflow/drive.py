"""Drives one workflow's session from suspension to suspension; operator calls go in rounds.

See `interpreter` for why rounds. Nothing here knows of pools or of what operators do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pydantic_monty import (
    AsyncFunctionSnapshot,
    AsyncMontySession,
    AsyncNameLookupSnapshot,
    AsyncSnapshot,
    ExternalSettledResult,
    MontyComplete,
)

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.adapter import Adapted
from aflow_grpo.workflow.binding import BindError, bind_arguments
from aflow_grpo.workflow.contract import OperatorSet
from aflow_grpo.workflow.limits import InterpreterLimits
from aflow_grpo.workflow.prelude import (
    HOST_FUNCTION,
    SYNTAX_FUNCTION,
    all_prompts_code,
    operator_names,
    prelude_code,
)
from aflow_grpo.workflow.syntax import SourceError, parse_source

__all__ = ["CallOperator", "Drive", "GetCost", "Program", "Stopped"]

CallOperator = Callable[[int, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Makes one operator call: (index of the call in the workflow, operator's attribute, arguments by
name with defaults filled in, and `instruction` where `prompts` gives one) -> the result by key."""

GetCost = Callable[[], float]
"""The workflow's list cost so far, in USD."""

_RETURNED = {
    "not_a_pair": "`__call__` returned a {}; expected (answer, cost)",
    "not_text": "the answer is a {}; expected text or a number",
}

_MAX_MESSAGE_CHARS = 300
_SECRETS = (
    (re.compile(r"\b\w+://\S+"), "<address>"),
    (re.compile(r"(?<![\w/])~?(?:/[\w.@+-]+){2,}/?|\b[A-Za-z]:\\\S+"), "<path>"),
    (re.compile(r"\b(?:sk|pk|rk|key|hf|ghp|glpat)[-_][\w-]{8,}|\bBearer\s+\S+"), "<key>"),
)
"""What a message of the host must not carry into a workflow -> what stands there instead."""


class Stopped(Exception):
    """The host ended the run; caught by the interpreter.

    Args:
        fault: Why.
    """

    def __init__(self, fault: Finding) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Program(NamedTuple):
    """What the interpreter is fed after the prelude."""

    adapted: Adapted
    """The workflow's own code as the interpreter takes it."""
    driver: str
    """Creates the workflow and awaits it."""
    all_prompts: bool
    """Whether the code imports every name of its prompt file."""


class _Call(NamedTuple):
    """An operator call that the program has made and waits for."""

    number: int
    attribute: str
    arguments: dict[str, Any]


class Drive:
    """One run of one workflow in one session.

    Args:
        session: A fresh session of the interpreter.
        limits: What the workflow may use.
        prompts: The workflow's prompts.
        call_operator: Makes the operator calls.
        get_cost: Read after each round of calls.
        operators: The operators that exist.
    """

    def __init__(
        self,
        session: AsyncMontySession,
        limits: InterpreterLimits,
        prompts: Mapping[str, str],
        call_operator: CallOperator,
        get_cost: GetCost,
        operators: OperatorSet,
    ) -> None:
        self._session = session
        self._limits = limits
        self._prompts = {_text(name): _text(prompt) for name, prompt in prompts.items()}
        self._call_operator = call_operator
        self._get_cost = get_cost
        self._operators = operators
        self._issued = 0
        self._parsed_chars = 0
        self.calls_made = 0
        """Operator calls made so far."""
        self.operator_faults: dict[str, FaultKind] = {}
        """Message -> kind of the faults that operators raised inside the workflow."""

    async def run(self, program: Program, problem: str, entry_point: str) -> str:
        """Runs the workflow to its answer.

        Raises:
            Stopped: When a budget of the host is spent or the answer is no text.
            MontyError: Whatever the interpreter raises.
            Unavailable: From an operator.
        """
        prompts = {"_prompts": self._prompts}
        names = {"_names": operator_names(self._operators)}
        before = prelude_code(self._operators) + program.adapted.parts
        if program.all_prompts:
            before += all_prompts_code(self._prompts)
        await self._feed(before, prompts | names)
        await self._feed(program.adapted.code, {})
        inputs = prompts | {"_problem": _text(problem), "_entry_point": entry_point}
        return self._answer(await self._feed(program.driver, inputs))

    def _answer(self, output: Any) -> str:
        """The answer in the driver's output, which a workflow that redefines its parts may forge.

        Raises:
            Stopped: When there is no answer in it.
        """
        match output:
            case ["answer", str(text)] if len(text) <= self._limits.max_answer_chars:
                return text
            case ["too_long", str(detail)]:
                most = self._limits.max_answer_chars
                message = f"the answer has {detail[:20]} characters; at most {most} are taken"
                raise Stopped(Finding(FaultKind.OUTPUT_LIMIT, message))
            case [str(kind), str(detail)] if kind in _RETURNED:
                raise Stopped(Finding(FaultKind.BAD_ANSWER, _RETURNED[kind].format(detail[:80])))
        raise Stopped(Finding(FaultKind.BAD_ANSWER, "the workflow's output is no answer"))

    async def _feed(self, code: str, inputs: dict[str, Any]) -> Any:
        """Runs one input to its end, answering every suspension; returns its last value."""
        waiting: dict[int, _Call] = {}
        snapshot: AsyncSnapshot = await self._session.feed_start(
            code, inputs=inputs, print_callback=_discard
        )
        while not isinstance(snapshot, MontyComplete):
            if isinstance(snapshot, AsyncFunctionSnapshot):
                snapshot = await self._on_function(snapshot, waiting)
            elif isinstance(snapshot, AsyncNameLookupSnapshot):
                snapshot = await snapshot.resume()  # no value: a NameError inside
            else:
                ready = {i: waiting.pop(i) for i in sorted(snapshot.pending_call_ids)}
                snapshot = await snapshot.resume(await self._round(ready))
        try:
            return snapshot.output
        except ValueError:  # a number of too many digits
            return None

    async def _on_function(
        self, snapshot: AsyncFunctionSnapshot, waiting: dict[int, _Call]
    ) -> AsyncSnapshot:
        """Takes note of an operator call, or refuses any other one."""
        if snapshot.is_os_function:
            return await snapshot.resume_not_handled()
        if snapshot.function_name == SYNTAX_FUNCTION:
            return await snapshot.resume({"return_value": self._syntax(snapshot)})
        if snapshot.function_name != HOST_FUNCTION:
            message = f"name '{snapshot.function_name}' is not defined"
            return await snapshot.resume({"exc_type": "NameError", "message": message})
        try:
            attribute, arguments = self._bind(snapshot)
        except BindError as error:
            return await snapshot.resume({"exc_type": "TypeError", "message": str(error)})
        if self._issued >= self._limits.max_operator_calls:
            limit = self._limits.max_operator_calls
            raise Stopped(
                Finding(FaultKind.CALL_BUDGET, f"it made more than {limit} operator calls")
            )
        waiting[snapshot.call_id] = _Call(self._issued, attribute, arguments)
        self._issued += 1
        return await snapshot.resume({"future": ...})

    def _bind(self, snapshot: AsyncFunctionSnapshot) -> tuple[str, dict[str, Any]]:
        try:
            given = snapshot.args
        except ValueError:
            raise BindError("an argument is a number with too many digits") from None
        match given:
            case (str(attribute), list(positional), dict(keywords)):
                spec = self._operators.by_attribute.get(attribute)
                if spec is not None and all(isinstance(name, str) for name in keywords):
                    limit = self._limits.max_argument_chars
                    bound = bind_arguments(spec, positional, keywords, self._prompts, limit)
                    return attribute, bound
        raise BindError(f"{HOST_FUNCTION} is not for workflows; await an operator instead")

    def _syntax(self, snapshot: AsyncFunctionSnapshot) -> list[Any] | None:
        """What is wrong with a text as Python, for a workflow that asks; never run, only parsed.

        Raises:
            Stopped: When it has asked about more text than one operator call may have.
        """
        match snapshot.args:
            case (str(text), compiled):
                self._parsed_chars += len(text)
                if self._parsed_chars > self._limits.max_argument_chars:
                    raise Stopped(Finding(FaultKind.TIME_LIMIT, "it parsed more text than allowed"))
                try:
                    parse_source(text, compiled=bool(compiled))
                except SourceError as error:
                    return [error.message, error.line]
                return None
        return ["it is no text", None]

    async def _round(self, ready: Mapping[int, _Call]) -> dict[int, ExternalSettledResult]:
        """Makes all calls of a round at once; their results in the order of the calls."""
        self.calls_made += len(ready)
        tasks = [
            asyncio.ensure_future(self._call_operator(call.number, call.attribute, call.arguments))
            for call in ready.values()
        ]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
        settled = [self._settle(task) for task in tasks]
        cost = self._get_cost()
        return {
            call_id: {"return_value": [dict(result), cost]}
            if not isinstance(result, WorkflowFault)
            else {"exc_type": "RuntimeError", "message": result.message}
            for call_id, result in zip(ready, settled, strict=True)
        }

    def _settle(self, task: asyncio.Future[Mapping[str, Any]]) -> Mapping[str, Any] | WorkflowFault:
        """A call's result or its fault; anything else that it raised propagates."""
        try:
            return task.result()
        except WorkflowFault as fault:
            message = _sanitised(fault.message)
            self.operator_faults[message] = fault.kind
            return WorkflowFault(fault.kind, message)


def _sanitised(message: str) -> str:
    """A host's message without paths, addresses, keys and anything long: policies read it."""
    for pattern, word in _SECRETS:
        message = pattern.sub(word, message)
    return message if len(message) <= _MAX_MESSAGE_CHARS else f"{message[:_MAX_MESSAGE_CHARS]}..."


def _text(text: str) -> str:
    """The text without half surrogate pairs, which the interpreter cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _discard(stream: str, text: str) -> None:
    """What a workflow prints goes nowhere."""
