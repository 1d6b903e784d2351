"""How far failure shows in a text: made texts with known signals."""

from __future__ import annotations

import numpy as np
import pytest

from aflow_grpo.evaluation.scores import Figure
from aflow_grpo.evaluation.visibility import (
    auc,
    cross_validated_auc,
    question_part,
    shrunk,
    text_features,
    text_scale,
    text_score,
    weight_for_auc,
)


def test_the_features_count_characters_and_numbers() -> None:
    chars, numbers = text_features("7 cats, 1.5 dogs")
    assert (chars, numbers) == (pytest.approx(np.log(16)), pytest.approx(np.log(3)))


def test_the_question_stands_after_the_passage() -> None:
    assert question_part("Passage: 3 goals. Question: How many?\nAnswer:") == ("How many?\nAnswer:")
    assert question_part(" How many? ") == "How many?"


def test_scores_are_standardised_over_their_dataset() -> None:
    questions = [f"{'word ' * k}{'7 ' * (k % 3)}" for k in range(1, 40)]
    scale = text_scale(questions)
    scores = np.array([text_score(question, scale) for question in questions])
    assert scores.mean() == pytest.approx(0.0, abs=1e-9)
    assert scores.std() == pytest.approx(1.0)
    assert text_score("long " * 100 + "7 8 9", scale) > text_score("short", scale)


def test_the_area_counts_ordered_pairs() -> None:
    fails = np.array([True, True, False, False])
    assert auc(fails, np.array([4.0, 2.0, 3.0, 1.0])).value == 0.75


def test_a_word_that_decides_is_seen_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    fails = np.arange(120) % 2 == 0
    words = rng.choice(["red", "blue", "green", "oak", "pine"], (120, 8))
    random_texts = [" ".join(row) for row in words]
    marked = zip(random_texts, fails, strict=True)
    told = [f"{'tricky' if hard else 'plain'} {text}" for text, hard in marked]
    assert cross_validated_auc(told, fails, words=True).value > 0.95
    chance = cross_validated_auc(random_texts, fails, words=True)
    assert 0.35 < chance.value < 0.65
    longer = [f"{text} {'and more ' * (5 * hard)}" for text, hard in zip(told, fails, strict=True)]
    assert cross_validated_auc(longer, fails, words=False).value > 0.95


def test_too_few_failures_give_no_figure() -> None:
    fails = np.array([True] + [False] * 20)
    assert np.isnan(cross_validated_auc(["text"] * 21, fails, words=False).value)


def test_shrinking_pulls_uncertain_figures_further() -> None:
    sure = Figure(0.70, 0.66, 0.74)
    unsure = Figure(0.70, 0.40, 1.00)
    found = shrunk({"a": sure, "b": unsure, "c": Figure(0.50, 0.46, 0.54)})
    assert 0.5 < found["b"] < found["a"] < 0.70
    assert found["c"] > 0.5


def test_equal_figures_stay_as_they_are() -> None:
    same = Figure(0.6, 0.5, 0.7)
    assert shrunk({"a": same, "b": same}) == {"a": pytest.approx(0.6), "b": pytest.approx(0.6)}


def test_the_weight_reaches_the_area() -> None:
    assert weight_for_auc(0.5, 0.7) == 0.0
    weight = weight_for_auc(0.65, 0.5)
    rng = np.random.default_rng(5)
    latent, own = rng.standard_normal((2, 20_000))
    scores = weight * latent + np.sqrt(1 - weight**2) * own
    assert auc(latent > 0, scores[:20_000]).value == pytest.approx(0.65, abs=0.01)
