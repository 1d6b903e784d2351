"""Importance correction where the tokens were not drawn by the policy that is trained.

GRPO's gradient assumes that π_old, the trainer's policy before the update, drew the tokens. Often
something a little different did: another engine or another arithmetic (vLLM, 4-bit or 16-bit
weights: the same weights with other rounding), the policy of one update earlier (overlapped
rollouts), or nobody at all (a demonstration). With μ for whatever drew them, the policy term is
unbiased again when it is multiplied by

    level      ρ
    token      min(π_old(o_t) / μ(o_t), C)            one weight per token
    sequence   min(Π_t π_old(o_t) / μ(o_t), C)        one weight per sequence

Truncating at C bounds the variance for a small bias (Ionides 2008; for language models Yao et al.
2025, "Your efficient RL framework secretly brings you off-policy RL training", where C = 2). The
sequence weight has the smaller bias and a variance that grows with the length: short completions
only. ρ multiplies the policy term, never KL or entropy, and has no gradient. Not here: deciding
whether to correct; the caller gives the sampler's log-probs, or does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aflow_grpo.grpo.objective import LossConfig

__all__ = ["correction_weights"]


def correction_weights(
    old_logprobs_BT: Tensor,
    sampler_logprobs_BT: Tensor,
    mask_BT: Tensor,
    config: LossConfig,
    off_policy_B: Tensor | None = None,
) -> Tensor:
    """The truncated importance weight ρ of each token.

    Worked numbers, cap 2: log-prob differences 0.1, -0.3 and 1.0 give exp 1.1052, 0.7408 and 2 per
    token; per sequence exp(0.8) = 2.2255 becomes 2 for all three.

    Args:
        old_logprobs_BT: log π_old, (B, T) float.
        sampler_logprobs_BT: log μ as recorded, (B, T) float. A row with a NaN inside the mask is
            one whose log-probs nobody knows: ρ = 1.
        mask_BT: True on the policy's own tokens, (B, T) bool; nothing else is read.
        config: Level, cap, and the limit of a log-ratio.
        off_policy_B: True where the text is not the policy's, (B,) bool. Such rows are weighted
            per token at either level: a whole text that the policy would hardly write has
            weight 0.

    Returns:
        ρ, (B, T), without gradient; 1 outside the mask and with `correction=off`.
    """
    if config.correction == "off":
        return torch.ones_like(old_logprobs_BT, requires_grad=False)
    difference_BT = (old_logprobs_BT - sampler_logprobs_BT).detach()
    difference_BT = torch.where(mask_BT, difference_BT, difference_BT.new_zeros(()))
    unknown_B1 = difference_BT.isnan().any(1, keepdim=True)
    difference_BT = torch.where(unknown_B1, difference_BT.new_zeros(()), difference_BT)
    if config.correction == "sequence":
        sums_BT = difference_BT.sum(1, keepdim=True).expand_as(difference_BT)
        if off_policy_B is None:
            difference_BT = sums_BT
        else:
            difference_BT = torch.where(off_policy_B.unsqueeze(1), difference_BT, sums_BT)
    limit = config.log_ratio_limit
    rho_BT = difference_BT.clamp(-limit, limit).exp().clamp(max=config.correction_cap)
    return torch.where(mask_BT, rho_BT, rho_BT.new_ones(()))
