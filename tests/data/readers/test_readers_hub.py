"""Rows as the Hugging Face hub has them, by its names, as JSONL and as Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_files import Fields, real, without, write

from aflow_grpo.data.jsonl import read_problems, write_problems
from aflow_grpo.data.readers import read_drop, read_gsm8k, read_math
from aflow_grpo.data.rows import read_rows
from aflow_grpo.data.sources import HUB_NAMES, DataSource, load_source
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

MATH = {
    "problem": "1 + 1?", "level": "Level 2", "type": "Algebra", "solution": "It is $\\boxed{2}$.",
}  # fmt: skip
HUMANEVAL = {
    "task_id": "HumanEval/7", "prompt": 'def inc(x):\n    """ one more """\n',
    "canonical_solution": "    return x + 1\n", "entry_point": "inc",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}  # fmt: skip
HOTPOT = {
    "id": "5a7", "question": "Who?", "answer": "Ada", "type": "bridge", "level": "hard",
    "supporting_facts": {"title": ["Zoo"], "sent_id": [0]},
    "context": {"title": ["Zoo", "Ada"], "sentences": [["Zoo is.", " Ada."], ["Ada is."]]},
}  # fmt: skip
DROP = {
    "section_id": "nfl_1", "query_id": "f37", "passage": "Ava won 3.", "question": "How many?",
    "answers_spans": {"spans": ["3"], "types": ["number"]},
}  # fmt: skip
FULL_MBPP = {
    "task_id": 2, "text": "Add.", "code": "def add(a, b):\n    return a + b", "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "challenge_test_list": [],
}  # fmt: skip
SANITISED = without(FULL_MBPP, "text", "test_setup_code", "challenge_test_list") | {
    "source_file": "x.ipynb", "prompt": "Add.", "test_imports": ["import math"],
}  # fmt: skip
ROWS: dict[str, tuple[Fields, str, str]] = {
    "openai/gsm8k": ({"question": "2 + 2?", "answer": "<<2+2=4>>\n#### 4"}, "gsm8k/val/0", "4"),
    "EleutherAI/hendrycks_math": (MATH, "math/val/0", "2"),
    "hendrycks/competition_math": (MATH, "math/val/0", "2"),
    "HuggingFaceH4/MATH-500": (
        without(MATH, "type")
        | {"level": 5, "answer": "2", "subject": "Algebra", "unique_id": "test/algebra/1.json"},
        "math/val/test/algebra/1.json",
        "2",
    ),
    "google-research-datasets/mbpp": (FULL_MBPP, "mbpp/val/2", FULL_MBPP["code"]),
    "openai/openai_humaneval": (
        HUMANEVAL,
        "humaneval/val/7",
        'def inc(x):\n    """ one more """\n    return x + 1\n',
    ),
    "hotpotqa/hotpot_qa": (HOTPOT, "hotpotqa/val/5a7", "Ada"),
    "ucinlp/drop": (DROP, "drop/val/f37", "3"),
}
ALIASES = {"openai_humaneval": "openai/openai_humaneval", "hotpot_qa": "hotpotqa/hotpot_qa"}


def parquet(path: Path, *rows: Fields) -> Path:
    """The rows as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def one(path: Path, name: str) -> Problem:
    (problem,) = load_source(DataSource(name, str(path), split="val"))
    return problem


def test_every_name_is_tried_here() -> None:
    assert {*ROWS, *ALIASES} == HUB_NAMES.keys()


@pytest.mark.parametrize("name", HUB_NAMES)
def test_a_hub_row_is_read_by_its_hub_name(tmp_path: Path, name: str) -> None:
    row, problem_id, gold = ROWS[ALIASES.get(name, name)]
    problem = one(write(tmp_path, row), name)
    assert (problem.id, problem.answer, problem.dataset) == (problem_id, gold, HUB_NAMES[name])
    assert one(write(tmp_path, row), HUB_NAMES[name]) == problem
    assert one(parquet(tmp_path / "r.parquet", row), name.upper()) == problem


def test_sanitised_mbpp_is_read_too(tmp_path: Path) -> None:
    problem = one(parquet(tmp_path / "r.parquet", SANITISED), "google-research-datasets/mbpp")
    assert (problem.test_setup, problem.entry_point) == ("import math", "add")


def drop(folder: Path, *answers: Sequence[tuple[str, str]]) -> list[Problem]:
    rows = [
        DROP
        | {"query_id": f"q{number}"}
        | {"answers_spans": {"spans": [s for s, _ in each], "types": [t for _, t in each]}}
        for number, each in enumerate(answers)
    ]
    return read_drop(write(folder, *rows), "val")


def spans(*texts: str) -> list[tuple[str, str]]:
    return [(text, "span") for text in texts]


TWO_NUMBERS = [("3", "number"), ("4", "number")]
"""Two annotators' answers, surely: a row that gives the validation file away."""


@pytest.mark.parametrize(
    ("answers", "golds"),
    [
        (spans("Ava"), ("Ava",)),
        (spans("Ava", "Bo", "Cy"), ("Ava and Bo and Cy",)),
        (spans("Bears", "Chicago Bears"), ("Bears and Chicago Bears",)),
        (spans("Ava", "Ava"), ("Ava",)),
        ([("7 May 1453", "date")], ("7 May 1453",)),
    ],
)
def test_in_drop_s_training_file_spans_are_the_parts_of_one_answer(
    tmp_path: Path, answers: list[tuple[str, str]], golds: tuple[str, ...]
) -> None:
    (problem,) = drop(tmp_path, answers)
    assert (problem.answer, *problem.alternatives) == golds


@pytest.mark.parametrize(
    ("answers", "golds"),
    [
        (TWO_NUMBERS, ("3", "4")),
        ([("3", "number"), ("3", "number"), ("three", "span")], ("3", "three")),
        ([("1453", "date"), ("May 1453", "date")], ("1453", "May 1453")),
        (spans("Ava", " Ava "), ("Ava",)),
        (spans("the Bears", "Bears"), ("the Bears", "Bears")),
        (spans("Bears", "Bears", "Chicago Bears"), ("Bears", "Chicago Bears")),
        (spans("Ava", "Bo", "Ava", "Bo"), ("Ava and Bo",)),
        (spans("Ava", "Bo", "Bo", "Ava"), ("Ava and Bo", "Bo and Ava")),
    ],
)
def test_in_drop_s_validation_file_they_are_what_several_annotators_said(
    tmp_path: Path, answers: list[tuple[str, str]], golds: tuple[str, ...]
) -> None:
    _, problem = drop(tmp_path, TWO_NUMBERS, answers)
    assert (problem.answer, *problem.alternatives) == golds


@pytest.mark.parametrize(
    "answers",
    [spans("Ava", "Bo"), spans("Ava", "Ava", "Bo"), [("2", "number"), *spans("Ava", "Bo")],
     spans("first division", "second division"), spans("the", "a")],
)  # fmt: skip
def test_nobody_guesses_where_one_annotator_s_answer_ends(
    tmp_path: Path, answers: list[tuple[str, str]]
) -> None:
    complaint = r"line 2, answers_spans, field 'spans': found \d spans of several annotators.*dev"
    with pytest.raises(DataError, match=complaint):
        drop(tmp_path, TWO_NUMBERS, answers)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answers_spans": None}, "field 'answers_spans': found NoneType None, expected an obj"),
        ({"answers_spans": {"spans": ["3"]}}, "answers_spans, field 'types': found no such field"),
        ({"answers_spans": {"spans": ["3"], "types": []}}, "found 0 types for 1 spans"),
        ({"answers_spans": {"spans": ["3"], "types": ["count"]}}, "found str 'count', expected on"),
        ({"answers_spans": {"spans": [], "types": []}}, "field 'spans': found no text"),
        ({"answers_spans": {"spans": " 3", "types": []}}, "field 'spans': found str ' 3'"),
        ({"passage": ""}, "line 1, field 'passage': found an empty string"),
        ({"query_id": None}, "field 'query_id': found NoneType"),
    ],
)
def test_malformed_hub_rows_of_drop_are_refused(
    tmp_path: Path, change: Fields, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read_drop(write(tmp_path, DROP | change), "val")


def test_a_folder_of_shards_is_read_in_order(tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(5)]
    parquet(tmp_path / "main" / "train-00001-of-00002.parquet", *rows[3:])
    parquet(tmp_path / "main" / "train-00000-of-00002.parquet", *rows[:3])
    (tmp_path / "main" / "README.md").write_text("no shard")
    problems = load_source(DataSource("openai/gsm8k", str(tmp_path / "main")))
    assert [p.id for p in problems] == [f"gsm8k/train/{n}" for n in range(5)]
    assert [p.answer for p in problems] == ["1", "2", "3", "4", "5"]
    parquet(tmp_path / "main" / "test-00000-of-00001.parquet", *rows)
    with pytest.raises(DataError, match=r"several splits \(test-0.*train-0.*expected those of one"):
        load_source(DataSource("gsm8k", str(tmp_path / "main")))


def test_the_folders_of_math_s_subjects_are_read_as_one(tmp_path: Path) -> None:
    for subject in ("geometry", "algebra"):
        file = tmp_path / subject / "train-00000-of-00001.parquet"
        parquet(file, MATH | {"problem": subject}, MATH)
    problems = read_math(tmp_path, "train")
    assert [p.question for p in problems] == ["algebra", "1 + 1?", "geometry", "1 + 1?"]
    assert len({p.id for p in problems}) == 4
    parquet(tmp_path / "algebra" / "test" / "0000.parquet", MATH)
    with pytest.raises(DataError, match="several splits"):
        read_math(tmp_path, "train")


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [{"question": "1?", "answer": "1"}, {"question": None, "answer": "1"}]
    path = parquet(tmp_path / "r.parquet", *rows)
    with pytest.raises(DataError, match=r"r\.parquet, row 2, field 'question': found no such fiel"):
        read_gsm8k(path, "train")


def test_parquet_that_is_none_is_a_data_error(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet", {"question": "1?", "answer": "1"}).read_bytes()
    for raw in (b"", b"PAR1", whole[:-9], whole[: len(whole) // 2], b'{"question": "1?"}'):
        (tmp_path / "r.parquet").write_bytes(raw)
        with pytest.raises(DataError, match=r"r\.parquet: cannot be read as Parquet .*complete"):
            read_gsm8k(tmp_path / "r.parquet", "train")
    with pytest.raises(DataError, match="no such file"):
        read_gsm8k(tmp_path / "none.parquet", "train")
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="the file holds no rows"):
        read_gsm8k(tmp_path / "r.parquet", "train")


def test_columns_of_other_types_are_refused_like_json_s(tmp_path: Path) -> None:
    path = parquet(tmp_path / "r.parquet", {"question": b"1?", "answer": "1"})
    with pytest.raises(DataError, match="row 1, field 'question': found bytes b'1\\?', expected a"):
        read_gsm8k(path, "train")


def test_the_unified_format_may_be_parquet_with_nulls(tmp_path: Path) -> None:
    math = Problem("m/1", "d", "math", "1?", "1")
    qa = replace(math, id="q/1", domain="qa", context="C", alternatives=("one",), difficulty=2)
    write_problems(tmp_path / "p.jsonl", [qa, math])
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert read_problems(parquet(tmp_path / "p.parquet", *rows)) == [qa, math]


REAL: dict[str, str] = {
    "gsm8k/train.jsonl": "gsm8k",
    "math/math_pool.jsonl.gz": "math",
    "mbpp/mbpp_pool.jsonl": "mbpp",
    "aflow_format/humaneval_validate.jsonl": "humaneval",
    "drop/drop_pool.jsonl.gz": "drop",
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_say_the_same_as_parquet(tmp_path: Path, name: str) -> None:
    rows: list[Any] = [row.fields for row in read_rows(real(name))]
    path = parquet(tmp_path / "r.parquet", *rows)
    direct = load_source(DataSource(REAL[name], str(real(name))))
    assert load_source(DataSource(REAL[name], str(path))) == direct
