"""GSM8K and MBPP in both formats: rows as published, their quirks, and the real files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.data.readers import read_gsm8k, read_mbpp
from aflow_grpo.errors import DataError

GSM = {
    "question": "Natalia sold clips to 48 friends, then half as many. How many in all? ",
    "answer": "She sold 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72.\n#### 72",
}
MBPP = {
    "text": "Write a function to find the larger.",
    "code": "import re\r\ndef helper(x):\r\n\treturn re.sub('\\d', '', x)\r\n"
    "def larger(a, b=1):\r\n\treturn max(a, b)",
    "task_id": 7,
    "test_setup_code": "",
    "test_list": [
        "assert set([larger(1, 2)]) == {2}",
        "assert larger(3) == 3",
        "assert larger(0) == 1",
    ],
    "challenge_test_list": ["assert larger(9, 9) == 9"],
}
AFLOW = {
    "source_file": "x.ipynb", "task_id": 2, "prompt": "Add.\n\ndef add(a, b):   ",
    "code": "def add(a, b):\n    return a + b", "test_imports": ["import math", "import re"],
    "test_list": ["assert add(1,2)==3", "assert add(0, 0) == 0", "assert add(5, 5) == 10"],
    "entry_point": "add", "test": "def check():\n    assert add(1,2)==3\n",
}  # fmt: skip


def write(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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
def test_gsm8k_gold_is_the_final_number(tmp_path: Path, answer: str, gold: str) -> None:
    (problem,) = read_gsm8k(write(tmp_path, GSM | {"answer": answer}), "train")
    assert (problem.answer, problem.domain, problem.dataset) == (gold, "math", "gsm8k")


def test_gsm8k_ids_are_row_numbers_or_the_given_ids(tmp_path: Path) -> None:
    original = read_gsm8k(write(tmp_path, GSM, GSM), "train")
    assert [problem.id for problem in original] == ["gsm8k/train/0", "gsm8k/train/1"]
    assert original[0].question.endswith("in all?")
    row = {"question": "Q?", "answer": "3", "cot": "1 + 2 = <<1+2=3>>3", "id": "gsm8k-test-1046"}
    (aflow,) = read_gsm8k(write(tmp_path, row), "val")
    assert aflow.id == "gsm8k/val/gsm8k-test-1046"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answer": "no number #### many"}, "line 1, field 'answer': found 'many', expected a num"),
        ({"answer": "#### 3 apples"}, "found '3 apples'"),
        ({"answer": 72}, "found int 72, expected a string"),
        ({"question": ""}, "field 'question': found an empty string"),
    ],
)
def test_malformed_gsm8k_rows_are_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read_gsm8k(write(tmp_path, GSM | change), "train")


def test_gsm8k_rows_with_the_same_id_are_refused(tmp_path: Path) -> None:
    row = GSM | {"id": "a"}
    with pytest.raises(DataError, match="line 2, field 'id': found 'gsm8k/val/a' again"):
        read_gsm8k(write(tmp_path, row, row), "val")


def test_original_mbpp_shows_one_test_and_names_the_signature(tmp_path: Path) -> None:
    (problem,) = read_mbpp(write(tmp_path, MBPP), "train")
    assert problem.id == "mbpp/train/7"
    assert problem.entry_point == "larger"
    assert problem.question == (
        "Write a function to find the larger.\n\n"
        "Your function is `larger(a, b=1)`; it must satisfy: assert set([larger(1, 2)]) == {2}"
    )
    assert problem.public_tests == ("assert set([larger(1, 2)]) == {2}",)
    assert problem.hidden_tests == ("assert larger(3) == 3", "assert larger(0) == 1")
    assert "\r" not in problem.answer


def test_setup_code_brings_the_classes_that_it_uses(tmp_path: Path) -> None:
    row = MBPP | {
        "code": "class Node:\r\n\tpass\r\nclass Other:\r\n\tpass\r\ndef depth(n):\r\n\treturn 0",
        "test_setup_code": "root = Node()\r\n",
        "test_list": ["assert depth(root) == 0", "assert depth(None) == 0"],
    }
    (problem,) = read_mbpp(write(tmp_path, row), "train")
    assert problem.test_setup == "class Node:\n    pass\nroot = Node()"


def test_aflow_mbpp_takes_its_public_test_whatever_the_layout(tmp_path: Path) -> None:
    public = write(
        tmp_path,
        {"entry_point": "other", "test": ["assert candidate(1) == 1"]},
        {"entry_point": "add", "test": ["assert candidate(0,0)==0"]},
        name="public.jsonl",
    )
    (problem,) = read_mbpp(write(tmp_path, AFLOW), "val", public)
    assert problem.question == "Add.\n\ndef add(a, b):"
    assert problem.test_setup == "import math\nimport re"
    assert problem.public_tests == ("assert add(0, 0) == 0",)
    assert problem.hidden_tests == ("assert add(1,2)==3", "assert add(5, 5) == 10")


def test_a_public_test_of_another_task_with_the_same_name_is_not_taken(tmp_path: Path) -> None:
    public = write(
        tmp_path,
        {"entry_point": "add", "test": ["assert candidate('a', 'b') == 'ab'"]},
        {"entry_point": "add", "test": ["assert candidate(5, 5) == 10"]},
        name="public.jsonl",
    )
    (problem,) = read_mbpp(write(tmp_path, AFLOW), "val", public)
    assert problem.public_tests == ("assert add(5, 5) == 10",)


@pytest.mark.parametrize("public", [[], ["assert candidate(9, 9) == 18"]])
def test_without_a_fitting_public_test_the_first_one_is_public(
    tmp_path: Path, public: list[str]
) -> None:
    path = write(tmp_path, {"entry_point": "add", "test": public}, name="public.jsonl")
    (problem,) = read_mbpp(write(tmp_path, AFLOW), "val", path)
    assert problem.public_tests == ("assert add(1,2)==3",)
    assert len(problem.hidden_tests) == 2


def test_the_only_test_stays_hidden(tmp_path: Path) -> None:
    row = AFLOW | {"test_list": ["assert add(1, 1) == 2"]}
    (problem,) = read_mbpp(write(tmp_path, row), "val")
    assert (problem.public_tests, problem.hidden_tests) == ((), ("assert add(1, 1) == 2",))
    original = MBPP | {"test_list": ["assert larger(1) == 1"]}
    (problem,) = read_mbpp(write(tmp_path, original), "train")
    assert problem.hidden_tests == ("assert larger(1) == 1",)
    assert "must satisfy" not in problem.question
    assert problem.question.endswith("Your function is `larger(a, b=1)`.")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"task_id": "7"}, "field 'task_id': found '7', expected a whole number"),
        ({"test_list": []}, "field 'test_list': found no test"),
        (
            {"test_list": ["assert nobody(1)"]},
            r"expected a call of a function of `code` \(helper, l",
        ),
        ({"test_list": ["assert ("]}, r"field 'test_list': found code that does not parse"),
        ({"code": "def f(:"}, r"field 'code': found code that does not parse"),
    ],
)
def test_malformed_mbpp_rows_are_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read_mbpp(write(tmp_path, MBPP | change), "train")


def real(name: str) -> Path:
    folder = os.environ.get("AFLOW_GRPO_DATA")
    if not folder:
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data sets here")
    return Path(folder) / name


def test_the_real_gsm8k_files_are_read_whole() -> None:
    train = read_gsm8k(real("gsm8k/train.jsonl"), "train")
    val = read_gsm8k(real("aflow_format/gsm8k_validate.jsonl"), "val")
    assert (len(train), len(val)) == (7473, 264)
    assert train[0].answer == "72"
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", problem.answer) for problem in train + val)
    assert not {p.question for p in train} & {p.question for p in val}


def test_the_real_mbpp_files_are_read_whole() -> None:
    train = read_mbpp(real("mbpp/mbpp_pool.jsonl"), "train")
    public = real("aflow_format/mbpp_public_test.jsonl")
    val = read_mbpp(real("aflow_format/mbpp_validate.jsonl"), "val", public)
    assert (len(train), len(val)) == (633, 86)
    # Task 37 has one test three times over, four others one of theirs twice.
    assert [p.id for p in train if len(p.public_tests) != 1] == ["mbpp/train/37"]
    assert sum(len(p.hidden_tests) == 2 for p in train) == 628
    assert all(p.hidden_tests and not set(p.hidden_tests) & set(p.public_tests) for p in train)
    assert all(p.public_tests and p.hidden_tests for p in val)
    by_name = {problem.entry_point: problem for problem in val}
    assert by_name["square_Sum"].public_tests == ("assert square_Sum(2) == 10",)
