"""GSM8K as published and in AFlow's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_gsm8k
from aflow_grpo.errors import DataError

GSM = {
    "question": "Natalia sold clips to 48 friends — then half as many. How many in all? ",
    "answer": "She sold 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72.\n#### 72",
}


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (GSM["answer"], "72"),
        ("x\n#### 1,080", "1080"),
        ("#### 109,200,000", "109200000"),
        ("#### -5", "-5"),
        ("#### $2,250 ", "2250"),
        ("#### 0.25", "0.25"),
        ("#### <<3*4=12>>12", "12"),
        ("a #### 3 was a typo\n#### 4", "4"),
        ("65,960", "65960"),
    ],
)
def test_gold_is_the_final_number(tmp_path: Path, answer: str, gold: str) -> None:
    (problem,) = read_gsm8k(write(tmp_path, GSM | {"answer": answer}), "train")
    assert (problem.answer, problem.domain, problem.dataset) == (gold, "math", "gsm8k")


@given(st.integers(-(10**12), 10**12))
def test_any_number_is_found_behind_any_grouping(
    tmp_path_factory: pytest.TempPathFactory, number: int
) -> None:
    path = write(tmp_path_factory.mktemp("g"), GSM | {"answer": f"<<1+1=2>>2\r\n#### {number:,}"})
    assert read_gsm8k(path, "train")[0].answer == str(number)


def test_ids_are_row_numbers_or_the_given_ids(tmp_path: Path) -> None:
    original = read_gsm8k(write(tmp_path, GSM, GSM), "train")
    assert [problem.id for problem in original] == ["gsm8k/train/0", "gsm8k/train/1"]
    assert original[0].question.endswith("in all?")
    row = {"question": "Q?", "answer": "3", "cot": "1 + 2 = <<1+2=3>>3", "id": "gsm8k-test-1046"}
    (aflow,) = read_gsm8k(write(tmp_path, row), "val")
    assert aflow.id == "gsm8k/val/gsm8k-test-1046"


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_gsm8k, GSM, GSM | {"question": "Zoë\u2028½?"})


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (GSM | {"answer": "no number #### many"}, "line 2, field 'answer': found 'many', expected"),
        (GSM | {"answer": "#### 3 apples"}, "found '3 apples', expected a number, alone or after"),
        (GSM | {"answer": "#### " + "9x" * 60}, r"found '9x9x.*\.\.\.', expected a number"),
        (GSM | {"answer": 72}, "found int 72, expected a string; mend the row or remove it"),
        (GSM | {"question": ""}, "field 'question': found an empty string, expected text"),
        (GSM | {"question": "\ud800"}, "field 'question': found half of a character"),
        (without(GSM, "question"), r"no such field \(the row has: answer\).*another dataset's"),
        (GSM | {"id": ["a"]}, r"field 'id': found list \['a'\], expected text or a whole number"),
        (GSM | {"id": True}, "field 'id': found bool True"),
        (GSM | {"id": " "}, "field 'id': found an empty string"),
        (GSM | {"id": "0"}, "line 2, field 'id': found 'gsm8k/val/0' again.*line 1 has it"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_gsm8k(write(tmp_path, GSM, row), "val")


def test_the_real_files_are_read_whole() -> None:
    train = read_gsm8k(real("gsm8k/train.jsonl"), "train")
    val = read_gsm8k(real("aflow_format/gsm8k_validate.jsonl"), "val")
    assert (len(train), len(val)) == (7473, 264)
    assert train[0].answer == "72"
    assert not {p.question for p in train} & {p.question for p in val}
