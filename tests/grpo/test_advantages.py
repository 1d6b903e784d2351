"""Group-relative advantages: worked numbers, uneven and silent groups."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from aflow_grpo.grpo.advantages import group_advantages, silent_groups, zero_variance_share
from aflow_grpo.grpo.objective import AdvantageConfig

S = 1 / math.sqrt(2)
STD_1 = math.sqrt(7)  # of 1, 2, 6: squares of -2, -1, 3 are 14 in all, divided by 2
STD_0 = math.sqrt(14 / 3)
BATCH = math.sqrt(10)

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
    # 1 - (2 + 6)/2, 2 - (1 + 6)/2, 6 - (1 + 2)/2
    "left one out": ([1, 2, 6], [0, 0, 0], None, "leave_one_out", [-3, -1.5, 4.5]),
    "left out of two": ([1, 9, 4], [0, 0, 0], [1, 0, 1], "leave_one_out", [-3, 0, 3]),
    "left out of one": ([5], [0], None, "leave_one_out", [0]),
    # 0, 4 | 2, 8, | 1: over all five the mean is 3, squares 9 + 1 + 1 + 25 + 4 = 40, std sqrt(10).
    "batch std": (
        [0, 4, 2, 8, 1], [0, 0, 1, 1, 2], None, "batch_std",
        [-2 / BATCH, 2 / BATCH, -3 / BATCH, 3 / BATCH, 0],
    ),
    "batch std of the valid": (
        [0, 4, 2, 8, 1, 1e9], [0, 0, 1, 1, 2, 2], [1, 1, 1, 1, 1, 0], "batch_std",
        [-2 / BATCH, 2 / BATCH, -3 / BATCH, 3 / BATCH, 0, 0],
    ),
    "batch std, uneven groups": (
        [0, 3, 6, 5, 5], [0, 0, 0, 1, 1], None, "batch_std",
        # mean 3.8, squares 14.44 + .64 + 4.84 + 1.44 + 1.44 = 22.8, std sqrt(5.7)
        [-3 / math.sqrt(5.7), 0, 3 / math.sqrt(5.7), 0, 0],
    ),
}  # fmt: skip


def arguments(rewards, groups, valid):
    return (
        torch.tensor(rewards, dtype=torch.float64),
        torch.tensor(groups, dtype=torch.long),
        None if valid is None else torch.tensor(valid, dtype=torch.bool),
    )


@pytest.mark.parametrize("name", CASES)
def test_worked_numbers(name):
    rewards, groups, valid, scale, expected = CASES[name]
    config = AdvantageConfig(scale=scale, eps=0.0)
    found = group_advantages(*arguments(rewards, groups, valid), config)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (AdvantageConfig(), [-2 / (STD_1 + 1e-4), -1 / (STD_1 + 1e-4), 3 / (STD_1 + 1e-4)]),
        (AdvantageConfig(eps=1.0), [-2 / (STD_1 + 1), -1 / (STD_1 + 1), 3 / (STD_1 + 1)]),
        (AdvantageConfig(ddof=0, eps=0.0), [-2 / STD_0, -1 / STD_0, 3 / STD_0]),
        (AdvantageConfig(scale="none", clip=1.5), [-1.5, -1, 1.5]),
        (AdvantageConfig(scale="leave_one_out", clip=2.0), [-2, -1.5, 2]),
    ],
)
def test_options(config, expected):
    found = group_advantages(*arguments([1, 2, 6], [0, 0, 0], None), config)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_equal_rewards_give_exactly_zero():
    # The mean of three times 0.1 is not 0.1; divided by a tiny eps the rounding would be a signal.
    rewards = torch.full((3,), 0.1, dtype=torch.float64)
    for scale in ("group_std", "batch_std", "none", "leave_one_out"):
        config = AdvantageConfig(scale=scale, eps=1e-30)
        found = group_advantages(rewards, torch.zeros(3, dtype=torch.long), None, config)
        assert found.tolist() == [0.0, 0.0, 0.0]


def test_a_valid_reward_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        group_advantages(
            torch.tensor([1.0, math.inf]), torch.tensor([0, 0]), None, AdvantageConfig()
        )


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="same shape"):
        group_advantages(torch.zeros(3), torch.zeros(2, dtype=torch.long), None, AdvantageConfig())


@pytest.mark.parametrize(
    ("rewards", "groups", "valid", "silent", "share"),
    [
        ([1, 1, 2, 3], [0, 0, 1, 1], None, [1, 1, 0, 0], 0.5),
        ([1, 9, 2, 3], [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 0, 0], 0.5),
        ([1, 1, 2, 3], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], 0.0),
        ([1, 1], [0, 0], [0, 0], [0, 0], 0.0),
        ([4, 5], [0, 1], None, [1, 1], 1.0),
        ([], [], None, [], 0.0),
    ],
)
def test_silent_groups_and_their_share(rewards, groups, valid, silent, share):
    given = arguments(rewards, groups, valid)
    assert silent_groups(*given).tolist() == [bool(s) for s in silent]
    assert zero_variance_share(*given) == share


@given(
    st.lists(st.tuples(st.integers(-10, 10), st.integers(0, 3), st.booleans()), max_size=20),
    st.sampled_from(["group_std", "none", "batch_std", "leave_one_out"]),
    st.randoms(use_true_random=False),
)
def test_sums_to_zero_per_group_and_ignores_order(rows, scale, random):
    def advantages(rows):
        columns = zip(*rows, strict=True) if rows else ([], [], [])
        config = AdvantageConfig(scale=scale)
        return group_advantages(*arguments(*map(list, columns)), config).tolist()

    found = advantages(rows)
    for group in {group for _, group, _ in rows}:
        members = [a for a, (_, g, _) in zip(found, rows, strict=True) if g == group]
        assert sum(members) == pytest.approx(0.0, abs=1e-9)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = advantages([rows[i] for i in order])
    assert shuffled == pytest.approx([found[i] for i in order])
    assert all(a == 0 for a, (_, _, valid) in zip(found, rows, strict=True) if not valid)
