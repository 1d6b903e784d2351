"""What is said about a set of problems."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.data.describe import Lengths, describe, excerpt, faults_of, render
from aflow_grpo.records import Problem

_QA = Problem("x/1", "drop", "qa", "Who won?", "The Bears", context="The Bears won.")
_CODE = Problem(
    "x/2", "mbpp", "code", "Add one.", "def f(a): return a + 1", entry_point="f",
    public_tests=("assert f(1) == 2",), hidden_tests=("assert f(2) == 3", "assert f(3) == 4"),
)  # fmt: skip


def test_quantiles_by_hand() -> None:
    assert Lengths.of(range(1, 101)) == Lengths(1, 50, 90, 99, 100)  # type: ignore[arg-type]
    assert Lengths.of([7]) == Lengths(7, 7, 7, 7, 7)
    assert Lengths.of([3, 1, 2]) == Lengths(1, 2, 3, 3, 3)


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_quantiles_are_values_in_order(values: list[int]) -> None:
    q = Lengths.of(values)
    ordered = [q.least, q.median, q.p90, q.p99, q.most]
    assert ordered == sorted(ordered)
    assert set(ordered) <= set(values)
    assert (q.least, q.most) == (min(values), max(values))


def test_counts_and_lengths() -> None:
    found = describe([_QA, _CODE, _CODE])
    assert found.by_dataset == {("drop", "qa"): 1, ("mbpp", "code"): 2}
    assert (found.problems, found.copies, found.clusters) == (3, 1, 2)
    assert found.lengths["qa", "question, words"].most == 2
    assert found.lengths["qa", "context, characters"].most == len(_QA.context)
    assert found.lengths["code", "hidden tests"] == Lengths(2, 2, 2, 2, 2)
    assert ("code", "context, words") not in found.lengths
    assert found.examples == {"code": (_CODE,), "qa": (_QA,)}


def test_the_page() -> None:
    page = render(describe([_QA, _CODE]))
    assert "2 problems, 0 copies, 2 clusters" in page
    assert "example, qa: x/1" in page
    assert "assert f(1) == 2" in page
    assert "assert f(2) == 3" not in page
    assert "example" not in render(describe([_QA], examples=0))


def test_nothing_at_all() -> None:
    assert "0 problems" in render(describe([]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x07", "a�[31mred�"),
        ("one\r\ntwo", "one\ntwo"),
        ("\u202egnirts", "�gnirts"),
        ("x" * 20, "xxxxxxxxx… (20 characters)"),
        ("", ""),
    ],
)
def test_examples_are_fit_for_a_terminal(text: str, shown: str) -> None:
    assert excerpt(text, 10) == shown


def test_faults() -> None:
    both = Problem("c", "x", "code", "Q", "", entry_point="f", public_tests=("t",),
                   hidden_tests=("t", "u"))  # fmt: skip
    problems = [
        _QA, _CODE, both,
        Problem("a", "x", "math", "Q", "  "),
        Problem("b", "x", "qa", "Q", "--"),
        Problem("d", "x", "code", "Q", "", entry_point="f"),
        Problem("e", "x", "math", "Q", "\\emptyset"),
    ]  # fmt: skip
    assert faults_of(problems) == [
        "c: 1 of its 2 hidden tests are public too, so a workflow can see them",
        "a: the gold answer is empty",
        "b: the gold answer is '--', without a word",
        "d: no hidden test, so nothing can decide",
    ]
