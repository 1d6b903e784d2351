"""pass@k against worked numbers and against counting every choice."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError
from aflow_grpo.scoring.pass_at_k import pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k", "chance"),
    [
        (1, 1, 1, 1.0),
        (1, 0, 1, 0.0),
        (5, 2, 1, 0.4),
        # 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10
        (5, 2, 2, 0.7),
        # 1 - C(3, 3) / C(5, 3) = 1 - 1 / 10
        (5, 2, 3, 0.9),
        (5, 2, 4, 1.0),
        (200, 0, 100, 0.0),
        # 1 - C(199, 100) / C(200, 100) = 100 / 200
        (200, 1, 100, 0.5),
    ],
)
def test_worked_numbers(n: int, c: int, k: int, chance: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(chance)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 9))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(counts())
def test_it_is_the_share_of_choices_with_a_right_sample(given_counts: tuple[int, int, int]) -> None:
    n, c, k = given_counts
    choices = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, choices)) / len(choices))


@given(st.integers(1, 10_000), st.data())
def test_it_is_finite_and_grows_with_k(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    chance = pass_at_k(n, c, k)
    assert 0 <= chance <= 1
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert pass_at_k(n, c, 1) <= chance + 1e-12


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6), (0, 0, 1)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        pass_at_k(n, c, k)
