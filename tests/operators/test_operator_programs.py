"""Programmer and Test: scripted replies, real programs in the real sandbox."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.operators import programs
from aflow_grpo.operators.base import Operator
from aflow_grpo.operators.programs import Programmer, plain_text
from aflow_grpo.records import Problem, Usage
from aflow_grpo.sandbox.pool import Sandbox

PROBLEM = Problem(
    "c/1",
    "sample",
    "code",
    "Write add(a, b).",
    "",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3", "assert candidate(0, 0) == 0"),
    hidden_tests=("assert add(2, 3) == 5",),
)
GOOD = "def add(a, b):\n    return a + b"
BAD = "def add(a, b):\n    return a - b"


class Talk:
    """Runs an operator against scripted replies and keeps the requests."""

    def __init__(self, runner: asyncio.Runner, operator: Operator) -> None:
        self._runner = runner
        self._operator = operator
        self.requests: list[Request] = []

    def run(self, *replies: str, **arguments: Any) -> Mapping[str, str | bool]:
        async def ask(request: Request) -> Reply:
            self.requests.append(request)
            return Reply(replies[min(len(self.requests), len(replies)) - 1], Usage(calls=1))

        return self._runner.run(self._operator(LLMSession(ask, seed=1), **arguments))


@pytest.fixture
def programmer(runner: asyncio.Runner, sandbox: Sandbox) -> Talk:
    return Talk(runner, Programmer(sandbox, timeout_s=1.0))


def mender(runner: asyncio.Runner, sandbox: Sandbox, problem: Problem = PROBLEM) -> Talk:
    return Talk(runner, programs.Test(sandbox, problem.visible, timeout_s=1.0))


def block(code: str) -> str:
    return f"```python\n{code}\n```"


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("return 18", "18"),
        ("return 36 / 2", "18"),
        ("return 0.1 + 0.2", "0.30000000000000004"),
        ("return 1e-5", "0.00001"),
        ("return ' Paris '", "Paris"),
        ("return True", "True"),
        ("return (1, 2.0)", "(1, 2)"),
        ("from fractions import Fraction; return Fraction(1, 2)", "1/2"),
        ("print('thinking'); return 5", "5"),
        ("import sympy; return sympy.Rational(1, 2)", "1/2"),
        ("import sympy; return sympy.solve('x**2 - 2')", "[-sqrt(2), sqrt(2)]"),
        ("import sympy; return sympy.Float('2.5')", "2.5"),
        ("from decimal import Decimal; return [Decimal('18.0'), None]", "[18, None]"),
        ("return {'a': 1}", "{'a': 1}"),
    ],
)
def test_programmer_returns_code_and_output(programmer: Talk, body: str, output: str) -> None:
    code = f"def solve():\n    {body}"
    assert programmer.run(block(code), problem="p") == {"code": code, "output": output}
    assert len(programmer.requests) == 1


def test_programmer_gets_its_error_back_and_mends_it(programmer: Talk) -> None:
    bad, good = "def solve():\n    return 1 / 0", "def solve():\n    return 7"
    result = programmer.run(block(bad), block(good), problem="p", analysis="divide")
    assert result == {"code": good, "output": "7"}
    first, second = programmer.requests
    assert "<analysis>\ndivide\n</analysis>" in first.prompt
    assert "<failure>" not in first.prompt
    assert f"<solution>\n{bad}\n</solution>" in second.prompt
    assert "ZeroDivisionError" in second.prompt.split("<failure>")[1]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (block("def solve():\n    return 1 / 0"), "ZeroDivisionError"),
        (block("def solve():\n    return x"), "NameError"),
        (block("def solve(:\n"), "SyntaxError"),
        (block("answer = 5"), "solve"),
        (block("def solve():\n    print(5)"), "returned None"),
        (block("def solve():\n    return input()"), "Error"),
        (block("raise RuntimeError('at import')"), "at import"),
        ("I would rather not write code.", "no Python program"),
    ],
)
def test_programmer_says_error_after_three_attempts(
    programmer: Talk, reply: str, error: str
) -> None:
    result = programmer.run(reply, problem="p")
    assert len(programmer.requests) == 3
    output = result["output"]
    assert isinstance(output, str)
    assert output.startswith("Error: ")
    assert error in output


@pytest.mark.parametrize("body", ["return solve", "return (i for i in 'ab')", "return object()"])
def test_programmer_takes_no_object_for_an_answer(programmer: Talk, body: str) -> None:
    result = programmer.run(block(f"def solve():\n    {body}"), problem="p")
    assert str(result["output"]).startswith("Error: ")
    assert "it must return the answer" in str(result["output"])


def test_programmer_survives_an_endless_loop(programmer: Talk) -> None:
    loop, good = "def solve():\n    while True: pass", "def solve():\n    return 1"
    assert programmer.run(block(loop), block(good), problem="p")["output"] == "1"


def test_programmer_cannot_read_the_environment_or_spell_its_way_out(programmer: Talk) -> None:
    spelled = "def solve():\n    return dict(__import__('o' + 's').environ)"
    output = programmer.run(block(spelled), problem="p")["output"]
    assert isinstance(output, str)
    assert "PATH" not in output
    assert "HOME" not in output


def test_programs_leave_nothing_behind(programmer: Talk, runner: asyncio.Runner) -> None:
    code = "import builtins\nbuiltins.leaked = 1\ndef solve():\n    return 1"
    programmer.run(block(code), problem="p")
    assert not hasattr(builtins, "leaked")
    after = "def solve():\n    return 'leaked' in dir(__builtins__) or 'leaked' in globals()"
    programmer.requests.clear()
    assert programmer.run(block(after), problem="p")["output"] == "False"


def test_test_passes_good_code_without_asking(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    talk = mender(runner, sandbox)
    result = talk.run("unused", problem="p", solution=block(GOOD), entry_point="add")
    assert result == {"result": True, "solution": GOOD}
    assert result["result"] is True
    assert talk.requests == []


def test_test_has_failing_code_mended(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    talk = mender(runner, sandbox)
    result = talk.run(block(GOOD), problem="p", solution=BAD, entry_point="add")
    assert result == {"result": True, "solution": GOOD}
    (request,) = talk.requests
    assert f"<solution>\n{BAD}\n</solution>" in request.prompt
    assert "add(1, 2) == 3" in request.prompt.split("<failure>")[1]


def test_hidden_tests_never_reach_the_executor(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    talk = mender(runner, sandbox)
    talk.run(block(BAD), problem="p", solution=BAD, entry_point="add")
    assert len(talk.requests) == 3
    for request in talk.requests:
        assert "add(2, 3)" not in request.prompt + request.system


@pytest.mark.parametrize(
    ("loop", "rounds"), [(0, 0), (1, 1), (3, 3), (99, 3), (-5, 0), (2.0, 2), (None, 3)]
)
def test_test_loop_is_clamped(
    runner: asyncio.Runner, sandbox: Sandbox, loop: Any, rounds: int
) -> None:
    talk = mender(runner, sandbox)
    result = talk.run(block(BAD), problem="p", solution=BAD, entry_point="add", test_loop=loop)
    assert result == {"result": False, "solution": BAD}
    assert len(talk.requests) == rounds


def test_test_loop_that_is_no_number_is_the_workflows_fault(
    runner: asyncio.Runner, sandbox: Sandbox
) -> None:
    for loop in ("many", "2", 1.5, [3], float("nan"), float("inf")):
        with pytest.raises(WorkflowFault, match=r"'test_loop' is .*; expected int"):
            mender(runner, sandbox).run(
                "", problem="p", solution=GOOD, entry_point="add", test_loop=loop
            )


def test_reply_without_code_keeps_the_solution(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    talk = mender(runner, sandbox)
    result = talk.run("It looks fine to me.", problem="p", solution=BAD, entry_point="add")
    assert result == {"result": False, "solution": BAD}


@pytest.mark.parametrize(
    ("solution", "passes"),
    [(GOOD, True), ("add = 3", False), ("def sub(): pass", False), ("def add(a, b:", False)],
)
def test_without_public_tests_the_entry_point_is_checked(
    runner: asyncio.Runner, sandbox: Sandbox, solution: str, passes: bool
) -> None:
    problem = dataclasses.replace(PROBLEM, public_tests=())
    talk = mender(runner, sandbox, problem)
    result = talk.run("no code", problem="p", solution=solution, entry_point="add", test_loop=0)
    assert result == {"result": passes, "solution": solution}


def test_unknown_entry_point_is_a_failed_test_not_a_crash(
    runner: asyncio.Runner, sandbox: Sandbox
) -> None:
    problem = dataclasses.replace(PROBLEM, public_tests=(), entry_point="")
    for name in ("nobody", "add) or print(1", ""):
        talk = mender(runner, sandbox, problem)
        result = talk.run("", problem="p", solution=GOOD, entry_point=name, test_loop=0)
        assert result["result"] is False


def test_setup_runs_before_the_public_tests(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    problem = dataclasses.replace(
        PROBLEM, test_setup="import math", public_tests=("assert add(1, 2) == math.floor(3.5)",)
    )
    result = mender(runner, sandbox, problem).run("", problem="p", solution=GOOD, entry_point="add")
    assert result["result"] is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18.0, "18"),
        (-0.0, "0"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (2.50, "2.5"),
        (float("inf"), "Infinity"),
        (Decimal("3.1400"), "3.14"),
        (Decimal("1e999999"), "1E+999999"),
        (Fraction(4, 2), "2"),
        ([1.0, "a", (2.5,)], "[1, a, (2.5)]"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_plain_text_by_hand(value: Any, text: str) -> None:
    assert plain_text(value) == text


def test_number_with_thousands_of_digits_is_no_crash() -> None:
    assert plain_text(10**5000) == "a number with thousands of digits"
