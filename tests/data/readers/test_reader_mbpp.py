"""MBPP in full, sanitised, and in AFlow's format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_mbpp
from aflow_grpo.errors import DataError

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
SANITISED = without(AFLOW, "entry_point", "test") | {"prompt": "Write a function to add."}


def test_full_rows_show_one_test_and_name_the_signature(tmp_path: Path) -> None:
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


def test_sanitised_rows_have_their_entry_point_from_the_tests(tmp_path: Path) -> None:
    (problem,) = read_mbpp(write(tmp_path, SANITISED), "train")
    assert (problem.id, problem.entry_point) == ("mbpp/train/2", "add")
    assert problem.question == (
        "Write a function to add.\n\nYour function is `add(a, b)`; it must satisfy: "
        "assert add(1,2)==3"
    )
    assert problem.test_setup == "import math\nimport re"
    assert problem.hidden_tests == ("assert add(0, 0) == 0", "assert add(5, 5) == 10")


def test_a_test_without_a_call_does_not_hide_the_entry_point(tmp_path: Path) -> None:
    row = SANITISED | {"test_list": ["assert math.pi > 3", "assert math.isclose(add(1, 2), 3)"]}
    assert read_mbpp(write(tmp_path, row), "train")[0].entry_point == "add"


def test_setup_code_brings_the_classes_that_it_uses(tmp_path: Path) -> None:
    row = MBPP | {
        "code": "class Node:\r\n\tpass\r\nclass Other:\r\n\tpass\r\ndef depth(n):\r\n\treturn 0",
        "test_setup_code": "root = Node()\r\n",
        "test_list": ["assert depth(root) == 0", "assert depth(None) == 0"],
    }
    (problem,) = read_mbpp(write(tmp_path, row), "train")
    assert problem.test_setup == "class Node:\n    pass\nroot = Node()"


def test_aflow_rows_take_their_public_test_whatever_the_layout(tmp_path: Path) -> None:
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
    assert problem.question.endswith("Your function is `larger(a, b=1)`.")


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_mbpp, MBPP, AFLOW, SANITISED | {"task_id": 3})


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (MBPP | {"task_id": "7"}, "field 'task_id': found str '7', expected a whole number"),
        (MBPP | {"task_id": True}, "field 'task_id': found bool True"),
        (MBPP | {"task_id": 2}, "line 2, field 'id': found 'mbpp/val/2' again.*line 1 has it"),
        (MBPP | {"test_list": []}, "field 'test_list': found no test, expected one assert"),
        (MBPP | {"test_list": [" "]}, "field 'test_list': found no test"),
        (MBPP | {"test_list": "assert 1"}, "field 'test_list': found str 'assert 1', expected a l"),
        (MBPP | {"test_list": ["assert nobody(1)"]}, r"a function of `code` \(helper, larger\)"),
        (MBPP | {"code": "x = 1"}, r"expected a call of a function of `code` \(it has none\)"),
        (MBPP | {"test_list": ["assert ("]}, "field 'test_list': found code that does not parse"),
        (MBPP | {"test_list": ["assert \0"]}, "field 'test_list': found code that does not parse"),
        (MBPP | {"code": "def f(:"}, "line 2, field 'code': found code that does not parse"),
        (MBPP | {"code": ""}, "field 'code': found an empty string"),
        (MBPP | {"test_setup_code": "x ="}, "field 'test_setup_code': found code that does not"),
        (MBPP | {"test_setup_code": None}, "field 'test_setup_code': found NoneType None"),
        (MBPP | {"text": " "}, "field 'text': found an empty string"),
        (without(MBPP, "text"), "field 'text': found no such field"),
        (without(MBPP, "task_id"), r"field 'task_id': found no such field \(the row has: text"),
        (SANITISED | {"task_id": 3, "test_imports": "re"}, "field 'test_imports': found str 're'"),
        (AFLOW | {"task_id": 3, "entry_point": "plus"}, r"found str 'plus', expected a .*\(add\)"),
        (AFLOW | {"task_id": 3, "entry_point": 1}, "field 'entry_point': found int 1"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_mbpp(write(tmp_path, AFLOW, row), "val")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"test": ["assert candidate(1)"]}, "public.jsonl, line 1, field 'entry_point': found no"),
        ({"entry_point": "add"}, "field 'test': found no such field"),
        ({"entry_point": "add", "test": "assert 1"}, "field 'test': found str 'assert 1'"),
        ({"entry_point": "add", "test": ["assert"]}, "field 'test': found code that does not"),
    ],
)
def test_malformed_public_tests_are_refused(
    tmp_path: Path, row: dict[str, Any], complaint: str
) -> None:
    public = write(tmp_path, row, name="public.jsonl")
    with pytest.raises(DataError, match=complaint):
        read_mbpp(write(tmp_path, AFLOW), "val", public)


def test_only_names_are_replaced_in_public_tests(tmp_path: Path) -> None:
    row = AFLOW | {"test_list": ["assert add('candidate', 'x') == 'candidatex'", "assert add(1,1)"]}
    test = "assert candidate('candidate','x')=='candidatex'"
    public = write(tmp_path, {"entry_point": "add", "test": [test]}, name="public.jsonl")
    (problem,) = read_mbpp(write(tmp_path, row), "val", public)
    assert problem.public_tests == (row["test_list"][0],)


def test_the_real_files_are_read_whole() -> None:
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
    assert all(re.search(rf"\b{re.escape(p.entry_point)}\b", p.answer) for p in train + val)
