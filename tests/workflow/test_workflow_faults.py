"""What a workflow does wrong while it runs: each ends in a fault with kind, message and line."""

from __future__ import annotations

import pytest
from workflow_catalogue import FAULTY, call
from workflow_host import run_all

from aflow_grpo.records import FaultKind
from aflow_grpo.workflow.interpreter import InterpreterLimits, Outcome

K = FaultKind
GATHER = "import asyncio\n"

FAULTS: dict[str, tuple[str, FaultKind, str, int | None]] = {
    "zero division": (
        call("x = 1", "y = 1 / 0", "return y, 0"),
        K.EXCEPTION,
        "division by zero",
        4,
    ),
    "key error": (
        call("r = await self.custom(problem)", "return r['x'], 0"),
        K.EXCEPTION,
        "KeyError",
        4,
    ),
    "in a helper": (
        "def f():\n    return missing\n" + call("return f(), 0"),
        K.EXCEPTION,
        "missing",
        2,
    ),
    "unknown function": (call("return nothing(1), 0"), K.EXCEPTION, "nothing", 3),
    "at import": (
        "x = 1\nraise ValueError('early')\n" + call("return 1, 0"),
        K.EXCEPTION,
        "early",
        2,
    ),
    "in init": (
        "class W:\n    def __init__(self):\n        self.x = 1 / 0\n"
        "    async def __call__(self, problem):\n        return 1, 0\n",
        K.EXCEPTION,
        "division",
        3,
    ),
    "not in the interpreter": (
        call("x = '%s' % 1", "with x:", "    pass", "return 1, 0"),
        K.EXCEPTION,
        "",
        4,
    ),
    "subclass of a builtin type": (
        "class A(dict):\n    pass\n" + call("return 1, 0"),
        K.BAD_STRUCTURE,
        "inheritance",
        1,
    ),
    "exception of its own": (
        "class Odd(ValueError): pass\n" + call("if problem:", "    raise Odd('why')"),
        K.EXCEPTION,
        "ValueError: why",
        5,
    ),
    "after rewritten lines": (
        "from typing import (\n    List,\n    Dict,\n)\nimport os\n"
        + call("x: List[int] = [", "    1,", "]", "del x[0]", "y = (", "    x[0]", ")"),
        K.EXCEPTION,
        "list index",
        13,
    ),
    "syntax": ("class W:\n  def (", K.SYNTAX_ERROR, "", 2),
    "missing argument": (
        call("await self.review(problem)", "return 1, 0"),
        K.EXCEPTION,
        "'solution'",
        3,
    ),
    "dictionary for text": (
        call("r = await self.custom(problem)", "await self.custom(r)", "return 1, 0"),
        K.EXCEPTION,
        'result["response"]',
        4,
    ),
    "empty list": (
        call("await self.sc_ensemble([])", "return 1, 0"),
        K.EXCEPTION,
        "an empty list",
        3,
    ),
    "recursion": (call("def f(): return f()", "return f(), 0"), K.RECURSION_LIMIT, "deeper", 3),
    "endless loop": (call("while True: pass"), K.TIME_LIMIT, "longer than allowed", None),
    "texts parsed without end": (
        call(
            "while True:",
            "    try: compile('x = 1\\n' * 5000, 'x', 'exec')",
            "    except Exception: pass",
        ),
        K.TIME_LIMIT,
        "parsed more text",
        None,
    ),
    "endless loop that catches": (
        call(
            "while True:", "    try:", "        while True: pass", "    except TimeoutError: pass"
        ),
        K.TIME_LIMIT,
        "longer than allowed",
        None,
    ),
    "memory": (call("return len('x' * 10 ** 9), 0"), K.MEMORY_LIMIT, "more memory", 3),
    "names without end": (
        call("while True:", "    try:", "        missing", "    except NameError: pass"),
        K.TIME_LIMIT,
        "too often",
        5,
    ),
    "call budget": (
        call("while True:", "    await self.custom(problem)"),
        K.CALL_BUDGET,
        "more than 32",
        None,
    ),
    "call budget at once": (
        GATHER
        + call("await asyncio.gather(*[self.custom('x') for _ in range(99)])", "return 1, 0"),
        K.CALL_BUDGET,
        "more than 32",
        None,
    ),
    "file": (call("return open('/etc/passwd').read(), 0"), K.EXCEPTION, "Permission", 3),
    "environment": ("import os\n" + call("return os.environ['HOME'], 0"), K.EXCEPTION, "os", 4),
    "host function by hand": (
        call("return await _host_operator('x', [], {}), 0"),
        K.EXCEPTION,
        "not for workflows",
        3,
    ),
    "host function with odd arguments": (
        call("return await _host_operator('custom', 1, 2), 0"),
        K.EXCEPTION,
        "not for workflows",
        3,
    ),
    "argument of many digits": (
        call("return await self.custom(10 ** 5000), 0"),
        K.EXCEPTION,
        "too long a number",
        3,
    ),
    "argument nested deeply": (
        call("x = []", "for _ in range(50000): x = [x]", "return await self.custom(x), 0"),
        K.EXCEPTION,
        "a list; expected text",
        5,
    ),
    "forged outcome": (
        "async def _outcome(*a): return ['answer', 10 ** 5000]\n" + call("return 1, 0"),
        K.BAD_ANSWER,
        "no answer",
        None,
    ),
    "forged kind": (
        "async def _outcome(*a): return ['what', 'ever']\n" + call("return 1, 0"),
        K.BAD_ANSWER,
        "no answer",
        None,
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    ended = run_all(
        [code for code, _, _, _ in FAULTS.values()], limits=InterpreterLimits(max_feed_s=0.3)
    )
    return dict(zip(FAULTS, ended, strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_fault_has_kind_message_and_line(name: str, outcomes: dict[str, Outcome]) -> None:
    _, kind, words, line = FAULTS[name]
    fault = outcomes[name].fault
    assert outcomes[name].answer is None
    assert fault is not None
    assert (fault.kind, fault.line) == (kind, line)
    assert words in fault.message


def test_whatever_validation_rejects_can_be_run_without_raising() -> None:
    ended = run_all([code for code, _, _ in FAULTY.values()])
    assert all((outcome.answer is None) != (outcome.fault is None) for outcome in ended)
    in_python = [
        outcome.fault.kind
        for (_, kind, _), outcome in zip(FAULTY.values(), ended, strict=True)
        if outcome.fault is not None and kind is K.SYNTAX_ERROR
    ]
    assert K.SYNTAX_ERROR in in_python
