"""The official measures of HotpotQA and DROP, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.scoring.qa_measures import drop_measures, hotpotqa_measures
from aflow_grpo.scoring.qa_scorer import score_qa


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the Paris!", "Paris", 1, 1),
        ("Paris is the capital", "Paris", 0, 0.5),  # 1 of 3 tokens, 1 of 1
        ("Barack Obama", "Barack Hussein Obama", 0, 0.8),  # 2 of 2, 2 of 3
        ("Rome", "Paris", 0, 0),
        # yes and no give nothing beside other words
        ("yes they are", "yes", 0, 0),
        ("no", "no one", 0, 0),
        ("yes", "yes", 1, 1),
        # kept blind spots
        ("3.5", "35", 1, 1),
        ("six", "6", 0, 0),
    ],
)
def test_hotpotqa_by_hand(answer: str, gold: str, exact: float, f1: float) -> None:
    assert hotpotqa_measures(answer, gold) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        (["20"], ["20"], 1, 1),
        (["1,000"], ["1000.0"], 1, 1),
        # a kept blind spot: a text with a comma is no number, so its point goes too
        (["1,000.0"], ["1000"], 0, 0),
        # 1 of 2 words, 1 of 1: 2/3
        (["20 years"], ["20"], 0, 0.67),
        # numbers must agree, whatever else is shared
        (["21 years"], ["20 years"], 0, 0),
        (["3-yard"], ["3 yard"], 1, 1),
        # spans in any order
        (["B", "C"], ["C", "B"], 1, 1),
        # one of two spans: (1 + 0) / 2
        (["B"], ["B", "C"], 0, 0.5),
        (["B", "C", "D"], ["B"], 0, 0.33),
        # aligned one to one: 'B C' with 'B C D' is 2·2/5 = 0.8, 'E' is 1
        (["E", "B C"], ["B C D", "E"], 0, 0.9),
        ([], ["B"], 0, 0),
    ],
)
def test_drop_by_hand(answer: list[str], gold: list[str], exact: float, f1: float) -> None:
    assert drop_measures(answer, gold) == (exact, pytest.approx(f1))


def test_measures_are_the_best_over_golds_and_never_the_value() -> None:
    score = score_qa("Barack Obama", ["Angela Merkel", "Barack Hussein Obama"])
    assert score.value == 0.0
    assert score.measures == {"exact_match": 0.0, "f1": pytest.approx(0.8)}
    assert score_qa("B, C", ["C and B"], drop=True).measures == {"exact_match": 1.0, "f1": 1.0}


texts = st.text(max_size=60)


@given(texts, texts)
def test_measures_stay_in_range(answer: str, gold: str) -> None:
    for exact, f1 in (hotpotqa_measures(answer, gold), drop_measures([answer], [gold])):
        assert exact in (0.0, 1.0)
        assert 0 <= f1 <= 1


@given(st.lists(texts, min_size=1, max_size=5))
def test_the_gold_spans_have_full_measures(spans: list[str]) -> None:
    assert drop_measures(spans, spans) == (1.0, 1.0)
