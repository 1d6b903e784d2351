"""The outcome model on worlds whose truth is known, and where there is little to know."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_worlds import made_world, structures

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.model import FEWEST, OutcomeModel, OutcomeRow, fit


def centred(values_QS: np.ndarray) -> np.ndarray:
    """What matters for choosing: the differences between workflows."""
    return values_QS - values_QS.mean(1, keepdims=True)


def by_text(model: OutcomeModel) -> float:
    shares = model.shares()["math"]
    return shares["text_structure"] + shares["size_structure"]


def plain_means(rows: list[OutcomeRow], keys: list[str]) -> np.ndarray:
    return np.array([
        np.mean([r.correct for r in rows if r.structure.key == key] or [0.5]) for key in keys
    ])  # fmt: skip


def ridge(rows: list[OutcomeRow], keys: list[str], texts: list[str]) -> np.ndarray:
    """One ridge regression on TF-IDF for each workflow."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    vectors = TfidfVectorizer().fit([row.text for row in rows])
    columns = []
    for key in keys:
        mine = [row for row in rows if row.structure.key == key]
        model = Ridge(1.0).fit(
            vectors.transform([r.text for r in mine]), [float(r.correct) for r in mine]
        )
        columns.append(model.predict(vectors.transform(texts)))
    return np.stack(columns, 1)


def test_with_nothing_in_the_text_the_interaction_shrinks_and_effects_are_found() -> None:
    world = made_world(problems=150, seed=2)
    model = fit(world.rows)
    keys = [one.key for one in world.structures]
    expected_QS = model.predict("math", world.fresh_texts, world.structures, "accuracy")
    assert by_text(model) < 0.03
    truth_QS = centred(world.fresh_rates_QS)
    error = ((centred(expected_QS) - truth_QS) ** 2).mean()
    means = centred(np.tile(plain_means(world.rows, keys), (100, 1)))
    assert error < 1.05 * ((means - truth_QS) ** 2).mean()
    assert error < 0.5 * ((centred(ridge(world.rows, keys, world.fresh_texts)) - truth_QS) ** 2
                          ).mean()  # fmt: skip
    assert np.corrcoef(expected_QS.mean(0), world.fresh_rates_QS.mean(0))[0, 1] > 0.8


def test_with_something_in_the_text_it_chooses_better_than_means_and_ridge() -> None:
    world = made_world(problems=150, by_text=0.2, seed=2)
    model = fit(world.rows)
    keys = [one.key for one in world.structures]
    expected_QS = model.predict("math", world.fresh_texts, world.structures, "accuracy")
    assert by_text(model) > 0.05
    truth_QS, places = world.fresh_rates_QS, np.arange(100)
    means_S = plain_means(world.rows, keys)
    ridge_QS = ridge(world.rows, keys, world.fresh_texts)
    chosen = truth_QS[places, expected_QS.argmax(1)].mean()
    assert chosen > truth_QS[:, means_S.argmax()].mean() + 0.05
    assert chosen > truth_QS[places, ridge_QS.argmax(1)].mean()
    error = ((centred(expected_QS) - centred(truth_QS)) ** 2).mean()
    for other in (np.tile(means_S, (100, 1)), ridge_QS):
        assert error < 0.8 * ((centred(other) - centred(truth_QS)) ** 2).mean()


def test_denoised_rewards_are_nearer_to_the_truth_than_what_happened() -> None:
    world = made_world(problems=80, by_text=0.2, per=6)
    model = fit(world.rows)
    place = {one.key: s for s, one in enumerate(world.structures)}
    rates = np.array([
        world.rates_PS[int(r.problem[1:]), place[r.structure.key]] for r in world.rows
    ])  # fmt: skip
    pays = np.array([6.0 + place[r.structure.key] / 2 for r in world.rows])
    truth = rates * pays - 2 * (1 - rates)
    actual = np.array([r.reward for r in world.rows])
    for of in ("problem", "text"):
        found = model.denoised(of)  # type: ignore[arg-type]
        assert ((found - truth) ** 2).mean() < 0.35 * ((actual - truth) ** 2).mean()
        same = {}
        for row, value in zip(world.rows, found, strict=True):
            assert same.setdefault((row.problem, row.structure.key), value) == value
    assert np.corrcoef(model.denoised(), truth)[0, 1] > np.corrcoef(actual, truth)[0, 1]


def test_what_it_says_of_cost() -> None:
    world = made_world(problems=80)
    model = fit(world.rows)
    known = model.predict("math", ["red cat"], world.structures, "cost_usd")[0]
    assert known == pytest.approx([(s + 1) * 1e-4 for s in range(8)], rel=0.05)


def test_equal_rows_give_equal_bits_and_found_variances_can_be_taken_as_they_are() -> None:
    world = made_world(problems=60)
    first, second = fit(world.rows), fit(list(world.rows))
    assert first.variances == second.variances
    assert (first.denoised() == second.denoised()).all()
    taken = fit(world.rows, first.variances, search=False)
    assert taken.variances == first.variances
    assert (taken.denoised() == first.denoised()).all()


def test_only_the_newest_rows_count_where_there_are_too_many() -> None:
    world = made_world(problems=60)
    short, whole = fit(world.rows[-100:]), fit(world.rows, most_rows=100)
    assert whole.variances == short.variances
    assert (whole.denoised()[-100:] == short.denoised()).all()
    assert np.isfinite(whole.denoised()).all()


# Little to know


def row(n: int, reward: float = 1.0, correct: bool = True, text: str = "a b 1") -> OutcomeRow:
    return OutcomeRow("qa", f"p{n}", text, structures(1)[0], reward, correct, 1e-4)


def test_with_few_rows_it_says_their_means() -> None:
    model = fit([row(n, float(n), n % 2 == 0) for n in range(4)])
    assert model.denoised().tolist() == pytest.approx([1.5] * 4)
    assert model.predict("qa", ["x"], structures(3), "accuracy").tolist() == [[0.5] * 3]
    assert model.predict("qa", ["x"], structures(3), "cost_usd")[0] == pytest.approx([1e-4] * 3)
    assert model.shares() == {} == model.variances


@pytest.mark.parametrize(
    "rows",
    [
        [row(n) for n in range(30)],
        [row(n, correct=False) for n in range(30)],
        [row(0, float(n % 2), n % 2 == 1) for n in range(30)],
        [row(n, float(n % 2), n % 2 == 1, text="") for n in range(30)],
        [row(n, float(n % 3), n % 2 == 1, text="?! .") for n in range(30)],
        [row(n, float(n % 3), n % 2 == 1, text=str(n)) for n in range(30)],
    ],
)
def test_degenerate_data_give_finite_numbers_in_the_range_of_what_was_seen(
    rows: list[OutcomeRow],
) -> None:
    assert len(rows) > FEWEST
    model = fit(rows)
    rewards = [r.reward for r in rows]
    for found in (
        model.denoised(),
        model.denoised("text"),
        model.predict("qa", ["new words 17", ""], structures(3)),
    ):
        assert np.isfinite(found).all()
        assert min(rewards) - 0.5 <= found.min() and found.max() <= max(rewards) + 0.5


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 3), st.booleans(),
            st.floats(-10, 10, allow_subnormal=False), st.sampled_from(["", "a", "b 2", "a b c"]),
        ),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_any_rows_give_finite_numbers(
    drawn: list[tuple[int, int, bool, float, str]],
) -> None:
    found = structures(4)
    rows = [
        OutcomeRow("code", f"p{p}", text, found[s], reward, right, 0.0)
        for p, s, right, reward, text in drawn
    ]
    model = fit(rows)
    assert np.isfinite(model.denoised()).all() and np.isfinite(model.denoised("text")).all()
    accuracy = model.predict("code", ["a", "z 9"], found, "accuracy")
    assert (accuracy >= 0).all() and (accuracy <= 1).all()


def test_what_cannot_be_fitted_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'p1' has reward nan .* finite"):
        fit([row(0), replace(row(1), reward=math.nan)])
    with pytest.raises(ConfigError, match=r"nothing of domain 'math'; it has rows of: qa"):
        fit([row(0)]).predict("math", ["x"], structures(1))
