"""Group-relative advantages: worked numbers, uneven and silent groups."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from aflow_grpo.grpo.advantages import group_advantages, zero_variance_share

S = 1 / math.sqrt(2)

CASES = {
    # name: rewards, groups, valid, scale, expected with eps = 0
    "three members": ([1, 2, 3], [0, 0, 0], None, "group_std", [-1, 0, 1]),
    "without std": ([1, 2, 6], [0, 0, 0], None, "none", [-2, -1, 3]),
    "groups interleaved": ([1, 10, 3, 20], [7, 2, 7, 2], None, "group_std", [-S, -S, S, S]),
    "masked member leaves": ([1, 2, 3], [0, 0, 0], [1, 1, 0], "group_std", [-S, S, 0]),
    "masked one may be nan": ([1, 2, math.nan], [0, 0, 0], [1, 1, 0], "none", [-0.5, 0.5, 0]),
    "single member": ([5, 1, 2], [0, 1, 1], None, "group_std", [0, -S, S]),
    "single survivor": ([5, 1], [0, 0], [0, 1], "none", [0, 0]),
    "equal rewards": ([0.1, 0.1, 0.1], [0, 0, 0], None, "group_std", [0, 0, 0]),
    "all masked": ([1, 2], [0, 0], [0, 0], "group_std", [0, 0]),
    "empty batch": ([], [], None, "group_std", []),
}


def arguments(rewards, groups, valid):
    return (
        torch.tensor(rewards, dtype=torch.float64),
        torch.tensor(groups, dtype=torch.long),
        None if valid is None else torch.tensor(valid, dtype=torch.bool),
    )


@pytest.mark.parametrize("name", CASES)
def test_worked_numbers(name):
    rewards, groups, valid, scale, expected = CASES[name]
    found = group_advantages(*arguments(rewards, groups, valid), scale=scale, eps=0.0)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_eps_is_added_to_the_unbiased_standard_deviation():
    found = group_advantages(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.long))
    assert_close(found, torch.tensor([-1 / 1.0001, 0.0, 1 / 1.0001]))


def test_equal_rewards_give_exactly_zero():
    # The mean of three times 0.1 is not 0.1; divided by a tiny eps the rounding would be a signal.
    rewards = torch.full((3,), 0.1, dtype=torch.float64)
    found = group_advantages(rewards, torch.zeros(3, dtype=torch.long), eps=1e-30)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_a_valid_reward_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        group_advantages(torch.tensor([1.0, math.inf]), torch.tensor([0, 0]))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="same shape"):
        group_advantages(torch.zeros(3), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("rewards", "groups", "valid", "share"),
    [
        ([1, 1, 2, 3], [0, 0, 1, 1], None, 0.5),
        ([1, 9, 2, 3], [0, 0, 1, 1], [1, 0, 1, 1], 0.5),
        ([1, 1, 2, 3], [0, 0, 1, 1], [0, 0, 1, 1], 0.0),
        ([1, 1], [0, 0], [0, 0], 0.0),
        ([4, 5], [0, 1], None, 1.0),
    ],
)
def test_share_of_silent_groups(rewards, groups, valid, share):
    assert zero_variance_share(*arguments(rewards, groups, valid)) == share


@given(
    st.lists(st.tuples(st.integers(-10, 10), st.integers(0, 3), st.booleans()), max_size=20),
    st.sampled_from(["group_std", "none"]),
    st.randoms(use_true_random=False),
)
def test_sums_to_zero_per_group_and_ignores_order(rows, scale, random):
    def advantages(rows):
        columns = zip(*rows, strict=True) if rows else ([], [], [])
        return group_advantages(*arguments(*map(list, columns)), scale=scale).tolist()

    found = advantages(rows)
    for group in {group for _, group, _ in rows}:
        members = [a for a, (_, g, _) in zip(found, rows, strict=True) if g == group]
        assert sum(members) == pytest.approx(0.0, abs=1e-9)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = advantages([rows[i] for i in order])
    assert shuffled == pytest.approx([found[i] for i in order])
    assert all(a == 0 for a, (_, _, valid) in zip(found, rows, strict=True) if not valid)
