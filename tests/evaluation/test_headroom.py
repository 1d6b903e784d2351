"""Headroom without luck: worked tables, and what must hold for any table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.evaluation.headroom import headroom
from aflow_grpo.evaluation.scores import ScoreTable


def table_of(scores_PW: list[list[float]], usd: list[float], repeats: int = 4) -> ScoreTable:
    """A table without noise."""
    scores = np.repeat(np.array(scores_PW, dtype=float)[:, :, None], repeats, axis=2)
    problems = tuple(str(p) for p in range(scores.shape[0]))
    workflows = tuple(str(w) for w in range(scores.shape[1]))
    return ScoreTable("made", problems, workflows, scores, np.array(usd))


def test_workflows_that_solve_different_problems_leave_room() -> None:
    # Workflow 0 solves two of three problems, workflow 1 the third and one of those two.
    found = headroom(table_of([[1, 0], [1, 1], [0, 1]], [2.0, 1.0]))
    assert found.best_mean == pytest.approx(2 / 3)
    assert found.best == pytest.approx(2 / 3)
    assert found.gain_top3 == pytest.approx(1 / 3)
    assert found.gain_all == pytest.approx(1 / 3)


def test_the_thrifty_choice_takes_the_cheapest_that_is_as_good() -> None:
    # The dear one solves all three, the cheap one the first two.
    found = headroom(table_of([[1, 1], [1, 1], [1, 0]], [4.0, 1.0]))
    assert (found.best, found.best_usd) == (1.0, 4.0)
    assert (found.thrifty, found.thrifty_usd) == (1.0, pytest.approx(2.0))
    assert found.saved == pytest.approx(0.5)


def test_a_hopeless_problem_costs_nothing_when_a_workflow_is_free() -> None:
    found = headroom(table_of([[1, 0], [0, 0]], [3.0, 0.0]))
    assert found.thrifty_usd == pytest.approx(1.5)


def test_the_fourth_best_is_not_among_the_top_three() -> None:
    # Three workflows solve problem 0 to 8, the fourth solves problem 9 alone.
    rows = [[1.0, 1.0, 1.0, 0.0]] * 9 + [[0.0, 0.0, 0.0, 1.0]]
    found = headroom(table_of(rows, [1.0] * 4))
    assert found.gain_top3 == pytest.approx(0.0)
    assert found.gain_all == pytest.approx(0.1)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=2, max_size=12),
    st.integers(1, 6),
    st.integers(2, 5),
)
def test_equal_copies_leave_no_room(solved: list[int], copies: int, repeats: int) -> None:
    table = table_of([[float(s)] * copies for s in solved], [1.0] * copies, repeats)
    found = headroom(table, splits=5)
    assert found.gain_top3 == found.gain_all == 0.0
    assert found.thrifty == found.best == found.best_mean


def test_noise_alone_gives_no_gain() -> None:
    """Twenty equal coins: choosing and scoring on the same runs would find .9 instead of .5."""
    coins = np.random.default_rng(0).integers(0, 2, (2000, 20, 4)).astype(float)
    problems, workflows = tuple(map(str, range(2000))), tuple(map(str, range(20)))
    table = ScoreTable("coins", problems, workflows, coins, np.ones(20))
    assert coins.mean(2).max(1).mean() > 0.9
    assert abs(headroom(table, splits=10).gain_all) < 0.01


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 8))
def test_true_interaction_is_found(seed: int, workflows: int) -> None:
    solved = np.random.default_rng(seed).integers(0, 2, (40, workflows)).astype(float)
    found = headroom(table_of(solved.tolist(), [1.0] * workflows), splits=3)
    assert found.gain_all >= found.gain_top3 >= 0
    assert found.best + found.gain_all == pytest.approx(solved.max(1).mean())


def test_one_repeat_cannot_both_choose_and_score() -> None:
    with pytest.raises(ValueError, match="two repeats at least"):
        headroom(table_of([[1, 0]], [1.0, 1.0], repeats=1))
