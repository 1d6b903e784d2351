"""The scorer set, and programs that really run."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest

from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet

CODE = Problem(
    "c/1",
    "sample",
    "code",
    "Write add(a, b).",
    "",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3",),
    hidden_tests=("assert add(2, 3) == 5", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"),
)
MATH = Problem("m/1", "sample", "math", "What is 9 + 9?", "18")
QA = Problem("q/1", "sample", "qa", "Where?", "Paris", alternatives=("Paris, France",))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def scorers(runner: asyncio.Runner) -> Iterator[ScorerSet]:
    sandbox = Sandbox(workers=1)
    runner.run(sandbox.start())
    yield ScorerSet(sandbox, code_timeout_s=2.0)
    runner.run(sandbox.aclose())


def score(
    runner: asyncio.Runner, scorers: ScorerSet, problem: Problem, answer: str | None
) -> Score:
    return runner.run(scorers.score(problem, answer))


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (MATH, r"\boxed{18}"),
        (QA, "paris"),
        (QA, "Paris, France"),
        (CODE, "def add(a, b):\n    return a + b"),
        (CODE, "Here:\n```python\ndef add(a, b):\n    return a + b\n```"),
        (CODE, "def candidate(a, b):\n    return a + b\nadd = candidate"),
    ],
)
def test_right_answers_of_every_domain(
    runner: asyncio.Runner, scorers: ScorerSet, problem: Problem, answer: str
) -> None:
    assert score(runner, scorers, problem, answer).correct


@pytest.mark.parametrize("problem", [MATH, QA, CODE])
def test_no_answer_is_wrong(runner: asyncio.Runner, scorers: ScorerSet, problem: Problem) -> None:
    assert score(runner, scorers, problem, None) == Score(0.0, False, "no answer")
    assert not score(runner, scorers, problem, "").correct


@pytest.mark.parametrize(
    ("code", "value"),
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
    ],
)
def test_the_tests_really_run(
    runner: asyncio.Runner, scorers: ScorerSet, code: str, value: float
) -> None:
    result = score(runner, scorers, CODE, f"```python\n{code}\n```")
    assert not result.correct, result.detail
    assert result.value == pytest.approx(value), result.detail


def test_code_that_contains_the_gold_text_or_name_is_not_right(
    runner: asyncio.Runner, scorers: ScorerSet
) -> None:
    problem = dataclasses.replace(CODE, answer="def add(a, b):\n    return a + b")
    text = '"""def add(a, b):\n    return a + b"""\ndef add(a, b):\n    return 0'
    assert not score(runner, scorers, problem, text).correct


def test_public_tests_do_not_decide(runner: asyncio.Runner, scorers: ScorerSet) -> None:
    only_public = "def add(a, b):\n    return 3"
    assert score(runner, scorers, CODE, only_public).value == 0.0


@pytest.mark.parametrize(
    "problem",
    [
        dataclasses.replace(MATH, answer=" "),
        dataclasses.replace(QA, answer=""),
        dataclasses.replace(CODE, hidden_tests=()),
    ],
)
def test_problem_without_gold_is_an_error_of_the_data(
    runner: asyncio.Runner, scorers: ScorerSet, problem: Problem
) -> None:
    with pytest.raises(DataError, match=rf"problem '{problem.id}'.* has no"):
        score(runner, scorers, problem, "anything")
