"""Curves of reward against USD, and break-even, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.evaluation.spending import (
    BreakEven,
    Point,
    break_even,
    geometric_mean,
    mean_and_interval,
    mean_curve,
    point_at,
)


def curve(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(usd, reward, 0.5, 0.001) for usd, reward in pairs]


def test_a_reward_is_reached_for_good_or_not_at_all() -> None:
    points = curve((0, 1), (1, 5), (2, 3), (3, 4), (4, 6))
    found = point_at(points, 4)
    assert found is not None
    assert found.spent_usd == 3  # the 5 at 1 USD fell back
    assert point_at(points, 7) is None
    assert point_at(points, 1) == points[0]


def test_break_even_by_hand() -> None:
    training, search = Point(1.0, 5, 0.5, 0.0001), Point(0.4, 5, 0.5, 0.0003)
    assert break_even(training, search) == BreakEven(3000)
    assert break_even(search, training) == BreakEven(0, 3000)  # a tie
    assert str(break_even(training, search)) == "from 3,000"
    cheap = Point(0.1, 5, 0.5, 0.0001)
    assert str(break_even(cheap, search)) == "from the start"
    assert str(break_even(Point(1.0, 5, 0.5, 0.0003), search)) == "never"
    assert str(break_even(search, cheap)) == "never"


@given(
    spent=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
    each=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    n=st.integers(0, 3000),
)
def test_break_even_is_where_the_totals_cross(
    spent: tuple[int, int], each: tuple[int, int], n: int
) -> None:
    first, second = (Point(s, 0, 0, e) for s, e in zip(spent, each, strict=True))
    found = break_even(first, second)
    inside = (
        found.first is not None and n >= found.first and (found.last is None or n <= found.last)
    )
    assert inside == (spent[0] + n * each[0] <= spent[1] + n * each[1])


def test_the_mean_of_curves_counts_each_as_it_stands() -> None:
    mean = mean_curve([curve((0, 2), (2, 6)), curve((0, 4), (1, 5), (3, 8))])
    assert [(p.spent_usd, p.reward) for p in mean] == [(0, 3), (1, 3.5), (2, 5.5), (3, 7)]
    late = mean_curve([curve((1, 2)), curve((0, 4), (2, 6))])
    assert [(p.spent_usd, p.reward) for p in late] == [(1, 3), (2, 4)]


def test_intervals_are_students() -> None:
    mean, (low, high) = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert high - mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert low == pytest.approx(2 * mean - high)
    assert mean_and_interval([1.0])[1] == (-math.inf, math.inf)
    ratio, (low, high) = geometric_mean([0.5, 2.0])
    assert ratio == pytest.approx(1.0)
    assert low * high == pytest.approx(1.0)
