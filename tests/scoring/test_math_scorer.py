r"""Math answers: a golden table, what earns nothing, exploits, and AFlow's defects mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.records import Score
from aflow_grpo.scoring import math_scorer
from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_scorer import stated_answers
from aflow_grpo.scoring.math_values import Number, parse_value

Judge = Callable[[str, str], Score]


@pytest.fixture(scope="module")
def score_math() -> Iterator[Judge]:
    """One worker process for all tests of this module."""
    with asyncio.Runner() as runner:
        equivalence = Equivalence(5.0)

        def judge(answer: str, gold: str) -> Score:
            scoring: Awaitable[Score] = math_scorer.score_math(answer, gold, equivalence)
            return runner.run(_wait(scoring))

        yield judge
        runner.run(equivalence.aclose())


async def _wait(scoring: Awaitable[Score]) -> Score:
    return await scoring


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
    ("The answer is $18$ apples.", "18"),
    (r"The answer is \(18\) apples.", "18"),
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
    (r"\sqrt{52}", r"2\sqrt{13}"),
    (r"\frac{\sqrt{3}}{2}", r"\frac12\sqrt3"),
    ("0.866025", r"\frac{\sqrt3}{2}"),
    (r"x^2 + 2x", r"2x+x^2"),
    (r"3 \pm \sqrt5", r"3+\sqrt5, 3-\sqrt5"),
    (r"(3,\infty) \cup (-\infty,2)", r"(-\infty,2)\cup(3,\infty)"),
    ("1<x<2", "(1,2)"),
    ("5<x", "x>5"),
    (r"3\sqrt2\text{ cm}", r"3\sqrt{2}"),
    (r"120\pi \text{ square feet}", r"120\pi"),
    (r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}", r"\begin{pmatrix} 1/5\\-18/5\end{pmatrix}"),
    ("2516", "2516_8"),
    ("2x+3=y", "y=2x+3"),
    (r"10\,000", "10000"),
    (r"15, \!000", "15000"),
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
    # what math-verify alone would call equal
    ("nylevE", "Evelyn"),
    ("(1, 2)", r"\{1, 2\}"),
    ("1, 2", "(1, 2)"),
    ("2516_8", "2516"),
    ("2516_8", "2516_{10}"),
    (r"3\sqrt2\text{ cm}", r"3\sqrt2\text{ m}"),
    ("563.5097", "563.51"),
    # not worked out: the question's own formula
    ("3+4", "7"),
    (r"\boxed{12+6=18}", "18"),
    (r"\boxed{\sum_{k=1}^{3} k}", "6"),
    (r"\boxed{\binom{5}{2}}", "10"),
    (r"\boxed{a+b+c=1}", "1"),
    (r"\boxed{x^2+2x+1}", "(x+1)^2"),
    (r"\boxed{(x+1)^2}", "x^2+2x+1"),
    (r"\boxed{3x+2-5x+18}", "-2x+20"),
    (r"\boxed{2x<4}", "x<2"),
    (r"\boxed{\sqrt{x^2 - x - 6} < 2x - 3}", r"[3,\infty)"),
    (r"\boxed{\frac{x+1}{x-1} < 0}", r"(-1,1) \cup \emptyset"),
    # other formulas
    ("x<5", "x>5"),
    (r"x \ge 5", "x>5"),
    (r"0.87", r"\frac{\sqrt3}{2}"),
    (r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}"),
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
def test_right_answers(score_math: Judge, answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert (score.correct, score.value) == (True, 1.0), score.detail


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong_answers_earn_nothing(score_math: Judge, answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert (score.correct, score.value) == (False, 0.0), score.detail


def test_last_number_of_running_text_is_no_answer(score_math: Judge) -> None:
    text = "18 dollars, that is 3 more than 15"
    assert not score_math(text, "15").correct
    assert not score_math(text, "18").correct


def test_number_words_in_running_text_are_no_answer(score_math: Judge) -> None:
    assert not score_math("She has two cats and five dogs", "5").correct


def test_the_question_itself_scores_zero(score_math: Judge) -> None:
    question = "Tom has 3 apples and buys 4. How many apples does he have? Answer: a number."
    for gold in ("3", "4", "7"):
        assert not score_math(question, gold).correct


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("5 * 9 = 45 miles.\n\nThe previous solution is correct.\n\nFinal answer:\n\n54", "54"),
        ("7. **Final answer**:\n2325", "2325"),
        ("He gets 85 more.\n\nThe initial answer of 80 is wrong.\n\n85.0", "85.0"),
        ("Sum: 18 + 30\n\nThus, the total cost is:\n\\[\n18 + 30 = 48\n\\]", "48"),
        ("30 + 24\n\nTherefore, Elvis is **54 miles** from his house.", "54 miles"),
        ("9 x 2\n### Final Answer\nShe spends \\(\\$18\\) in 5 weeks.", r"\$18"),
        ("- Proposed answer: 112\nSince the proposed answer is correct, I keep it.\n\n112", "112"),
        ("Let us add.\nFinal total cost: 48", "48"),
        ("x = 4\n**Final Answer**: James pays 2304 dollars a year for insurance.", "2304"),
    ],
)
def test_closing_statements_count(score_math: Judge, text: str, stated: str) -> None:
    assert score_math(text, stated).correct, stated_answers(text)
    assert not score_math(text, "7").correct


@pytest.mark.parametrize(
    "text",
    [
        "2 3 54",
        "The numbers are 2, 3 and 54.",
        "2\n3\n54",
        "- 2\n- 3\n- 54",
        "Final answer: 2, 3, 54",
        "Therefore, it is 2, 3, or 54.",
        "The answer is 2. The answer is 3. The answer is 54.",
        "Final answer: 2\nFinal answer: 3\nFinal answer: 54",
    ],
)
def test_all_numbers_listed_scores_zero(score_math: Judge, text: str) -> None:
    for gold in ("2", "3", "54"):
        assert not score_math(text, gold).correct
    assert not score_math("16 80 12 75 60 0", "0").correct


@pytest.mark.parametrize("text", [r"\boxed{2} \boxed{3}", r"\boxed{2}, or else \boxed{3}.\n\n3"])
def test_several_different_boxed_answers_score_zero(score_math: Judge, text: str) -> None:
    for gold in ("2", "3", "2, 3"):
        assert not score_math(text, gold).correct


@pytest.mark.parametrize(
    "text",
    [
        "I cannot answer that.",
        "I'm sorry, but I can't help with question 5.",
        "Thus, I cannot say whether it is 5.",
        "Therefore the answer may be 5.",
        "So it is at least 5.",
        "Error code: 429 - too many requests, retry in 5",
        "Traceback (most recent call last):\nValueError: 5",
        "If you specify how many of each type you want, I can compute 5.",
    ],
)
def test_refusal_scores_zero(score_math: Judge, text: str) -> None:
    for gold in ("5", "429"):
        assert not score_math(text, gold).correct


def test_near_miss_earns_nothing(score_math: Judge) -> None:
    for near in ("17", "19", "18.01", "17.9999", "18.5", "-18", "180", "1.8"):
        assert score_math(rf"\boxed{{{near}}}", "18").value == 0.0


def test_thousands_separators_do_not_matter(score_math: Judge) -> None:
    for written in ("1,234,567", "1{,}234{,}567", r"1\,234\,567", r"1,\!234,\!567", "$1,234,567"):
        assert score_math(written, "1234567").correct, written
    assert not score_math("1,234", "1").correct


def test_whitespace_and_case_do_not_matter(score_math: Judge) -> None:
    assert score_math("\n  \\boxed{ ( 1 ,2 ) } \n", "(1,2)").correct
    assert score_math(r"\boxed{\text{EVELYN}}", r"\text{Evelyn}").correct
    assert score_math("\\boxed{90\\text{ square\nunits}}", "90").correct


def test_dfrac_is_frac(score_math: Judge) -> None:
    for written in (r"\dfrac{1}{2}", r"\tfrac12", r"\frac{1}{2}", "0.5", "1/2"):
        assert score_math(rf"\boxed{{{written}}}", r"\frac{1}{2}").correct


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\boxed{\frac{1}{2}}", "0.5"),
        (r"\boxed{\dfrac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{10\%}", "10"),
        (r"\boxed{(1,2)}", "(1, 2)"),
        (r"\boxed{12 \text{ cm}}", "12"),
        ("The answer is 5.", "5"),
        ("1.5e3", "1500"),
        (".5", "0.5"),
    ],
)
def test_what_aflow_calls_wrong_is_right(score_math: Judge, answer: str, gold: str) -> None:
    assert score_math(answer, gold).correct


def test_gold_may_be_a_solution_that_states_its_answer(score_math: Judge) -> None:
    assert score_math("18", "9 + 9 = <<9+9=18>>18\n#### 18").correct
    assert score_math("0.5", r"Half of it: $\boxed{\frac{1}{2}}$.").correct


def test_detail_says_what_was_compared(score_math: Judge) -> None:
    assert score_math(r"\boxed{17}", "18").detail == "'17' is not '18'"
    assert "no single stated value" in score_math(r"\boxed{1} \boxed{2}", "1").detail


def test_boxed_goes_before_hashes_and_statements() -> None:
    text = "The answer is 1.\n#### 2\n" + r"\boxed{\frac{3}{4}}"
    assert stated_answers(text) == [r"\frac{3}{4}"]


def test_hostile_texts_cost_no_time(score_math: Judge) -> None:
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
    score_math: Judge, number: int, separators: bool, around: str
) -> None:
    written = f"{number:,}" if separators else str(number)
    assert score_math(around.format(written), str(number)).correct


@given(decimals.map(lambda d: f"{d:f}"), texts_around)
def test_decimal_gold_scores_one(score_math: Judge, number: str, around: str) -> None:
    assert score_math(around.format(number), number).correct


@given(integers, integers.filter(bool), texts_around)
def test_fraction_gold_scores_one(score_math: Judge, top: int, bottom: int, around: str) -> None:
    gold = rf"\frac{{{top}}}{{{bottom}}}"
    assert score_math(around.format(rf"\dfrac{{{top}}}{{{bottom}}}"), gold).correct


@given(integers, integers)
def test_another_integer_never_scores(score_math: Judge, one: int, other: int) -> None:
    assert score_math(str(one), str(other)).correct == (one == other)


@given(st.text(max_size=300), st.text(max_size=50))
def test_any_text_ends_as_a_score(score_math: Judge, answer: str, gold: str) -> None:
    score = score_math(answer, gold)
    assert score.value == float(score.correct)
