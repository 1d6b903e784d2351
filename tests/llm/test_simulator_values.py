"""Answers and programs of the imitated model: wrong ones differ really, mutants are programs."""

from __future__ import annotations

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.llm.simulator.programs import (
    code_in,
    fingerprint,
    hidden_bug,
    solver,
    visible_bugs,
)
from aflow_grpo.llm.simulator.values import (
    canonical,
    extract,
    is_right,
    mentioned,
    near_miss,
    with_unit,
    wrong_values,
)
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
def test_wrong_math_values_are_several_and_really_wrong(gold: str) -> None:
    made = problem(gold)
    wrong = wrong_values(made)
    assert 3 <= len(wrong) <= 6
    assert len({canonical(value) for value in wrong}) == len(wrong)
    assert canonical(gold) not in {canonical(value) for value in wrong}
    assert wrong_values(made) == wrong


@pytest.mark.parametrize("gold", ["Old Harbour", "35", "yes", "no", "Anna Bell", "1924", "blue"])
def test_wrong_qa_values_come_from_the_passage(gold: str) -> None:
    made = problem(gold, "qa", CONTEXT)
    wrong = wrong_values(made)
    assert 3 <= len(wrong) <= 6 and not any(is_right(made, value) for value in wrong)
    if gold == "Old Harbour":
        assert all(value in CONTEXT for value in wrong[:2])
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


def run(code: str, call: str) -> object:
    """Runs code of this file's own making."""
    names: dict[str, object] = {}
    exec(code, names)
    try:
        return eval(call, names)
    except TypeError as error:
        return type(error)


REFERENCES = [
    (REFERENCE, "count", "count([2, 4, 11])"),
    ("def even(n):\n    return n % 2 == 0", "even", "even(4)"),
    ("def down(n):\n    return True if n == 0 else down(n - 1)", "down", "down(3)"),
    ("def words(text):\n    return text.split()", "words", "words('a b')"),
    ("def both(a, b):\n    return (a, b)", "both", "both(1, 2)"),
    ("def h(x):\n    return x\n\ndef last(xs):\n    return h(xs[-1])", "last", "last('ab')"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "name", "call"), REFERENCES)
def test_every_bug_gives_another_result(reference: str, name: str, call: str) -> None:
    bugs = visible_bugs(reference, name)
    assert len(bugs) == 3
    assert len({fingerprint(code) for code in (reference, *bugs)}) == 4
    expected = run(reference, call)
    assert all(run(code, call) != expected for code in bugs)


@pytest.mark.parametrize(("reference", "name", "call"), REFERENCES)
def test_a_hidden_bug_passes_the_public_tests_alone(reference: str, name: str, call: str) -> None:
    expected = run(reference, call)
    public = (f"assert {call} == {expected!r}",)
    bug = visible_bugs(reference, name)[0]
    hidden = hidden_bug(bug, name, public)
    assert hidden is not None and run(hidden, call) == expected
    other = {"count": "count([6])", "even": "even(3)", "down": "down(2)", "words": "words('c')",
             "both": "both(2, 3)", "last": "last('xyz')"}[name]  # fmt: skip
    assert run(hidden, other) != run(reference, other)


def test_a_function_that_returns_nothing_is_no_bug_of_itself() -> None:
    reference = "def f(x):\n    return None"
    assert fingerprint(reference) not in {
        fingerprint(bug) for bug in visible_bugs(reference, "f")[:2]
    }


@pytest.mark.parametrize(
    "test",
    [
        "assert abs(even(4) - 1) < 2",
        "for x in [1]: pass",
        "assert even(n=4)",
        "assert (",
        "assert odd(3)",
    ],
)
def test_a_bug_cannot_hide_from_tests_it_cannot_read(test: str) -> None:
    bug = visible_bugs("def even(n):\n    return n % 2 == 0", "even")[0]
    assert hidden_bug(bug, "even", (test,)) is None
    assert hidden_bug(bug, "even", ()) is None


@pytest.mark.parametrize(
    "reference", ["", "not python (", "x = 1", "class A: pass", "def f(): yield 1"]
)
def test_a_reference_without_a_result_still_has_bugs(reference: str) -> None:
    bugs = visible_bugs(reference, "f")
    assert len(bugs) == 3 and all(ast.parse(code) for code in bugs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Code output: 18", "18"),
        ("Solution: first \\boxed{17}, then done", "17"),
        ("Some steps.\n18", "18"),
        ("Answer: 1,800", None),
        ("18 apples were there at first", None),
        ("", None),
    ],
)
def test_a_draft_is_a_known_value_that_stands_out(text: str, expected: str | None) -> None:
    made = problem("18")
    assert "17" in wrong_values(made)
    assert mentioned(made, text) == expected


@pytest.mark.parametrize(
    ("gold", "question"),
    [
        ("Julia Compton Moore", "Who was it?"),
        ("Paris", "Where did Anna meet Bell?"),
        ("20", "How many years?"),
    ],
)
def test_a_near_miss_shares_words_with_the_gold_answer_and_counts_as_known(
    gold: str, question: str
) -> None:
    made = Problem("q/1", "x", "qa", question, gold)
    near = near_miss(made)
    assert near != gold and set(near.split()) & set(gold.split())
    assert is_right(made, near) and mentioned(made, f"Answer: {near}") == near


def test_a_unit_is_taken_from_the_question() -> None:
    made = Problem("q/1", "x", "qa", "How many yards was it?", "20")
    assert with_unit(made, "20") == "20 yards"
    assert with_unit(made, "Paris") == "Paris"


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
