"""MATH: a folder as published, JSONL as others pass it on, and what stands in the box."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_math
from aflow_grpo.data.readers.math_competition import boxed_answer
from aflow_grpo.errors import DataError

MATH = {
    "problem": "What is $½ + ½$? ",
    "level": "Level 4",
    "type": "Algebra",
    "solution": "First $\\boxed{3}$ was wrong, so $\\boxed{\\frac{1}{\\sqrt{2}}}$.",
}


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        (MATH["solution"], "\\frac{1}{\\sqrt{2}}"),
        ("$\\boxed{72}$ and no more", "72"),
        ("\\fbox{7}", "7"),
        ("$\\boxed{3}$, that is \\fbox{4}", "4"),
        ("so $\\boxed 5$.", "5"),
        ("so \\(\\boxed 12\\) it is", "12"),
        ("so \\boxed 2.\nDone.", "2"),
        ("$\\boxed  {a}$", "a"),
        ("$\\boxed{\\{1, 2\\}}$", "\\{1, 2\\}"),
        ("$\\boxed{\\left\\{ x \\right.}$", "\\left\\{ x \\right."),
        ("$\\boxed{\\begin{pmatrix} 1 \\\\ {2} \\end{pmatrix}}$",
         "\\begin{pmatrix} 1 \\\\ {2} \\end{pmatrix}"),
        ("$\\boxed{ 90\\text{ square\nunits} }$", "90\\text{ square\nunits}"),
        ("$\\boxed{1}$ not $\\boxedwords{2}$", "1"),
    ],
)  # fmt: skip
def test_the_last_box_is_the_gold_answer(solution: str, gold: str) -> None:
    assert boxed_answer(solution) == gold


@pytest.mark.parametrize(
    "solution",
    ["it is 5", "", "\\boxed{5", "\\boxed{\\frac{1}{2}", "\\boxed{}", "\\boxed{ }", "$\\boxed $"],
)
def test_no_whole_box_is_no_answer(solution: str) -> None:
    assert boxed_answer(solution) is None


_INSIDE = st.recursive(
    st.text("ab1,+\\{}".replace("\\{}", ""), max_size=5) | st.just("\\{") | st.just("\\}"),
    lambda inner: st.tuples(inner, inner).map(lambda pair: f"{pair[0]}{{{pair[1]}}}"),
)


@given(_INSIDE.filter(str.strip), st.text("ab $.", max_size=9))
def test_any_nesting_is_taken_whole(inside: str, after: str) -> None:
    assert boxed_answer(f"x {{ \\boxed{{{inside}}}{after}") == inside.strip()


@pytest.mark.parametrize(
    ("level", "difficulty"),
    [
        *((f"Level {level}", hard) for level, hard in enumerate((1, 1, 2, 3, 3), start=1)),
        *(("Level ?", 0), ("", 0), (2, 1), (5, 3), (9, 0)),
    ],
)
def test_the_level_becomes_a_difficulty(tmp_path: Path, level: Any, difficulty: int) -> None:
    (problem,) = read_math(write(tmp_path, MATH | {"level": level}), "train")
    assert problem.difficulty == difficulty
    assert (problem.question, problem.dataset, problem.domain) == (
        "What is $½ + ½$?",
        "math",
        "math",
    )


def test_ids_are_given_or_row_numbers(tmp_path: Path) -> None:
    rows = [MATH, MATH | {"idx": 77}, MATH | {"unique_id": "test/algebra/1.json"}]
    problems = read_math(write(tmp_path, *rows), "val")
    assert [p.id for p in problems] == ["math/val/0", "math/val/77", "math/val/test/algebra/1.json"]


def test_the_published_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for name, indent in (("algebra/10", None), ("algebra/2", 4), ("algebra/1", None), ("b/1", 2)):
        path = tmp_path / "train" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(MATH | {"problem": name}, indent=indent))
    (tmp_path / "train" / "README.md").write_text("not a problem")
    problems = read_math(tmp_path / "train", "train")
    names = ["algebra/1", "algebra/2", "algebra/10", "b/1"]
    assert [p.id for p in problems] == [f"math/train/{name}" for name in names]
    assert [p.question for p in problems] == names


def test_a_folder_of_several_splits_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no \.json file below it"):
        read_math(tmp_path, "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"expected those of one split; give .*train or .*test"):
        read_math(tmp_path, "train")


def test_a_malformed_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "algebra").mkdir()
    write(tmp_path / "algebra", without(MATH, "solution"), name="3.json")
    with pytest.raises(
        DataError, match=r"algebra/3\.json, line 1, field 'solution': found no such"
    ):
        read_math(tmp_path, "train")
    (tmp_path / "algebra" / "3.json").write_text('{\n"problem": 7,\n"solution": "\\\\boxed{1}"\n}')
    with pytest.raises(DataError, match=r"algebra/3\.json, field 'problem': found int 7"):
        read_math(tmp_path, "train")


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_math, MATH, MATH | {"problem": "2?"})


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (MATH | {"solution": "it is 5"}, r"line 1, field 'solution': found no whole \\boxed"),
        (MATH | {"solution": None}, "field 'solution': found NoneType None, expected a string"),
        (MATH | {"problem": " "}, "field 'problem': found an empty string"),
        (MATH | {"level": ["5"]}, r"field 'level': found list \['5'\], expected 'Level 1' to"),
        (MATH | {"level": True}, "field 'level': found bool True"),
        (MATH | {"idx": 1.5}, "field 'idx': found float 1.5, expected text or a whole number"),
        ({"question": "2?", "answer": "2"}, "field 'solution': found no such field .*another data"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_math(write(tmp_path, row), "train")


def test_the_real_files_are_read_whole() -> None:
    train = read_math(real("math/math_pool.jsonl.gz"), "train")
    val = read_math(real("aflow_format/math_validate.jsonl"), "val")
    assert (len(train), len(val)) == (4057, 119)
    assert {p.difficulty for p in val} == {3} and {p.difficulty for p in train} == {1, 2, 3}
    assert val[0].answer == "135"
