"""Noise, agreement and variance components on tables with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aflow_grpo.evaluation.scores import ScoreTable
from aflow_grpo.evaluation.structure import agreement, latent_parts, noise, tetrachoric


def table_of(scores_PWR: NDArray[np.float64]) -> ScoreTable:
    problems, workflows, _ = scores_PWR.shape
    names = tuple(map(str, range(problems))), tuple(map(str, range(workflows)))
    return ScoreTable("made", *names, scores_PWR.astype(float), np.ones(workflows))


def test_noise_of_a_hand_made_table() -> None:
    # Four problems, one workflow, two repeats: right twice, wrong twice, and two that turn.
    found = noise(table_of(np.array([[[1, 1]], [[0, 0]], [[1, 0]], [[0, 0]]])))
    assert (found.always_right, found.always_wrong) == (0.25, 0.5)
    assert found.agreement == 0.75
    assert found.histogram == (0.5, 0.25, 0.25)
    assert found.icc == pytest.approx(4 / 7)  # mean squares .4583 between, .125 within
    assert found.deviation == pytest.approx(np.std([0.5, 0.25], ddof=1))


def test_repeats_that_never_differ_have_an_icc_of_one() -> None:
    found = noise(table_of(np.array([[[1, 1, 1]], [[0, 0, 0]], [[1, 1, 1]]])))
    assert found.icc == pytest.approx(1.0)
    assert found.agreement == 1.0


def test_agreement_of_a_hand_made_table() -> None:
    scores = np.array([[[1, 1]], [[1, 0]], [[0, 0]], [[0, 0]]], dtype=float)
    forms = np.array([[[0, 0]], [[0, 1]], [[0, 0]], [[0, 1]]])
    found = agreement(scores, forms)
    assert (found.agree, found.right) == (0.5, 0.375)
    assert (found.right_if_agree, found.right_if_differ) == (0.5, 0.25)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9])
def test_tetrachoric_at_the_medians_is_known_in_closed_form(rho: float) -> None:
    both = 0.25 + math.asin(rho) / (2 * math.pi)
    assert tetrachoric(0.5, 0.5, both) == pytest.approx(rho, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_tetrachoric_is_zero_for_independent_events(first: float, second: float) -> None:
    assert tetrachoric(first, second, first * second) == pytest.approx(0.0, abs=1e-6)


def test_tetrachoric_does_not_guess_at_the_edge() -> None:
    assert math.isnan(tetrachoric(0.99, 0.5, 0.5))


def test_variance_components_are_recovered() -> None:
    rng = np.random.default_rng(1)
    problems, workflows, repeats = 4000, 6, 4
    latent = (
        math.sqrt(0.7) * rng.standard_normal((problems, 1, 1))
        + math.sqrt(0.2) * rng.standard_normal((problems, workflows, 1))
        + math.sqrt(0.1) * rng.standard_normal((problems, workflows, repeats))
    )
    families = {str(w): "even" if w % 2 == 0 else "odd" for w in range(workflows)}
    found = latent_parts(table_of(latent > 0.3), families)
    assert found.problem == pytest.approx(0.7, abs=0.03)
    assert found.interaction == pytest.approx(0.2, abs=0.03)
    assert found.residual == pytest.approx(0.1, abs=0.03)
    assert found.between.keys() == {("even", "even"), ("even", "odd"), ("odd", "odd")}
