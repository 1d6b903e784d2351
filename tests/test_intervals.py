"""Intervals over problems, beside an outside reference and beside what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from aflow_grpo.intervals import mean_interval, rate_interval, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_by_hand(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys_and_mirrors(drawn: tuple[int, int]) -> None:
    hits, n = drawn
    low, high = wilson_interval(hits, n)
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson_interval(n - hits, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_one_sample_per_problem_is_wilsons(hits_P: list[int]) -> None:
    expected = wilson_interval(sum(hits_P), len(hits_P))
    assert rate_interval(hits_P, [1] * len(hits_P)) == pytest.approx(expected, abs=1e-12)


def test_samples_that_say_the_same_count_as_one_and_others_as_several() -> None:
    same, mixed = [5, 0] * 20, [2, 3] * 20
    assert rate_interval(same, [5] * 40) == pytest.approx(wilson_interval(20, 40), abs=1e-12)
    # Less spread over problems than chance makes: no more than all samples.
    assert rate_interval(mixed, [5] * 40) == pytest.approx(wilson_interval(100, 200), abs=1e-12)
    # By hand: share 0.5, variance 4/3 * (4 + 1 + 1 + 4) / 20^2 = 1/30, worth 0.25 * 30 = 7.5; the
    # spread of four problems is not known well: 7.5 * (1.960 / 3.182)^2 = 2.8, so they count as 4.
    half = rate_interval([4.5, 3.5, 1.5, 0.5], [5] * 4)
    assert half == pytest.approx(wilson_interval(2, 4), abs=1e-12)
    # The same four times: variance 16/15 * 40 / 80^2 = 1/150, 37.5 * (1.95996 / 2.13145)^2.
    more = rate_interval([4.5, 3.5, 1.5, 0.5] * 4, [5] * 16)
    assert more == pytest.approx(wilson_interval(15.8542, 31.7084), abs=1e-5)


def test_few_problems_with_many_samples_promise_no_more_than_they_hold() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        hits_P = random.binomial(8, random.beta(0.5, 0.5, size=3))
        low, high = rate_interval(hits_P.tolist(), [8] * 3)
        held += low <= 0.5 <= high
    assert held / 400 > 0.92  # 0.81 with the normal quantile


def test_a_rate_without_a_failure_is_as_sure_as_its_problems_are_many() -> None:
    assert rate_interval([5] * 10, [5] * 10) == wilson_interval(10, 10)
    assert rate_interval([0] * 10, [5] * 10) == wilson_interval(0, 10)
    assert rate_interval([], []) == (0.0, 1.0)


@given(
    st.lists(
        st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1
    )
)
def test_a_rate_lies_in_its_interval_whatever_the_groups_are(drawn: list[tuple[int, int]]) -> None:
    hits_P, counts_P = zip(*drawn, strict=True)
    low, high = rate_interval(hits_P, counts_P)
    share = sum(hits_P) / sum(counts_P)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1


def test_a_mean_has_the_normal_interval_where_problems_are_many() -> None:
    sums_P = np.random.default_rng(1).normal(3.0, 2.0, size=2000)
    low, high = mean_interval(sums_P.tolist(), [1] * 2000)
    half = 1.959964 * sums_P.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((sums_P.mean() - half, sums_P.mean() + half), abs=0.01)


def test_a_mean_is_of_samples_and_its_interval_over_problems() -> None:
    # One problem with three samples of 1, one with a sample of 0: their draws are (0, 0), (0, 1),
    # (1, 0), (1, 1), so 1/4 of the means are 0, 1/2 are 3/4 and 1/4 are 1.
    assert mean_interval([3.0, 0.0], [3, 1]) == (0.0, 1.0)
    assert mean_interval([6.0], [3]) == (2.0, 2.0)
    assert mean_interval([1.0, 2.0, 9.0], [1, 1, 1], seed=1) == mean_interval(
        [1.0, 2.0, 9.0], [1, 1, 1], seed=1
    )
    with pytest.raises(ValueError, match="needs a problem"):
        mean_interval([], [])


def test_many_problems_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_interval(range(50), [1] * 50)
    monkeypatch.setattr("aflow_grpo.intervals._AT_ONCE", 70)
    assert mean_interval(range(50), [1] * 50) == whole


@pytest.mark.parametrize(
    ("problems", "mean", "likeness"), [(30, 0.9, 0.3), (30, 0.98, 3), (100, 0.5, 0.3)]
)
def test_about_95_of_100_intervals_hold_the_truth(
    problems: int, mean: float, likeness: float
) -> None:
    """Five samples per problem, problems as unlike as a Beta distribution makes them.

    Samples taken for independent would hold it 66 times, a bootstrap of the second case 87 times.
    """
    dice, held = np.random.default_rng(0), 0
    for _ in range(1000):
        rates_P = dice.beta(mean * likeness, (1 - mean) * likeness, size=problems)
        low, high = rate_interval(dice.binomial(5, rates_P).tolist(), [5] * problems)
        held += low <= mean <= high
    assert 0.91 <= held / 1000 <= 0.99
