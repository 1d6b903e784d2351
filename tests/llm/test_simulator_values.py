"""Answers and programs of the imitated model: wrong ones differ really, mutants are programs."""

from __future__ import annotations

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.llm.simulator.programs import code_in, fingerprint, mutants, solver
from aflow_grpo.llm.simulator.values import canonical, extract, is_right, wrong_values
from aflow_grpo.records import Problem

CONTEXT = (
    "In 1924 the Green Party of New Castle met in Old Harbour. Anna Bell spoke for 35 minutes."
)


def problem(answer: str, domain: str = "math", context: str = "") -> Problem:
    return Problem("x/1", "x", domain, "What is it?", answer, context=context)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "gold",
    [
        *(
            "18",
            "0",
            "-3",
            "1000",
            "0.5",
            "3.14",
            "1,234",
            "7/8",
            "\\frac12",
            "10\\%",
            "\\$18.90",
            "(1, 2)",
        ),
        *("\\frac{1}{2}", "-\\frac{3}{4}", "2\\sqrt{3}", "\\pi", "x", "x^2 + 1", "\\text{Evelyn}"),
    ],
)
def test_wrong_math_values_are_three_and_really_wrong(gold: str) -> None:
    made = problem(gold)
    wrong = wrong_values(made)
    assert len(wrong) == 3
    assert len({canonical(value) for value in wrong}) == 3
    assert canonical(gold) not in {canonical(value) for value in wrong}
    assert wrong_values(made) == wrong


@pytest.mark.parametrize("gold", ["Old Harbour", "35", "yes", "no", "Anna Bell", "1924", "blue"])
def test_wrong_qa_values_come_from_the_passage(gold: str) -> None:
    made = problem(gold, "qa", CONTEXT)
    wrong = wrong_values(made)
    assert len(wrong) == 3 and not any(is_right(made, value) for value in wrong)
    if gold == "Old Harbour":
        assert all(value in CONTEXT for value in wrong)
    if gold in ("yes", "no"):
        assert wrong[0] == ("no" if gold == "yes" else "yes")


@given(st.integers(-(10**9), 10**9))
def test_no_whole_number_is_its_own_mistake(value: int) -> None:
    assert not any(
        is_right(problem(str(value)), wrong) for wrong in wrong_values(problem(str(value)))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<thought>3 or 4</thought>\n<answer>4</answer>", "4"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("first \\boxed{1}, then \\boxed{2}", "2"),
        ("It is **Old Harbour**, as the text says.", "Old Harbour"),
        ("#### 72", "72"),
        ("The answer is 3.5.", "3.5"),
        ("The final answer is: Paris", "Paris"),
        ("18", "18"),
        ("<solution>\nso \\boxed{9}\n</solution>", "9"),
        ("Put it in <answer>...</answer> and \\boxed{} please,\nthank you.", None),
        ("", None),
        ("a long\ntext that states nothing", None),
    ],
)
def test_the_stated_answer_is_found(text: str, expected: str | None) -> None:
    assert extract(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1000.0"),
        ("\\frac{1}{2}", "0.5"),
        ("$18$", "18"),
        ("The Old Harbour.", "old harbour"),
        ("-\\frac{3}{4}", "-0.75"),
        ("\\dfrac 34", "3/4"),
    ],
)
def test_equal_answers_have_one_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


REFERENCE = """def count(values, limit=10):
    if not values:
        return 0
    total = 0
    while total < 3:
        total += 1
    for value in values:
        if value < limit and value % 2 == 0:
            total = total + 1
    return total"""


def test_mutants_are_different_programs_with_the_same_function() -> None:
    found = mutants(REFERENCE)
    assert len(found) >= 8
    assert len({fingerprint(code) for code in found}) == len(found)
    assert fingerprint(REFERENCE) not in {fingerprint(code) for code in found}
    for code in found:
        [function] = ast.parse(code).body
        assert isinstance(function, ast.FunctionDef) and function.name == "count"
    assert found[-1].endswith("return None")


def test_loops_that_might_not_end_are_left_alone() -> None:
    for code in mutants(REFERENCE)[:-1]:
        assert "while total < 3:\n        total += 1" in code


@pytest.mark.parametrize("reference", ["", "not python (", "x = 1", "class A: pass"])
def test_a_reference_without_a_function_still_has_a_mutant(reference: str) -> None:
    assert all(ast.parse(code) for code in mutants(reference))


def test_layout_and_fences_do_not_change_a_fingerprint() -> None:
    spaced = REFERENCE.replace("    total = 0", "\n    total = 0  # start")
    assert fingerprint(code_in(f"Here:\n```python\n{spaced}\n```\ndone")) == fingerprint(REFERENCE)


@pytest.mark.parametrize("value", ["18", "-7", "\\frac{1}{2}", "0.25", "\\pi", "it's 'quoted'"])
def test_solvers_are_programs_and_name_a_bug_only_when_they_crash(value: str) -> None:
    for crashes in (False, True):
        code = solver(value, "Tom has 3 apples and 15 pears.", random.Random(1), crashes=crashes)
        tree = ast.parse(code)
        assert any(isinstance(n, ast.FunctionDef) and n.name == "solve" for n in tree.body)
        assert ("resultt" in code) is crashes


def test_a_solver_computes_with_the_numbers_of_the_question() -> None:
    code = solver("18", "Tom has 3 apples and 15 pears.", random.Random(1), crashes=False)
    assert "first = 3" in code or "first = 15" in code
    assert "first + second" in code
