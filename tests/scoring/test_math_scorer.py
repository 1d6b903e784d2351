r"""Math answers: a golden table, what earns nothing, and the known defects of AFlow's scorer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.scoring.math_scorer import score_math, stated_answers
from aflow_grpo.scoring.math_values import Number, parse_value

RIGHT = [
    # numbers and how they are written
    ("5.", "5"),
    (".5", "0.5"),
    ("1,234", "1234"),
    ("1{,}234", "1234"),
    ("- 5", "-5"),
    ("\u22125", "-5"),
    ("1.5e3", "1500"),
    (r"1.5 \times 10^{3}", "1500"),
    ("2^{10}", "1024"),
    ("2**10", "1024"),
    ("5 million", "5000000"),
    # fractions
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\(\frac12\)", "0.5"),
    (r"1\frac{1}{2}", "1.5"),
    ("1 1/2", "3/2"),
    ("-1 1/2", "-1.5"),
    (".333333", "1/3"),
    ("17.999999999999996", "18"),
    # percent, money, units
    (r"10\%", "10"),
    ("0.1", r"10\%"),
    ("10 percent", "10%"),
    (r"12 \text{ cm}", "12"),
    ("12cm", "12 centimeters"),
    ("18 dollars", "18"),
    (r"\$18.00", "18 dollars"),
    ("18 red apples per day", "18"),
    (r"90^\circ", "90 degrees"),
    ("5 m^2", "5 square meters"),
    # tuples, sets, lists, text
    ("(1,2)", "(1, 2)"),
    (r"\left[0, \frac12\right)", "[0,0.5)"),
    ("2, 1", "1 and 2"),
    (r"\{2, 1\}", r"\{1,2\}"),
    ("x = 5", "5"),
    (r"x \in [1,2]", "[1,2]"),
    (r"2\sqrt{3}", r"2 \sqrt3"),
    (r"\text{Evelyn}", "evelyn"),
    ("(C)", r"\text{(C)}"),
    # where the answer stands
    (r"so \boxed{5}", "5"),
    (r"\boxed 5", "5"),
    (r"first \boxed{5}, that is \boxed{5.0}", "5"),
    (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}"),
    ("He pays 2 * 9.\n#### 18", "18"),
    ("The answer is 5.", "5"),
    ("So the final answer is: **$18**.", "18"),
    ("**Answer:** 18", "18"),
    ("The answer to the question is $3.50.", "3.5"),
    ("The answer is 4? No.\nThe final answer is 5.", "5"),
]

WRONG = [
    # near misses earn nothing
    ("17", "18"),
    ("17.99", "18"),
    (".3333", "1/3"),
    ("1000001", "1000000"),
    ("100000000.5", "100000000"),
    ("0.0000001", "0"),
    (".5", "5"),
    ("0.1%", "10%"),
    ("12 m", "12 cm"),
    ("5 m^2", "5 m"),
    ("1,23", "123"),
    ("(2, 1)", "(1, 2)"),
    ("[1, 2]", "[1, 2)"),
    ("1, 1", "1, 2"),
    (r"5\pi", "5"),
    ("5 pi", "5"),
    ("5x", "5"),
    ("5!", "5"),
    ("1/0", "5"),
    # no single commitment
    ("5 or 6", "5"),
    ("5 or six", "5"),
    ("1, 2, 3, 4, 5", "3"),
    ("1 2 3 4 5", "3"),
    (r"\boxed{5} or \boxed{6}", "5"),
    (r"\boxed{1}\boxed{2}\boxed{3}", "3"),
    ("#### 5\n#### 6", "6"),
    ("The answer is 5. The answer is 6.", "6"),
    ("The answer is 5 or 6.", "5"),
    ("The answer is not 5.", "5"),
    # no answer at all
    ("", "5"),
    ("   \n ", "5"),
    ("I cannot answer that.", "5"),
    ("It took him 5 days and 18 hours.", "18"),
    ("12 + 6 = 18", "18"),
    ("3 hours and 5 minutes", "3"),
    ("five", "5"),
    (r"\boxed{}", "5"),
    (r"\boxed{5", "5"),
    (r"\boxed{def solve(): return 5}", "5"),
    (r"\boxed{Error: 5}", "5"),
    ("Error: division by 5", "5"),
    ("1e999999999", "5"),
    ("9" * 5000, "9"),
]


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_right_answers(answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert (score.correct, score.value) == (True, 1.0), score.detail


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong_answers_earn_nothing(answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert (score.correct, score.value) == (False, 0.0), score.detail


def test_last_number_of_running_text_is_no_answer() -> None:
    text = "18 dollars, that is 3 more than 15"
    assert not score_math(text, "15").correct
    assert not score_math(text, "18").correct


def test_number_words_in_running_text_are_no_answer() -> None:
    assert not score_math("She has two cats and five dogs", "5").correct


def test_the_question_itself_is_no_answer() -> None:
    question = "Tom has 3 apples and buys 4. How many apples does he have? Answer: a number."
    for gold in ("3", "4", "7"):
        assert not score_math(question, gold).correct


def test_gold_may_be_a_solution_that_states_its_answer() -> None:
    assert score_math("18", "9 + 9 = <<9+9=18>>18\n#### 18").correct
    assert score_math("0.5", r"Half of it: $\boxed{\frac{1}{2}}$.").correct


def test_detail_says_what_was_compared() -> None:
    assert score_math(r"\boxed{17}", "18").detail == "'17' is not '18'"
    assert "no single stated value" in score_math(r"\boxed{1} \boxed{2}", "1").detail


def test_boxed_goes_before_hashes_and_statements() -> None:
    text = "The answer is 1.\n#### 2\n" + r"\boxed{\frac{3}{4}}"
    assert stated_answers(text) == [r"\frac{3}{4}"]


def test_hostile_texts_cost_no_time() -> None:
    for text in ("(" * 199, "{" * 50_000, "\\boxed{" * 20_000, "answer is " * 9_000, "1" * 99_999):
        assert not score_math(text, "1").correct
    assert not score_math("1" * 200_000, "1").correct


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.50", Fraction(3, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        ("$1,000.25", Fraction(4001, 4)),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    number = parse_value(text)
    assert isinstance(number, Number)
    assert number.value == value


integers = st.integers(-(10**12), 10**12)
decimals = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=4)
texts_around = st.sampled_from(
    [
        "{}",
        "  {} ",
        "${}$",
        r"\boxed{{{}}}",
        "Because of this, \\boxed{{ {} }}.",
        "#### {}",
        "The answer is {}.",
        "the final ANSWER is: {}",
        "{} apples",
        "\n{}\n",
    ]
)


@given(integers, st.booleans(), texts_around)
def test_integer_gold_scores_one_however_it_is_written(
    number: int, separators: bool, around: str
) -> None:
    written = f"{number:,}" if separators else str(number)
    assert score_math(around.format(written), str(number)).correct


@given(decimals.map(lambda d: f"{d:f}"), texts_around)
def test_decimal_gold_scores_one(number: str, around: str) -> None:
    assert score_math(around.format(number), number).correct


@given(integers, integers.filter(bool), texts_around)
def test_fraction_gold_scores_one(top: int, bottom: int, around: str) -> None:
    gold = rf"\frac{{{top}}}{{{bottom}}}"
    assert score_math(around.format(rf"\dfrac{{{top}}}{{{bottom}}}"), gold).correct


@given(integers, integers)
def test_another_integer_never_scores(one: int, other: int) -> None:
    assert score_math(str(one), str(other)).correct == (one == other)


@given(st.text(max_size=300), st.text(max_size=50))
def test_any_text_ends_as_a_score(answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert score.value == float(score.correct)
