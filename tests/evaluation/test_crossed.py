"""Means, differences and ratios over repetitions and problems."""

import numpy as np
import pytest

from aflow_grpo.evaluation.crossed import crossed_difference, crossed_mean, crossed_ratio


def world(rng: np.random.Generator, repetitions: int, problems: int) -> dict[int, dict[str, float]]:
    """Repetitions differ by a normal with sd .03, problems by coins of their own."""
    return {
        r: dict(zip(map(str, range(problems)), rng.binomial(1, rate, problems) * 1.0, strict=True))
        for r, rate in enumerate(0.7 + 0.03 * rng.standard_normal(repetitions))
    }


def test_worked_number() -> None:
    figure = crossed_mean({0: {"a": 1.0, "b": 0.0}, 1: {"a": 1.0, "b": 1.0}})
    assert figure.value == 0.75
    assert figure.by_repetition == (0.5, 1.0)
    assert (figure.repetitions, figure.problems) == (2, 4)
    assert figure.low < 0.75 < figure.high


def test_without_spread_there_is_no_width() -> None:
    figure = crossed_mean({r: dict.fromkeys("abc", 0.4) for r in range(3)})
    assert (figure.low, figure.high) == pytest.approx((0.4, 0.4))


@pytest.mark.parametrize("cells", [{}, {0: {}}])
def test_nothing_to_average_is_an_error(cells: dict[int, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        crossed_mean(cells)


@pytest.mark.parametrize(("repetitions", "least"), [(1, 0.0), (3, 0.86), (5, 0.92), (9, 0.93)])
def test_the_interval_covers_the_truth(repetitions: int, least: float) -> None:
    rng = np.random.default_rng(repetitions)
    covered = 0
    for trial in range(300):
        figure = crossed_mean(world(rng, repetitions, 60), draws=400, seed=trial)
        covered += figure.low <= 0.7 <= figure.high
    assert least <= covered / 300 <= 0.995


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    first = world(rng, 5, 200)
    other = {r: {p: v + 0.1 for p, v in cells.items()} for r, cells in first.items()}
    figure = crossed_difference(first, other)
    assert figure.value == pytest.approx(0.1)
    assert figure.high - figure.low == pytest.approx(0, abs=1e-12)


def test_a_difference_needs_shared_problems() -> None:
    with pytest.raises(ValueError, match="at least one"):
        crossed_difference({0: {"a": 1.0}}, {0: {"b": 1.0}})


def test_a_ratio_is_that_of_the_means_and_covers_it() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        costs = rng.exponential(1.0, (5, 80)) * np.exp(0.1 * rng.standard_normal((5, 1)))
        first = {r: dict(zip(map(str, range(80)), row, strict=True)) for r, row in enumerate(costs)}
        half = {
            r: {p: 0.5 * v * rng.uniform(0.8, 1.2) for p, v in cells.items()}
            for r, cells in first.items()
        }
        figure = crossed_ratio(first, half, draws=300, seed=trial)
        means = [np.mean(list(half[r].values())) / np.mean(list(first[r].values())) for r in first]
        assert figure.by_repetition == pytest.approx(means)
        covered += figure.low <= 0.5 <= figure.high
    assert covered / 200 >= 0.9


def test_a_ratio_needs_costs() -> None:
    with pytest.raises(ValueError, match="above 0"):
        crossed_ratio({0: {"a": 0.0}}, {0: {"a": 1.0}})
