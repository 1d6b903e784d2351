"""The scorer set, and programs that really run."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest

from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Domain, Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings

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
    scorers = ScorerSet(sandbox, ScoringSettings(code_timeout_s=2.0))
    yield scorers
    runner.run(scorers.aclose())
    runner.run(sandbox.aclose())


@pytest.fixture(scope="module")
def aflow(runner: asyncio.Runner) -> Iterator[ScorerSet]:
    sandbox = Sandbox(workers=1)
    runner.run(sandbox.start())
    scorers = ScorerSet(sandbox, ScoringSettings(profile="aflow"))
    yield scorers
    runner.run(scorers.aclose())
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
    ],
)
def test_the_tests_really_run(
    runner: asyncio.Runner, scorers: ScorerSet, code: str, share: float
) -> None:
    result = score(runner, scorers, CODE, f"```python\n{code}\n```")
    assert (result.value, result.correct) == (0.0, False), result.detail
    assert result.measures.get("tests_passed", 0.0) == pytest.approx(share), result.detail


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


@pytest.mark.parametrize(
    ("dataset", "domain", "gold", "answer", "strict", "value"),
    [
        # the last number of any text; 18 is what the text states
        ("gsm8k", "math", "18", "The answer is 18 dollars, 3 more than 15", 0.0, 0.0),
        ("gsm8k", "math", "15", "18 dollars, that is 3 more than 15", 0.0, 1.0),
        ("GSM8K", "math", "5", ".5", 0.0, 1.0),
        # LaTeX is not read
        ("math", "math", r"\frac{1}{2}", r"\boxed{\dfrac{1}{2}}", 1.0, 0.0),
        ("sample", "math", "12", r"\boxed{12 \text{ cm}}", 1.0, 0.0),
        # token F1 pays what is nearly right
        ("hotpotqa", "qa", "Paris", "The answer is Paris.", 1.0, 0.5),
        ("HotpotQA", "qa", "Paris", "Paris is large", 0.0, 0.5),
        ("drop", "qa", "20", "20 years", 1.0, 2 / 3),
        ("drop", "qa", "2|1", "1|2", 0.0, 1.0),
        ("DROP", "qa", "2|1", "1", 1.0, 1.0),
        ("hotpotqa", "qa", "20", "20 years", 0.0, 2 / 3),
    ],
)
def test_profiles_by_dataset(
    runner: asyncio.Runner,
    scorers: ScorerSet,
    aflow: ScorerSet,
    dataset: str,
    domain: Domain,
    gold: str,
    answer: str,
    strict: float,
    value: float,
) -> None:
    problem = Problem("p/1", dataset, domain, "What?", gold)
    assert score(runner, scorers, problem, answer).value == strict
    judged = score(runner, aflow, problem, answer)
    assert judged.value == pytest.approx(value)
    assert judged.correct == (value == 1.0)


def test_aflow_runs_all_tests(runner: asyncio.Runner, aflow: ScorerSet) -> None:
    assert score(runner, aflow, CODE, "Sure!\ndef add(a, b):\n    return a + b").correct
    assert score(runner, aflow, CODE, "def add(a, b):\n    return 3").value == 0.0


def test_hotpotqa_of_aflow_knows_one_gold_answer(runner: asyncio.Runner, aflow: ScorerSet) -> None:
    problem = dataclasses.replace(QA, dataset="hotpotqa", alternatives=("Rome",))
    assert score(runner, aflow, problem, "Rome").value == 0.0


def test_wrong_settings_name_key_and_value() -> None:
    with pytest.raises(ConfigError, match=r"scoring.profile is 'lenient', expected one of strict"):
        ScoringSettings(profile="lenient")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"code_timeout_s is 0, expected"):
        ScoringSettings(code_timeout_s=0)
    with pytest.raises(ConfigError, match=r"math_timeout_s is nan, expected"):
        ScoringSettings(math_timeout_s=float("nan"))
