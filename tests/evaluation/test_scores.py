"""Score tables, resampling, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.evaluation.scores import ScoreTable, bootstrap, spread_by_weight, tilt_to


def made() -> ScoreTable:
    scores = np.array([[[1.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [0.4, 0.6]]])
    return ScoreTable("made", ("p", "q"), ("a", "b"), scores, np.array([1.0, 2.0]))


def test_a_table_knows_its_workflows() -> None:
    table = made()
    assert table.mean("b") == pytest.approx(0.5)
    assert table.usd("b") == 2.0
    assert table.right_PWR[1, 1].tolist() == [False, True]
    assert table.take(np.array([1, 1])).mean("a") == 0.0
    assert table.select([1]).workflows == ("b",)
    with pytest.raises(KeyError, match="no workflow 'c'"):
        table.of("c")


def test_workflows_near_the_best_one() -> None:
    scores = np.array([[[1.0], [0.7], [0.6]]])
    table = ScoreTable("made", ("p",), ("a", "b", "c"), scores, np.ones(3))
    assert table.within(0.35).workflows == ("a", "b")


def test_a_table_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="scores_PWR: shape"):
        ScoreTable("made", ("p",), ("a", "b"), np.zeros((2, 1, 1)), np.zeros(2))
    with pytest.raises(ValueError, match="usd_W: shape"):
        ScoreTable("made", ("p",), ("a",), np.zeros((1, 1, 1)), np.zeros(2))


def test_systematic_resampling_takes_each_in_proportion() -> None:
    assert spread_by_weight(np.array([1.0, 3.0, 0.0]), 8).tolist() == [0] * 2 + [1] * 6


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30), st.integers(1, 60))
def test_equal_weights_keep_everything_as_often_as_possible(
    weights: list[float], size: int
) -> None:
    counts = np.bincount(spread_by_weight(np.full(len(weights), 0.3), size), minlength=len(weights))
    assert counts.sum() == size
    assert counts.max() - counts.min() <= 1


def test_tilting_reaches_the_wanted_accuracy() -> None:
    abilities = np.linspace(0, 1, 1000)
    solved = (abilities > 0.2).astype(float)
    for wanted in (0.6, 0.8, 0.93):
        assert solved[tilt_to(abilities, solved, wanted)].mean() == pytest.approx(wanted, abs=0.01)


def test_an_interval_holds_the_value_and_narrows_with_n() -> None:
    widths = []
    for n in (50, 5000):
        values = np.arange(n) % 2
        figure = bootstrap(lambda rows, values=values: float(values[rows].mean()), n)
        assert figure.low <= figure.value == 0.5 <= figure.high
        widths.append(figure.high - figure.low)
    assert widths[0] == pytest.approx(4 * 0.5 / 50**0.5, rel=0.2)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.3)
