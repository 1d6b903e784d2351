"""Problems as a person asks them: what is taken, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.data.rows import BadRow
from aflow_grpo.data.sources import DataSource
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.workbench.questions import load_problems, make_problem, read_questions


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_a_problem_has_an_id_that_its_text_decides() -> None:
    one, same = make_problem("1 + 1?"), make_problem("1 + 1?", gold="2")
    assert one.id == same.id and one.dataset == "asked" and one.answer == ""
    assert one.id != make_problem("1 + 1?", "qa").id != make_problem("1 + 1?", "qa", context="c").id


def test_code_takes_tests_with_what_they_need() -> None:
    problem = make_problem(
        "Write f.", "code", entry_point="f", gold="import math\nassert f(1) == math.pi",
        public_tests=["assert f(0) == 0; assert f(2)"],
    )  # fmt: skip
    assert problem.hidden_tests == ("assert f(1) == math.pi",)
    assert problem.test_setup == "import math" and problem.answer == ""
    assert problem.public_tests == ("assert f(0) == 0", "assert f(2)")


def test_code_takes_a_right_program_with_its_tests() -> None:
    problem = make_problem(
        "Write f.", "code", entry_point="f", gold="def f(x):\n    return x\nassert f(1) == 1"
    )
    assert problem.answer == "def f(x):\n    return x" and problem.test_setup == ""
    assert problem.hidden_tests == ("assert f(1) == 1",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("x", "maths"), "--domain=maths: expected one of math, code, qa"),
        (("  ",), "--problem is empty"),
        (("x", "code"), "--entry_point='': expected the name"),
    ],
)
def test_a_question_that_cannot_be_asked(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_problem(*arguments)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"gold": "f(1) =="}, "--gold: not Python"),
        ({"gold": "f(1)"}, "--gold: no assert statement"),
        ({"public_tests": ["f(1)"]}, "--public_tests: no assert"),
    ],
)
def test_code_with_tests_that_are_none(known: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_problem("Write f.", "code", entry_point="f", **known)


def test_what_only_code_has_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match="--entry_point is for --domain code"):
        make_problem("1 + 1?", entry_point="f")


def test_a_file_needs_little_and_takes_other_programs_names(tmp_path: Path) -> None:
    bad: list[BadRow] = []
    path = write(
        tmp_path,
        {"problem": "1 + 1?", "problem_type": "math", "ground_truth": 2},
        {"question": "Who?", "id": 7, "domain": "qa", "context": "Bo.", "answer": None},
        {"prompt": "Write f.", "domain": "code", "entry_point": "f", "tests": ["assert f(1)"]},
        {"question": "2 + 2?", "gold": "4"},
    )
    one, two, three, four = read_questions(path, bad, domain="math")
    assert not bad
    assert (one.id, one.question, one.answer) == ("asked.jsonl/1", "1 + 1?", "2")
    assert (two.id, two.answer, two.context) == ("7", "", "Bo.")
    assert three.hidden_tests == ("assert f(1)",)
    assert (four.id, four.domain, four.answer) == ("asked.jsonl/4", "math", "4")


def test_bad_rows_are_named_and_the_others_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"question": "1?", "domain": "math"},
        "{no json",
        {"question": "2?"},
        {"question": 3, "domain": "math"},
        {"question": "a", "problem": "b", "domain": "math"},
        {"question": "f?", "domain": "code"},
        {"question": "g?", "domain": "math", "id": "asked.jsonl/1"},
        {"question": "h?", "domain": "math", "quesion": "i"},
    )
    bad: list[BadRow] = []
    assert [p.id for p in read_questions(path, bad)] == ["asked.jsonl/1"]
    told = [row.message for row in bad]
    assert [message.partition(", line ")[2][0] for message in told] == list("2345678")
    assert all(message.startswith(str(path)) for message in told)
    assert "--domain" in told[1] and "a second time" in told[3] and "entry_point" in told[4]


def test_a_file_without_a_good_row_stops(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "nope.jsonl", [])
    with pytest.raises(DataError, match="1 bad rows and no good one"):
        read_questions(write(tmp_path, {"q": 1}), [])


def test_problems_by_name_by_file_and_by_record(tmp_path: Path) -> None:
    assert len(load_problems("sample", "val")) == 100
    row = {"id": "a", "dataset": "own", "domain": "math", "question": "1?", "answer": "1"}
    path = write(tmp_path, row)
    assert load_problems(path) == load_problems(DataSource("jsonl", path=str(path)))
