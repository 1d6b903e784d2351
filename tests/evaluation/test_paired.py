"""Differences between runs: worked numbers, SciPy's bootstrap beside it, and coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aflow_grpo.evaluation import paired
from aflow_grpo.evaluation.paired import difference_of_means, holm


def problems(values: object) -> dict[str, float]:
    return {str(i): float(v) for i, v in enumerate(values)}  # type: ignore[arg-type]


def test_worked_numbers_of_a_pair() -> None:
    found = difference_of_means(problems([0, 0, 1, 0.5]), problems([1, 0, 1, 1]))
    assert found is not None and found.paired and found.spread
    assert (found.first, found.other, found.value) == (0.375, 0.75, 0.375)
    # Two problems changed, by 1 and by 0.5: of the 4 sign patterns, 2 are as far from 0.
    assert found.p == 0.5
    assert found.problems == 4


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (3, 0.25), (6, 2 / 64), (13, 2 / 8192)])
def test_a_few_problems_that_all_got_better_are_no_proof(n: int, p: float) -> None:
    found = difference_of_means(problems([0] * n), problems([1] * n))
    assert found is not None
    assert found.p == pytest.approx(p), "exact, where a bootstrap would say 0"
    assert not found.spread and (found.low, found.high) == (1.0, 1.0)


def test_equal_runs_do_not_differ() -> None:
    found = difference_of_means(problems([0.2, 1, 0]), problems([0.2, 1, 0]))
    assert found is not None
    assert (found.value, found.p, found.spread) == (0.0, 1.0, False)


def test_repeats_that_add_up_in_another_order_are_the_same() -> None:
    one, other = 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1
    assert one != other
    found = difference_of_means(problems([one] * 20), problems([other] * 20))
    assert found is not None and found.p == 1.0 and not found.spread


def test_problems_of_one_run_only_are_left_out_of_a_pair() -> None:
    found = difference_of_means({"a": 1.0, "b": 0.0, "c": 9.0}, {"b": 1.0, "a": 1.0})
    assert found is not None
    assert found.paired and found.problems == 2 and found.value == 0.5


def test_different_problems_are_not_paired() -> None:
    first = {f"a{i}": float(i % 2) for i in range(40)}
    other = {f"b{i}": 1.0 for i in range(60)}
    found = difference_of_means(first, other)
    assert found is not None
    assert not found.paired and found.problems == 40
    assert (found.first, found.other, found.value) == (0.5, 1.0, 0.5)
    assert found.low == pytest.approx(0.5 - 1.96 * 0.5 / 40**0.5, abs=0.03)
    assert found.p < 0.001


def test_few_shared_problems_do_not_stand_for_all() -> None:
    first = {str(i): 0.0 for i in range(10)}
    other = {str(i): 1.0 for i in range(8, 18)}
    found = difference_of_means(first, other)
    assert found is not None and not found.paired


def test_no_problem_no_difference() -> None:
    assert difference_of_means({}, {"a": 1.0}) is None


def test_the_interval_is_scipys_at_its_level() -> None:
    rng = np.random.default_rng(3)
    first, other = rng.random(60), rng.random(60) + 0.1
    found = difference_of_means(problems(first), problems(other))
    wider = np.sqrt(60 / 59) * stats.t.ppf(0.975, 59)
    level = 1 - 2 * stats.norm.cdf(-wider)
    outside = stats.bootstrap(
        (other - first,), np.mean, confidence_level=level, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(4),
    ).confidence_interval  # fmt: skip
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(outside), abs=0.004)
    assert found.p == pytest.approx(
        stats.permutation_test(
            (first, other), lambda a, b: (b - a).mean(), permutation_type="samples",
            n_resamples=10_000, rng=np.random.default_rng(5),
        ).pvalue,
        abs=0.02,
    )  # fmt: skip


def _coverage(n: int, sims: int, *, pair: bool) -> tuple[float, float]:
    """Share of intervals that hold the true difference, 0.1; share of p < 0.05 where it is 0."""
    rng = np.random.default_rng(n)
    held = false_alarms = 0
    for _ in range(sims):
        hardness = rng.random(n)
        first = rng.binomial(3, hardness * 0.8) / 3
        other = rng.binomial(3, hardness * 0.8 + 0.1) / 3
        same = rng.binomial(3, hardness * 0.8) / 3
        rename = str if pair else "other {}".format
        found = difference_of_means(problems(first), {rename(i): v for i, v in enumerate(other)})
        none = difference_of_means(problems(first), {rename(i): v for i, v in enumerate(same)})
        assert found is not None and none is not None
        held += found.low <= 0.1 <= found.high
        false_alarms += none.p < 0.05
    return held / sims, false_alarms / sims


@pytest.mark.parametrize(("n", "pair"), [(12, True), (60, True), (60, False)])
def test_intervals_cover_what_they_say(n: int, pair: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "DRAWS", 1500)
    covered, alarms = _coverage(n, 400, pair=pair)
    # Four standard errors of 400 simulations are 0.044; a plain percentile interval has 0.91
    # at n = 12, and would fall through. Unpaired, the shared hardness makes intervals too wide.
    assert 0.925 <= covered <= (0.98 if pair else 1.0)
    assert alarms <= 0.08


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_other_way_round_is_the_negative(pairs: list[tuple[float, float]]) -> None:
    first, other = (problems(side) for side in zip(*pairs, strict=True))
    there, back = difference_of_means(first, other), difference_of_means(other, first)
    assert there is not None and back is not None
    assert there.value == pytest.approx(-back.value)
    assert there.p == pytest.approx(back.p)
    assert there.low <= there.value + 1e-9 and there.value <= there.high + 1e-9


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    for order in itertools.permutations([0.001, 0.02, 0.8]):
        adjusted = dict(zip(order, holm(order), strict=True))
        assert adjusted == pytest.approx({0.001: 0.003, 0.02: 0.04, 0.8: 0.8})
