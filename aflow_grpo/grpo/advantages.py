"""Group-relative advantages: how much better a rollout is than its siblings.

With the valid members' rewards r of a group g, n of them:

    scale           A_i
    none            r_i - mean_g r                                 Dr. GRPO, arXiv 2503.20783
    group_std       (r_i - mean_g r) / (std_g r + ε)               DeepSeekMath, arXiv 2402.03300
    batch_std       (r_i - mean_g r) / (std r + ε), std over all   Lite PPO, arXiv 2508.08221
    leave_one_out   r_i - (Σ_{j≠i} r_j) / (n - 1)                  RLOO, arXiv 2402.14740

then limited to [-clip, clip]. Groups may be uneven, since a masked rollout leaves its group, and
the batch is that of all ranks. Not here: the rewards themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from aflow_grpo.grpo.objective import AdvantageConfig

__all__ = ["group_advantages", "silent_groups", "zero_variance_share"]


def group_advantages(
    rewards_B: Tensor,
    groups_B: Tensor,
    valid_B: Tensor | None,
    config: AdvantageConfig,
) -> Tensor:
    """Advantage of each rollout over the mean of its group's valid members.

    A group with one valid member, or with equal rewards, has advantages of exactly 0: it says
    nothing about what is better. The standard deviation over the batch is that of all valid
    rewards, those of such groups included.

    Worked numbers: rewards 1, 2, 6 have mean 3, hence -2, -1, 3 without a scale, divided by the
    standard deviation 2.6458 (ddof 1) -0.7559, -0.3780, 1.1339, and left one out 1 - 4, 2 - 3.5,
    6 - 1.5; with the third one masked the first two have mean 1.5, and the third has 0.

    Args:
        rewards_B: Rewards, (B,) float.
        groups_B: Group of each rollout, (B,) int; any numbers, in any order.
        valid_B: False where a rollout is masked, (B,) bool; None when all count. The reward of a
            masked rollout is not read.
        config: Scale and limit.

    Returns:
        Advantages, (B,), of the dtype of `rewards_B`.

    Raises:
        ValueError: Shapes differ, or a valid reward is not finite.
    """
    advantages_B = torch.zeros_like(rewards_B)
    members = [m for m in _groups(rewards_B, groups_B, valid_B) if not _silent(rewards_B[m])]
    if not members:
        return advantages_B
    valid_N = rewards_B if valid_B is None else rewards_B[valid_B]
    for member_B in members:
        rewards_G = rewards_B[member_B]
        centred_G = rewards_G - rewards_G.mean()
        if config.scale == "leave_one_out":
            centred_G = centred_G * len(rewards_G) / (len(rewards_G) - 1)
        elif config.scale != "none":
            spread_N = rewards_G if config.scale == "group_std" else valid_N
            centred_G = centred_G / (spread_N.std(correction=config.ddof) + config.eps)
        advantages_B[member_B] = centred_G.clamp(-config.clip, config.clip)
    return advantages_B


def silent_groups(rewards_B: Tensor, groups_B: Tensor, valid_B: Tensor | None = None) -> Tensor:
    """The valid rollouts whose group says nothing: one valid member, or equal rewards.

    Arguments as for `group_advantages`.

    Returns:
        (B,) bool; False for masked rollouts.
    """
    silent_B = torch.zeros_like(groups_B, dtype=torch.bool)
    for member_B in _groups(rewards_B, groups_B, valid_B):
        if _silent(rewards_B[member_B]):
            silent_B |= member_B
    return silent_B


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
