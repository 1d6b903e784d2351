"""HumanEval: programs from prompts, tests from `check`, and whether those tests judge rightly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_humaneval
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox

ROW = {
    "task_id": "HumanEval/135",
    "prompt": "from typing import List\n\n\ndef top(xs: List[int], k: int) -> int:\n"
    '    """The k-th largest – once.\n    >>> top([1, 2], 1)\n    2\n    >>> top([], 0) # text\n'
    '    nothing\n    >>> top([5], 1)\n    4\n    """\n',
    "entry_point": "top",
    "canonical_solution": "    return sorted(xs)[-k]\n",
    "test": "\n\nMETADATA = {\n    'author': 'jt',\n}\n\n\ndef check(candidate):\n"
    "    # Some simple cases\n    assert True, 'This prints if this assert fails 1'\n"
    "    assert candidate([1, 2], 1) == 2, 'Error'\n    assert top([5], 1) == 5\n"
    "    assert abs(candidate([3], 1) - 3) < 1e-6\n",
}
HELPER = {
    "task_id": "HumanEval/38",
    "prompt": 'import math\n\nSTEP = 1\n\ndef encode(s: str):\n    """ turns """\n'
    '    return s[STEP:] + s[:STEP]\n\n\ndef decode(s: str):\n    """ turns back """\n',
    "entry_point": "decode",
    "canonical_solution": "    return s[-1:] + s[:-1]\n",
    "test": "def check(candidate):\n    from random import randint, choice\n    import string\n\n"
    "    assert candidate('') == ''\n    letters = string.ascii_lowercase\n"
    "    for _ in range(20):\n"
    "        str = ''.join(choice(letters) for i in range(randint(10, 20)))\n"
    "        encoded_str = encode(str)\n        assert candidate(encoded_str) == str\n",
}


def only(folder: Path, row: dict[str, Any], public: Path | str = "") -> Problem:
    (problem,) = read_humaneval(write(folder, row), "val", public)
    return problem


def passes(problem: Problem, candidate: str) -> bool:
    """Whether the candidate passes every hidden test."""

    async def verdict() -> bool:
        async with Sandbox(mode="jail", timeout_s=5.0) as sandbox:
            judged = await judge(
                sandbox, candidate, problem.entry_point, problem.hidden_tests,
                setup=problem.test_setup,
            )  # fmt: skip
            return judged.all_passed

    return asyncio.run(verdict())


def test_a_row_becomes_a_program_and_one_test_per_assert(tmp_path: Path) -> None:
    problem = only(tmp_path, ROW)
    assert (problem.id, problem.entry_point) == ("humaneval/val/135", "top")
    assert (problem.dataset, problem.domain) == ("humaneval", "code")
    assert problem.question.startswith("Complete the following function.")
    assert problem.question.endswith(ROW["prompt"].strip())
    assert problem.answer == ROW["prompt"] + ROW["canonical_solution"]
    assert problem.test_setup == "from typing import List"
    assert problem.hidden_tests == (
        "assert top([1, 2], 1) == 2",
        "assert top([5], 1) == 5",
        "assert abs(top([3], 1) - 3) < 1e-06",
    )
    assert passes(problem, problem.answer)


def test_docstring_examples_are_public_unless_a_test_contradicts_them(tmp_path: Path) -> None:
    assert only(tmp_path, ROW).public_tests == ("assert top([1, 2], 1) == 2",)


def test_aflow_s_public_tests_go_by_problem_then_by_name(tmp_path: Path) -> None:
    by_id = {
        "problem_id": "HumanEval/135",
        "entry_point": "top",
        "test": ["assert candidate([1],1)"],
    }
    other = {"problem_id": "HumanEval/1", "entry_point": "top", "test": ["assert candidate(0)"]}
    public = write(tmp_path, other, by_id, name="public.jsonl")
    assert only(tmp_path, ROW, public).public_tests == ("assert top([1], 1)",)
    by_name = write(tmp_path, without(by_id, "problem_id"), name="public.jsonl")
    assert only(tmp_path, ROW, by_name).public_tests == ("assert top([1], 1)",)
    elsewhere = write(tmp_path, other, name="public.jsonl")
    assert only(tmp_path, ROW, elsewhere).public_tests == ("assert top([1, 2], 1) == 2",)


def test_what_needs_loops_and_helpers_stays_together(tmp_path: Path) -> None:
    problem = only(tmp_path, HELPER)
    first, loop = problem.hidden_tests
    assert first == "assert decode('') == ''"
    assert "from random import" in loop and loop.endswith("\ncheck(decode)")
    assert "STEP = 1" in problem.test_setup and "def encode" in problem.test_setup
    assert "def decode" not in problem.test_setup


@pytest.mark.parametrize(
    ("candidate", "right"),
    [
        (HELPER["prompt"] + HELPER["canonical_solution"], True),
        ("def decode(s): return s[-1:] + s[:-1]", True),
        ("def encode(s, more): return s\ndef decode(s): return encode(s[-1:] + s[:-1], 1)", True),
        ("def decode(s): return s", False),
        ("def encode(s): return s\ndef decode(s): return s", False),
        ("def decode(s): return s[-1:] + s[:-1] if len(s) < 19 else s", False),
    ],
)  # fmt: skip
def test_loops_judge_rightly_and_helpers_are_not_the_candidate_s(
    tmp_path: Path, candidate: str, right: bool
) -> None:
    assert passes(only(tmp_path, HELPER), candidate) is right


def test_an_assert_of_a_helper_does_not_trust_the_candidate_s_own(tmp_path: Path) -> None:
    test = "def check(candidate):\n    assert candidate(encode('abc')) == 'abc'\n"
    problem = only(tmp_path, HELPER | {"test": test})
    assert passes(problem, problem.answer)
    assert not passes(problem, "def encode(s): return s\ndef decode(s): return s")


def test_helpers_beside_check_belong_to_the_test(tmp_path: Path) -> None:
    test = (
        "EXPECTED = {'ba': 'ab'}\ndef same(f, x):\n    assert f(x) == EXPECTED[x]\n"
        "def check(f):\n    for x in EXPECTED:\n        same(f, x)\n"
    )
    problem = only(tmp_path, HELPER | {"test": test})
    assert "EXPECTED" not in problem.test_setup and len(problem.hidden_tests) == 1
    assert passes(problem, problem.answer)
    assert not passes(problem, "def decode(s): return 'ba'")


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_humaneval, ROW, HELPER)
    crlf = {name: text.replace("\n", "\r\n") for name, text in ROW.items()}
    assert only(tmp_path, crlf) == only(tmp_path, ROW)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"task_id": 135}, "line 2, field 'task_id': found int 135, expected a string"),
        ({"task_id": "HumanEval/38"}, "line 2, field 'id': found 'humaneval/val/38' again"),
        ({"entry_point": "largest"}, r"field 'entry_point': found 'largest', expected .*\(top\)"),
        ({"prompt": "x = 1\n", "canonical_solution": "y = 2"}, r"of the prompt \(none\)"),
        ({"prompt": ""}, "field 'prompt': found an empty string"),
        ({"canonical_solution": "return 1"}, "'canonical_solution': found code that does not pa"),
        ({"canonical_solution": None}, "field 'canonical_solution': found NoneType None"),
        ({"test": "def check(candidate"}, "field 'test': found code that does not parse"),
        ({"test": "assert top([1], 1)"}, r"field 'test': found no function check\(candidate\)"),
        ({"test": "def check():\n    assert top([1], 1)"}, "found no function check"),
        ({"test": "def check(candidate):\n    assert True"}, "found no assert that calls the cand"),
        ({"test": "def check(candidate):\n    candidate(1)"}, "found no assert that calls the can"),
        ({"test": "def check(candidate):\n    pass"}, "found no assert that calls the candidate"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_humaneval(write(tmp_path, HELPER, ROW | change), "val")


@pytest.mark.parametrize("field", ROW)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(DataError, match=f"line 1, field '{field}': found no such field"):
        only(tmp_path, without(ROW, field))


def test_the_real_file_is_read_whole() -> None:
    public = real("aflow_format/humaneval_public_test.jsonl")
    problems = read_humaneval(real("aflow_format/humaneval_validate.jsonl"), "val", public)
    assert len(problems) == 33
    assert sum(bool(problem.public_tests) for problem in problems) == 32
    assert not any("assert True" in test for p in problems for test in p.hidden_tests)
    assert sum(len(problem.hidden_tests) for problem in problems) > 200
