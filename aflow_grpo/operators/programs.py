"""The operators that run code: Programmer and Test. What they run is the model's, so it runs in
the sandbox, never here, and may fail in any way without failing the workflow.

Not covered: isolation and verdicts (`sandbox`). Test sees the problem's public tests only; the
hidden ones, which decide the reward, never reach the executor.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aflow_grpo.operators.base import LLM, Arguments, Operator, Result, Surroundings, contract
from aflow_grpo.operators.prompts import mend_prompt, program_prompt
from aflow_grpo.records import VisibleProblem
from aflow_grpo.sandbox.code_text import extract_code
from aflow_grpo.sandbox.judge import Verdict, judge
from aflow_grpo.sandbox.pool import Sandbox

__all__ = ["Programmer", "Test", "plain_text"]

_ATTEMPTS = 3
_MOST_ROUNDS = 3
_MAX_OUTPUT_CHARS = 10_000
_MAX_FAILURE_CHARS = 2_000
_MAX_DIGITS = 400
_TELL = """
def _told_answer(value):
    if isinstance(value, list):
        return [_told_answer(item) for item in value]
    if isinstance(value, tuple):
        return tuple([_told_answer(item) for item in value])
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value).__name__ == "Decimal":
        return value
    if getattr(value, "is_Float", False):
        return float(value)
    text = str(value)
    if text.startswith("<"):
        raise TypeError("solve() returned " + text + "; it must return the answer")
    return text
"""
"""Runs with the program: objects that do not leave the sandbox (sympy's) do so as their text."""


class Programmer(Operator):
    """Writes `solve()`, runs it, returns the program and what it computed.

    A program that fails is sent back with its error, three attempts in all; after the last one
    `output` is the error, as `Error: ...`.

    Args:
        sandbox: Where the programs run.
        timeout_s: Most processor seconds for one program; None: the sandbox's.
    """

    spec = contract("programmer")

    def __init__(self, sandbox: Sandbox, *, timeout_s: float | None = None) -> None:
        self._sandbox = sandbox
        self._timeout_s = timeout_s

    @classmethod
    def build(cls, surroundings: Surroundings) -> Programmer:
        """In the execution's sandbox."""
        return cls(surroundings.sandbox)

    async def run(self, llm: LLM, given: Arguments) -> Result:
        analysis = given.text("analysis")
        analysis = "" if analysis.strip() == "None" else analysis
        code, failure = "", ""
        for _ in range(_ATTEMPTS):
            prompt = program_prompt(
                given.text("problem"),
                analysis,
                given.text("instruction"),
                solution=code,
                failure=failure,
            )
            reply = await llm(prompt.user, system=prompt.system)
            code = extract_code(reply) or ""
            output, failure = await self._execute(code)
            if not failure:
                return {"code": code, "output": output}
        return {"code": code, "output": f"Error: {failure}"}

    async def _execute(self, code: str) -> tuple[str, str]:
        """What `solve()` returns as text, and what went wrong; one of the two is empty."""
        if not code:
            return "", "the reply holds no Python program"
        told = f"{code}\n{_TELL}"
        result = await self._sandbox.evaluate(
            told, ["_told_answer(solve())"], timeout_s=self._timeout_s
        )
        value = result.values[0]
        if not value.ok:
            return "", _shortened(result.error or value.error)
        if value.value is None:
            return "", "solve() returned None; it must return the answer"
        return plain_text(value.value)[:_MAX_OUTPUT_CHARS], ""


class Test(Operator):
    """Runs code on the problem's public tests and has it mended while they fail.

    `result` is True only when the returned code was run and passed. A problem without public
    tests is checked for defining its entry point.

    Args:
        sandbox: Where the code runs.
        problem: Its public tests, test setup and entry point.
        timeout_s: Most processor seconds for all public tests of one candidate; None: the
            sandbox's.
    """

    __test__ = False  # the name is AFlow's; this is nothing for pytest to collect
    spec = contract("test")

    def __init__(
        self, sandbox: Sandbox, problem: VisibleProblem, *, timeout_s: float | None = None
    ) -> None:
        self._sandbox = sandbox
        self._problem = problem
        self._timeout_s = timeout_s

    @classmethod
    def build(cls, surroundings: Surroundings) -> Test:
        """In the execution's sandbox, with the problem's public tests."""
        return cls(surroundings.sandbox, surroundings.problem)

    async def run(self, llm: LLM, given: Arguments) -> Result:
        entry_point = self._problem.entry_point or given.text("entry_point")
        solution = given.text("solution")
        code = extract_code(solution) or solution
        failure = await self._failure(code, entry_point)
        for _ in range(max(0, min(given.number("test_loop"), _MOST_ROUNDS))):
            if not failure:
                break
            prompt = mend_prompt(
                given.text("problem"), entry_point, code, failure, given.text("instruction")
            )
            mended = extract_code(await llm(prompt.user, system=prompt.system))
            if mended is not None and mended != code:
                code = mended
                failure = await self._failure(code, entry_point)
        return {"result": not failure, "solution": code}

    async def _failure(self, code: str, entry_point: str) -> str:
        """What the public tests say is wrong with the code; empty when they pass."""
        if not self._problem.public_tests:
            return await self._undefined(code, entry_point)
        verdict = await judge(
            self._sandbox,
            code,
            entry_point,
            self._problem.public_tests,
            setup=self._problem.test_setup,
            timeout_s=self._timeout_s,
        )
        return "" if verdict.all_passed else _shortened(_complaints(verdict))

    async def _undefined(self, code: str, entry_point: str) -> str:
        if not entry_point.isidentifier():
            return f"the entry point {entry_point[:80]!r} is no function name"
        result = await self._sandbox.evaluate(
            code, [f"callable({entry_point})"], timeout_s=self._timeout_s
        )
        value = result.values[0]
        if value.ok and value.value is True:
            return ""
        no_function = f"{entry_point} is no function"
        return _shortened(result.error or value.error or no_function)


def _complaints(verdict: Verdict) -> str:
    told = [message for message in verdict.messages if message]
    return "\n".join(dict.fromkeys([verdict.error, *told] if verdict.error else told)) or (
        "the tests fail"
    )


def _shortened(text: str) -> str:
    """The end of a long error, where the cause stands."""
    return text if len(text) <= _MAX_FAILURE_CHARS else "..." + text[-_MAX_FAILURE_CHARS:]


def plain_text(value: Any) -> str:
    """A computed value as a person would write it: `18.0` as 18, `0.1` as 0.1, never `1e-05`."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (list, tuple)):
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        return opening + ", ".join(plain_text(item) for item in value) + closing
    try:
        if isinstance(value, (float, Decimal)):
            return _plain_decimal(Decimal(repr(value)) if isinstance(value, float) else value)
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number with thousands of digits"


def _plain_decimal(number: Decimal) -> str:
    if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
        return str(number)
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
