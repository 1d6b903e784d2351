"""Runs `assert` tests against a candidate without ever showing it the expected values.

The host takes each test apart (the tests are ours, the candidate is not parsed here): one job runs
the candidate and evaluates only the calls of the entry point; a second job, with no line of the
candidate in it, evaluates the assertions with the calls replaced by the values that came back. So
neither `__eq__` that is always true nor a forged report passes: the candidate can only answer.

Tests that cannot be taken apart (several statements, calls that use a variable of a comprehension
around them) are judged by `replay`, to the same end.

It does not cover: what a call does to its arguments, printing, and object identity (nothing of it
crosses); values of types that do not cross (`values.py`). In a plain `assert` every call is
evaluated exactly once, also where `and`, `or` or a conditional would have skipped it.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.sandbox.replay import replay
from aflow_grpo.sandbox.results import Job, SandboxResult, Value, not_run

__all__ = ["Verdict", "judge"]

_ALIAS = "candidate"
_PREFIX = "__judged_value_"
_MATERIALISING = {"list", "tuple", "set", "frozenset", "dict", "sorted", "sum", "next"}
"""Evaluated with the call they wrap: an iterator cannot cross, what they make of it can."""
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MAX_SHOWN = 300


@dataclass(frozen=True)
class Verdict:
    """How a candidate did."""

    passed: tuple[bool, ...]
    """One per test."""
    messages: tuple[str, ...]
    """One per test: the test and what the calls gave; empty where it passed."""
    error: str = ""
    """Why no test could run: the candidate's own code failed; empty otherwise."""

    @property
    def all_passed(self) -> bool:
        """Every test passed, and there was at least one."""
        return bool(self.passed) and all(self.passed)


class _NotPlain(ValueError):
    """A test that cannot be split into calls and an assertion."""


@dataclass
class _Split(ast.NodeTransformer):
    """Replaces the outermost calls of the entry point by names; keeps the calls."""

    entry_point: str
    first: int
    """Number of the first value: numbers run through all tests."""
    calls: list[str] = field(default_factory=list)
    bound: frozenset[str] = frozenset()
    """Variables of the lambdas and comprehensions around."""

    def _is_target(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in (self.entry_point, _ALIAS):
            return True
        whole = name in _MATERIALISING and len(node.args) == 1 and not node.keywords
        return whole and self._is_target(node.args[0])

    def visit(self, node: ast.AST) -> Any:
        """Replace a call; give up where the test must run to know it."""
        if self._is_target(node):
            if self.bound & _names(node):
                raise _NotPlain
            self.calls.append(ast.unparse(_Renamed(self.entry_point).visit(node)))
            name = f"{_PREFIX}{self.first + len(self.calls) - 1}"
            return ast.Name(name, ast.Load())
        if isinstance(node, ast.Name) and node.id in (self.entry_point, _ALIAS):
            raise _NotPlain
        outside = self.bound
        if isinstance(node, _SCOPES):
            self.bound |= _bound_names(node)
        node = self.generic_visit(node)
        self.bound = outside
        return node


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _bound_names(scope: ast.AST) -> set[str]:
    """Names that a lambda's parameters or a comprehension's loops bind."""
    arguments = {part.arg for part in ast.walk(scope) if isinstance(part, ast.arg)}
    parts = (part for part in ast.walk(scope) if isinstance(part, ast.Name))
    return arguments | {part.id for part in parts if isinstance(part.ctx, ast.Store)}


@dataclass
class _Renamed(ast.NodeTransformer):
    """Turns `candidate` into the entry point's name."""

    entry_point: str

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.entry_point, node.ctx) if node.id == _ALIAS else node


@dataclass(frozen=True)
class _Test:
    """One test, taken apart; or the reason why it could not be."""

    text: str
    calls: tuple[str, ...] = ()
    assertion: str = ""
    first: int = 0
    plain: bool = True
    """One `assert` that could be taken apart; others are replayed."""
    problem: str = ""


def _parse(text: str) -> list[ast.stmt]:
    """The statements of trusted test code, without its warnings (stray backslashes)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text).body


def _split(test: str, entry_point: str, first: int) -> _Test:
    text = test.strip()
    try:
        body = _parse(text)
        asserts = any(isinstance(part, ast.Assert) for top in body for part in ast.walk(top))
        if not asserts:
            return _Test(text, problem="the test holds no assert statement")
        if len(body) != 1 or not isinstance(body[0], ast.Assert):
            raise _NotPlain
        splitter = _Split(entry_point, first)
        assertion = ast.unparse(splitter.visit(body[0].test))
    except _NotPlain:
        return _Test(text, plain=False)
    except (SyntaxError, ValueError, RecursionError) as error:
        return _Test(text, problem=f"the test does not parse: {error}")
    return _Test(text, tuple(splitter.calls), f"bool({assertion})", first)


def _split_all(tests: Sequence[str], entry_point: str) -> list[_Test]:
    """All tests taken apart; `assert True` may be among them, but not alone."""
    split: list[_Test] = []
    for test in tests:
        split.append(_split(test, entry_point, sum(len(done.calls) for done in split)))
    if any(test.calls or not test.plain for test in split):
        return split
    nothing = f"no test calls {entry_point}"
    return [replace(test, assertion="", problem=test.problem or nothing) for test in split]


def _tolerant(setup: str) -> str:
    """`setup` for the job without the candidate: what needs the candidate is left out there."""
    try:
        statements = _parse(setup)
    except (SyntaxError, ValueError, RecursionError):
        return setup
    ignore = [ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])]
    return "\n".join(ast.unparse(ast.Try([part], ignore, [], [])) for part in statements)


async def judge(
    sandbox: Sandbox,
    candidate: str,
    entry_point: str,
    tests: Sequence[str],
    *,
    setup: str = "",
    timeout_s: float | None = None,
) -> Verdict:
    """Run `tests` against `candidate`.

    Args:
        sandbox: A started sandbox.
        candidate: Untrusted code that should define `entry_point`.
        entry_point: Name of the function under test; tests may also call it `candidate`.
        tests: One `assert` statement each, or several statements with one in them.
        setup: Trusted code for the tests, e.g. imports; runs after the candidate, and alone in the
            second job, where a statement that needs the candidate is skipped. The candidate can
            read it: it must not hold expected values.
        timeout_s: Processor seconds for all calls together, and again for all assertions together;
            None for what the sandbox gives a job.

    Returns:
        The verdict; whatever the candidate does, even nothing, is a verdict.
    """
    timeout_s = sandbox.timeout_s if timeout_s is None else timeout_s
    split = _split_all(tests, entry_point)
    calls = [call for test in split for call in test.calls]
    ran = await sandbox.evaluate(f"{candidate}\n\n{setup}", calls, timeout_s=timeout_s)
    error = _candidate_error(ran, entry_point)
    if error:
        return Verdict((False,) * len(split), (error,) * len(split), error)
    checkable = [test for test in split if test.assertion and not _failed(test, ran.values)]
    checked = await _check(sandbox, setup, checkable, ran.values, timeout_s)
    outcome = dict(zip(checkable, checked.values, strict=True))
    messages = []
    for test in split:
        if test.plain:
            messages.append(_message(test, ran.values, outcome.get(test), checked))
            continue
        reason = await replay(
            sandbox,
            candidate,
            entry_point,
            test.text,
            setup=setup,
            own_setup=_tolerant(setup),
            timeout_s=timeout_s,
        )
        messages.append(f"{test.text}\n{reason}" if reason else "")
    return Verdict(tuple(not message for message in messages), tuple(messages))


async def _check(
    sandbox: Sandbox,
    setup: str,
    tests: Sequence[_Test],
    found: Sequence[Value],
    timeout_s: float,
) -> SandboxResult:
    """The tests' assertions on the values found, in a job without a line of the candidate."""
    if not tests:
        return not_run(Job("", (), timeout_s), "ok", "")
    inputs = {
        f"{_PREFIX}{number}": found[number].value
        for test in tests
        for number in range(test.first, test.first + len(test.calls))
    }
    assertions = [test.assertion for test in tests]
    return await sandbox.evaluate(_tolerant(setup), assertions, inputs=inputs, timeout_s=timeout_s)


def _candidate_error(ran: SandboxResult, entry_point: str) -> str:
    if ran.status != "ok":
        return f"the code failed before any test ({ran.status}):\n{ran.error}"
    missing = f"NameError: name '{entry_point}' is not defined"
    if ran.values and all(missing in value.error for value in ran.values):
        return f"the code defines nothing named {entry_point}"
    return ""


def _failed(test: _Test, found: Sequence[Value]) -> bool:
    return not all(value.ok for value in found[test.first : test.first + len(test.calls)])


def _message(
    test: _Test, found: Sequence[Value], outcome: Value | None, checked: SandboxResult
) -> str:
    """Empty when the test passed; else the test, what the calls gave, and what went wrong."""
    if outcome is not None and outcome.ok and outcome.value is True:
        return ""
    lines = [test.text]
    if test.problem:
        lines.append(test.problem)
    for call, value in zip(test.calls, found[test.first :], strict=False):
        lines.append(f"{call} returned {_shown(value.value)}" if value.ok else _raised(call, value))
    if outcome is not None and not outcome.ok:
        why = checked.error if checked.status != "ok" else outcome.error
        lines.append(f"the comparison failed: {why}")
    return "\n".join(lines)


def _raised(call: str, value: Value) -> str:
    if value.error.startswith("unsupported type"):
        return f"{call} returned a value of {value.error}, which cannot be compared"
    return f"{call} failed: {value.error}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"a {type(value).__name__} too big to show"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
