"""Group-relative advantages: how much better a rollout is than its siblings.

Groups may be uneven, since a masked rollout leaves its group. Not here: the rewards themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

__all__ = ["group_advantages", "zero_variance_share"]


def group_advantages(
    rewards_B: Tensor,
    groups_B: Tensor,
    valid_B: Tensor | None = None,
    *,
    scale: Literal["group_std", "none"] = "group_std",
    eps: float = 1e-4,
) -> Tensor:
    """Advantage of each rollout over the mean of its group's valid members.

    ``group_std`` is DeepSeekMath's A = (r - mean) / (std + eps) (arXiv 2402.03300) with the
    unbiased standard deviation (n - 1); ``none`` is Dr. GRPO's A = r - mean (arXiv 2503.20783). A
    group with one valid member, or with equal rewards, has advantages of exactly 0: it says nothing
    about what is better.

    Worked numbers: rewards 1, 2, 3 have mean 2 and std 1, hence -1/1.0001, 0, 1/1.0001; with the
    third one masked the others have mean 1.5 and std 0.70711, hence -0.70701, 0.70701, and the
    third has 0.

    Args:
        rewards_B: Rewards, (B,) float.
        groups_B: Group of each rollout, (B,) int; any numbers, in any order.
        valid_B: False where a rollout is masked, (B,) bool; None when all count. The reward of a
            masked rollout is not read.
        scale: Divide by the group's standard deviation, or not.
        eps: Added to the standard deviation, in units of reward.

    Returns:
        Advantages, (B,), of the dtype of `rewards_B`.

    Raises:
        ValueError: Shapes differ, or a valid reward is not finite.
    """
    advantages_B = torch.zeros_like(rewards_B)
    for member_B in _groups(rewards_B, groups_B, valid_B):
        rewards_G = rewards_B[member_B]
        if _silent(rewards_G):
            continue
        centred_G = rewards_G - rewards_G.mean()
        if scale == "group_std":
            centred_G = centred_G / (rewards_G.std(correction=1) + eps)
        advantages_B[member_B] = centred_G
    return advantages_B


def zero_variance_share(
    rewards_B: Tensor, groups_B: Tensor, valid_B: Tensor | None = None
) -> float:
    """Share of groups whose advantages are all 0: one valid member, or equal rewards.

    Groups without any valid member are not counted; without any group at all the share is 0.
    Arguments as for `group_advantages`.
    """
    silent = [_silent(rewards_B[m]) for m in _groups(rewards_B, groups_B, valid_B)]
    return sum(silent) / len(silent) if silent else 0.0


def _groups(rewards_B: Tensor, groups_B: Tensor, valid_B: Tensor | None) -> Iterator[Tensor]:
    """The valid members of each group as (B,) bool, groups in ascending order."""
    if valid_B is None:
        valid_B = torch.ones_like(groups_B, dtype=torch.bool)
    if not rewards_B.shape == groups_B.shape == valid_B.shape or rewards_B.dim() != 1:
        raise ValueError(
            "rewards_B, groups_B and valid_B must be of the same shape (B,), got "
            f"{tuple(rewards_B.shape)}, {tuple(groups_B.shape)} and {tuple(valid_B.shape)}"
        )
    if not bool(rewards_B[valid_B].isfinite().all()):
        raise ValueError(f"a reward of a valid rollout is not finite: {rewards_B.tolist()}")
    for group in torch.unique(groups_B[valid_B]):
        yield (groups_B == group) & valid_B


def _silent(rewards_G: Tensor) -> bool:
    # Compared, not subtracted from a mean: a rounded mean would leave 1e-17 where 0 is meant.
    return bool(rewards_G.min() == rewards_G.max())
