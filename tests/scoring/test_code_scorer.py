"""Programs really run: what passes for one, which tests decide, AFlow's way to a program."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.code_aflow import sanitised, score_code_aflow
from aflow_grpo.scoring.code_scorer import score_code

ADD = Problem(
    "c/1",
    "mbpp",
    "code",
    "Write add(a, b).",
    "def add(a, b):\n    return a + b",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3",),
    hidden_tests=("assert add(2, 3) == 5", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"),
)
RIGHT = "def add(a, b):\n    return a + b"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def sandbox(runner: asyncio.Runner) -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    runner.run(sandbox.start())
    yield sandbox
    runner.run(sandbox.aclose())


def both(runner: asyncio.Runner, sandbox: Sandbox, answer: str) -> tuple[Score, Score]:
    """The scores of both profiles."""
    return (
        runner.run(score_code(ADD, answer, sandbox, timeout_s=2.0)),
        runner.run(score_code_aflow(ADD, answer, sandbox, timeout_s=2.0)),
    )


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        f"Here it is:\n```python\n{RIGHT}\n```\nIt adds.",
        f"```\n{RIGHT}\n```",
        f"```python\n{RIGHT}",
        "def helper(a, b):\n    return a + b\ndef add(a, b):\n    return helper(a, b)",
        "import operator\nOP = operator.add\ndef add(a, b):\n    return OP(a, b)",
        "class Adder:\n    def run(self, a, b):\n        return a + b\n"
        "def add(a, b):\n    return Adder().run(a, b)",
    ],
)
def test_right_programs(runner: asyncio.Runner, sandbox: Sandbox, answer: str) -> None:
    for score in both(runner, sandbox, answer):
        assert (score.value, score.correct) == (1.0, True), score.detail
        assert score.measures == {"tests_passed": 1.0}


@pytest.mark.parametrize(
    ("code", "share"),
    [
        ("def add(a, b):\n    return a - b", 1 / 3),  # 0 - 0 == 0
        ("def add(a, b):\n    return abs(a) + b", 2 / 3),
        ("def sub(a, b):\n    return a + b", 0.0),
        ("def add(a, b):\n    raise ValueError", 0.0),
        ("def add(a, b:\n", 0.0),
        ("def add(a, b):\n    while True: pass", 0.0),
        ("import sys; sys.exit(0)", 0.0),
        ("class T:\n    def __eq__(self, other): return True\ndef add(a, b): return T()", 0.0),
        ("assert add(2, 3) == 5", 0.0),
        ("def add(a, b):\n    return 3", 0.0),  # passes the public test alone
    ],
)
def test_tests_really_run(
    runner: asyncio.Runner, sandbox: Sandbox, code: str, share: float
) -> None:
    for score in both(runner, sandbox, f"```python\n{code}\n```"):
        assert (score.value, score.correct) == (0.0, False), score.detail
        assert score.measures["tests_passed"] == pytest.approx(share), score.detail


@pytest.mark.parametrize(
    "answer",
    [
        "The function add(a, b) returns the sum of a and b, as def add says.",
        "add",
        "'def add(a, b): return a + b'",
        '"""def add(a, b):\n    return a + b"""\ndef add(a, b):\n    return 0',
        "# def add(a, b): return a + b",
        "5",
    ],
)
def test_function_name_in_text_is_no_program(
    runner: asyncio.Runner, sandbox: Sandbox, answer: str
) -> None:
    for score in both(runner, sandbox, answer):
        assert score.value == 0.0, score.detail


@pytest.mark.parametrize(
    "answer", ["", "  \n", "```python\n```", "I cannot write this function.", ADD.question]
)
def test_empty_refusal_and_the_question_itself_score_zero(
    runner: asyncio.Runner, sandbox: Sandbox, answer: str
) -> None:
    for score in both(runner, sandbox, answer):
        assert score.value == 0.0, score.detail


def test_a_public_test_that_fails_makes_it_wrong(runner: asyncio.Runner, sandbox: Sandbox) -> None:
    """Of MBPP's tests one is public: a program that fails it is no solution."""
    code = "def add(a, b):\n    return 0 if (a, b) == (1, 2) else a + b"
    for score in both(runner, sandbox, code):
        assert (score.value, score.measures["tests_passed"]) == (0.0, 1.0)
        assert "a public one fails" in score.detail


def test_public_examples_of_humaneval_do_not_count(
    runner: asyncio.Runner, sandbox: Sandbox
) -> None:
    problem = dataclasses.replace(ADD, dataset="HumanEval", public_tests=("assert add(1, 2) == 4",))
    assert runner.run(score_code(problem, RIGHT, sandbox)).correct


def test_aflow_drops_what_the_entry_point_does_not_need() -> None:
    code = (
        "import os\nX = 1\nY = 2\nprint('hello')\ndef other():\n    pass\ndef f():\n    return X\n"
    )
    assert sanitised(code, "f") == "import os\nX = 1\ndef f():\n    return X"
    assert sanitised(code, "g") == "import os"


def test_aflow_finds_the_program_in_running_text() -> None:
    text = f"Sure, here you are!\n\n{RIGHT}\n\nThis adds both numbers, doesn't it?"
    assert sanitised(text, "add") == RIGHT


@given(st.text(max_size=300))
def test_any_text_can_be_sanitised(text: str) -> None:
    compile(sanitised(text, "f"), "sanitised", "exec", dont_inherit=True)


def test_hostile_texts_cost_little_time() -> None:
    started = time.process_time()
    for text in ("x = (\n" * 5_000, "a\n" * 40_000, "```\n" * 20_000, "(" * 90_000):
        sanitised(text, "f")
    assert time.process_time() - started < 20
