"""Scorers of a user's own: the documented example as it stands, and every way to get one wrong."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.own_scorers import ask_own_scorer, load_scorers
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings

PAGE = Path(__file__).parents[2] / "docs" / "scoring.md"
TRIVIA = Problem("t/1", "Trivia", "qa", "Who?", "Ada", alternatives=("Ada Lovelace",))
FAULTS = """
VALUE = 1
class Scorer:
    pass
def one(answer): return 1
def number(problem, answer): return 0.25
def right(problem, answer): return answer == problem.answer
def whole(problem, answer): return 1
def score(problem, answer):
    from aflow_grpo.records import Score
    return Score(1.0, True, "mine", {"f1": 2.0})
async def later(problem, answer): return True
def nothing(problem, answer): return None
def text(problem, answer): return "1"
def too_much(problem, answer): return 1.5
def below(problem, answer): return -0.1
def nan(problem, answer): return float("nan")
def raises(problem, answer): return 1 / 0
async def raises_later(problem, answer): raise KeyError("gold")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path, for modules that are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def judge(path: str, answer: str = "Ada") -> Score:
    scorer = load_scorers({"trivia": path})["trivia"]
    return asyncio.run(ask_own_scorer(scorer, TRIVIA, answer))


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found[0])


def test_the_documented_example_works_as_it_stands(module: Path) -> None:
    (module / "my_scorers.py").write_text(block("python"), encoding="utf-8")
    settings = ScoringSettings(**yaml.safe_load(block("yaml"))["rollout"]["scoring"])

    async def scores() -> list[Score]:
        async with Sandbox(workers=1) as sandbox, ScorerSet(sandbox, settings) as scorers:
            return [await scorers.score(TRIVIA, text) for text in ("ada lovelace", "Bob", None)]

    right, wrong, none = asyncio.run(scores())
    assert (right.value, right.correct, right.measures) == (1.0, True, {"length": 0.12})
    assert (wrong.value, wrong.correct) == (0.0, False)
    assert none == Score(0.0, False, "no answer")


@pytest.mark.parametrize(
    ("name", "value", "correct"),
    [
        ("number", 0.25, False),
        ("right", 1.0, True),
        ("whole", 1.0, True),
        ("later", 1.0, True),
    ],
)
def test_what_a_scorer_may_give(module: Path, name: str, value: float, correct: bool) -> None:
    (module / "my_faults.py").write_text(FAULTS)
    score = judge(f"my_faults.{name}")
    assert (score.value, score.correct) == (value, correct)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nothing", "the scorer gave NoneType None, expected a Score, a number"),
        ("text", "the scorer gave str 1, expected a Score"),
        ("too_much", "gave value 1.5, expected a finite number in"),
        ("below", "gave value -0.1, expected"),
        ("nan", "gave value nan, expected"),
        ("score", "gave f1 2.0, expected"),
        ("raises", "the scorer raised ZeroDivisionError: division by zero. Mend the function"),
        ("raises_later", "the scorer raised KeyError: 'gold'. Mend"),
    ],
)
def test_a_fault_of_the_scorer_is_not_a_wrong_answer(module: Path, name: str, found: str) -> None:
    (module / "my_faults.py").write_text(FAULTS)
    with pytest.raises(ConfigError, match=re.escape(found)) as caught:
        judge(f"my_faults.{name}")
    assert str(caught.value).startswith("rollout.scoring.scorers.Trivia, problem 't/1': ")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("scorer", "'scorer' is no import path; expected module.function"),
        ("my_absent.f", "The module's folder must be on the Python path"),
        ("my_faults.absent", "found nothing called 'absent' in my_faults, expected a function"),
        ("my_faults.VALUE", "found int called 'VALUE' in my_faults, expected a function"),
        ("my_faults.Scorer", "found type called 'Scorer' in my_faults, expected a function"),
        ("my_faults.one", "takes (answer), expected (problem, answer); change its parameters"),
        ("my_broken.f", "importing my_broken raised ZeroDivisionError"),
    ],
)
def test_a_path_that_leads_to_no_scorer(module: Path, path: str, found: str) -> None:
    (module / "my_faults.py").write_text(FAULTS)
    (module / "my_broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=re.escape(found)) as caught:
        load_scorers({"trivia": path})
    assert str(caught.value).startswith(f"rollout.scoring.scorers.trivia: {path!r}")


def test_two_keys_for_one_dataset(module: Path) -> None:
    (module / "my_faults.py").write_text(FAULTS)
    with pytest.raises(ConfigError, match="'Trivia' names a dataset twice"):
        load_scorers({"trivia": "my_faults.number", "Trivia": "my_faults.right"})


def test_own_scorer_comes_before_both_profiles_and_needs_no_gold(module: Path) -> None:
    (module / "my_faults.py").write_text(FAULTS)
    problem = Problem("g/1", "GSM8K", "math", "How many?", "")

    async def value(profile: str) -> float:
        settings = ScoringSettings(profile, {"gsm8k": "my_faults.number"})  # type: ignore[arg-type]
        async with Sandbox(workers=1) as sandbox, ScorerSet(sandbox, settings) as scorers:
            return (await scorers.score(problem, "7")).value

    assert [asyncio.run(value(profile)) for profile in ("strict", "aflow")] == [0.25, 0.25]
