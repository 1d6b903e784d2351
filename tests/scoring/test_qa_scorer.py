"""QA answers: a golden table, and the ways in which a wrong answer used to win."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.scoring.qa_scorer import normalise_answer, score_qa, token_f1

RIGHT = [
    ("Paris", "paris"),
    (" the  PARIS! ", "Paris"),
    ("The answer is Paris.", "Paris"),
    ("Answer: Paris", "Paris"),
    ("'Paris'", "Paris"),
    ("São Paulo", "Sao Paulo"),
    ("New-York", "New York"),
    ("2010\u20132011", "2010-2011"),
    ("U.S.", "US"),
    ("Yes.", "yes"),
    ("A", "a"),
    ("The The", "the the"),
    # numbers
    ("1,000", "1000"),
    ("18.0", "18"),
    ("018", "18"),
    ("$5", "5"),
    ("5%", "5 percent"),
    ("two", "2"),
    ("-0.50", "-.5"),
    ("12345678901234567890123456789012.0", "12345678901234567890123456789012"),
    # what normalisation leaves nothing of
    ("?!", "?!"),
    ("the answer is no", "The answer is no"),
]
WRONG = [
    ("", "Paris"),
    ("...", "Paris"),
    ("London", "Paris"),
    ("3.5", "35"),
    ("-5", "5"),
    ("1000000000", "100000000"),
    ("no", "yes"),
    ("Yes, both of them", "yes"),
    ("The answer is no longer known", "no"),
    ("I do not know.", "know"),
]


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_right_answers(answer: str, gold: str) -> None:
    score = score_qa(answer, [gold])
    assert (score.correct, score.value) == (True, 1.0), score.detail


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong_answers(answer: str, gold: str) -> None:
    score = score_qa(answer, [gold])
    assert not score.correct, score.detail
    assert score.value < 1


def test_verbose_answer_that_contains_the_gold_does_not_win() -> None:
    verbose = "It could be London, Paris, Rome, Berlin or Madrid; most people would say Paris"
    score = score_qa(verbose, ["Paris"])
    assert not score.correct
    # 1 shared token, 14 + 1 tokens: 2 / 15
    assert score.value == pytest.approx(2 / 15)


def test_reasoning_before_the_answer_does_not_count_as_the_answer() -> None:
    assert not score_qa("It lies on the Seine.\nThe answer is Paris.", ["Paris"]).correct


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        ("Paris is the capital", "Paris", 0.5),  # 1 of 3 tokens, 1 of 1: 2/4
        ("Barack Obama", "Barack Hussein Obama", 0.8),  # 2 of 2, 2 of 3: 4/5
        ("Rome", "Paris", 0.0),
        ("yes they are", "yes", 0.0),
        ("yes", "yes", 1.0),
    ],
)
def test_token_f1_by_hand(answer: str, gold: str, f1: float) -> None:
    assert token_f1(normalise_answer(answer), normalise_answer(gold)) == pytest.approx(f1)
    assert score_qa(answer, [gold]).value == pytest.approx(f1)


def test_any_accepted_answer_is_enough() -> None:
    golds = ["United States of America", "USA", "the US"]
    assert score_qa("U.S.A.", golds).correct
    assert score_qa("United States", golds).value == pytest.approx(2 * 2 / (2 + 4))


words = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())


@given(words, st.sampled_from(["{}", "  {}\n", "\t{} "]))
def test_gold_always_scores_one(gold: str, around: str) -> None:
    assert score_qa(around.format(gold), [gold]).correct


@given(st.from_regex(r"[a-z]{3,8}( [a-z]{3,8}){0,3}", fullmatch=True))
def test_case_articles_and_punctuation_do_not_matter(gold: str) -> None:
    assert score_qa(f"The {gold.upper()}.", [gold]).correct


@given(st.text(max_size=200), st.text(min_size=1, max_size=50))
def test_any_text_ends_as_a_score(answer: str, gold: str) -> None:
    score = score_qa(answer, [gold])
    assert 0 <= score.value <= 1
    assert not score.correct or score.value == 1
