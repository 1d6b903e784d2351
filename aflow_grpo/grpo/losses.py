r"""The clipped policy-gradient loss with its KL and entropy terms.

With r = exp(log π - log π_old), d = log π_ref - log π and the entropy H of π, per token t of
sequence i:

    ℓ_it = -min(r_it A_i, clip(r_it, 1 - ε_low, 1 + ε_high) A_i)
           + β (exp(d_it) - d_it - 1) - c H_it

(PPO's clipping, arXiv 1707.06347; ε_high > ε_low is DAPO's clip-higher, arXiv 2503.14476; the KL
term is the k3 estimator, differentiated as it stands, as in DeepSeekMath, arXiv 2402.03300.) The
per-token losses are then summed with the mask m, |o_i| = Σ_t m_it, and divided by a normaliser:

    aggregation   sum                            normaliser (`loss_normaliser`)   source
    grpo          Σ_i (1/|o_i|) Σ_t m_it ℓ_it    number of non-empty sequences    DeepSeekMath
    token         Σ_i Σ_t m_it ℓ_it              Σ_i |o_i|                        DAPO
    dr_grpo       Σ_i Σ_t m_it ℓ_it              sequences × `max_length`         arXiv 2503.20783

The normaliser is that of the whole optimiser step and is passed in, so that the losses of any split
into micro-batches add up to the loss of the whole. All log-probabilities are at the sampling
temperature. Not here: where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aflow_grpo.errors import ConfigError

__all__ = ["LossConfig", "LossInputs", "LossOutputs", "grpo_loss", "loss_normaliser"]


@dataclass(frozen=True)
class LossConfig:
    """Which loss."""

    clip_low: float = 0.2
    """ε_low: how far below 1 the probability ratio may push, in [0, 1]."""
    clip_high: float = 0.2
    """ε_high: how far above 1."""
    kl_coef: float = 0.0
    """β: weight of the k3 KL to the reference policy; 0 needs no reference."""
    entropy_coef: float = 0.0
    """c: weight of the entropy bonus, per token and nat."""
    aggregation: Literal["grpo", "token", "dr_grpo"] = "grpo"
    """Mean over sequences of token means, mean over all tokens, or sum over a constant."""
    max_length: int = 0
    """dr_grpo only: the constant number of tokens that every sequence is divided by, usually
    policy.sampling.max_new_tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_low <= 1:
            raise ConfigError(f"model.grpo.loss.clip_low={self.clip_low:g}: expected 0 to 1.")
        for name in ("clip_high", "kl_coef", "entropy_coef"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"model.grpo.loss.{name}={getattr(self, name):g}: expected 0 or more."
                )
        if self.aggregation == "dr_grpo" and self.max_length < 1:
            raise ConfigError(
                f"model.grpo.loss.max_length={self.max_length}: model.grpo.loss.aggregation="
                "dr_grpo divides by it; give policy.sampling.max_new_tokens."
            )


@dataclass(frozen=True)
class LossInputs:
    """One micro-batch; what lies outside the mask is never read."""

    logprobs_BT: Tensor
    """log π of the sampled tokens, (B, T) float, with gradient."""
    old_logprobs_BT: Tensor
    """log π_old before the update, (B, T) float."""
    advantages_B: Tensor
    """(B,) float."""
    mask_BT: Tensor
    """True on the policy's own tokens, (B, T) bool."""
    ref_logprobs_BT: Tensor | None = None
    """log π_ref, (B, T) float; needed when `kl_coef` > 0."""
    entropy_BT: Tensor | None = None
    """Entropy of π at each position in nats, (B, T) float; needed when `entropy_coef` > 0."""


@dataclass(frozen=True)
class LossOutputs:
    """What a micro-batch contributes."""

    loss: Tensor
    """Scalar with gradient; add up over micro-batches."""
    metrics: dict[str, float]
    """Token means over this micro-batch (`ratio_max`: the largest); `kl` and `entropy` only where
    their inputs were given."""


def loss_normaliser(lengths: Sequence[int], config: LossConfig) -> float:
    """The divisor of one optimiser step.

    Args:
        lengths: |o_i| of every sequence of the step, over all its micro-batches (and ranks).
        config: Names the aggregation.

    Returns:
        At least 1, so that a step without tokens has loss 0. An empty sequence does not count.
    """
    sequences = sum(length > 0 for length in lengths)
    if config.aggregation == "grpo":
        return float(max(1, sequences))
    if config.aggregation == "token":
        return float(max(1, sum(lengths)))
    return float(max(1, sequences * config.max_length))


def grpo_loss(inputs: LossInputs, config: LossConfig, *, normaliser: float) -> LossOutputs:
    """This micro-batch's share of the loss (equation in the module's docstring).

    Worked number: one sequence of two tokens with ratios 1 and 1.5, A = 2 and clip 0.2 has
    ℓ = -2 and -min(3, 2.4) = -2.4; aggregated as ``grpo`` with normaliser 1 the loss is -2.2.

    Args:
        inputs: Log-probabilities, advantages and mask.
        config: Which loss.
        normaliser: `loss_normaliser` of the whole optimiser step.

    Raises:
        ValueError: A term is switched on but its input is missing, or shapes do not fit.
    """
    _check(inputs, config)
    mask_BT = inputs.mask_BT.bool()
    zero = inputs.logprobs_BT.new_zeros(())
    log_ratio_BT = torch.where(mask_BT, inputs.logprobs_BT - inputs.old_logprobs_BT, zero)
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    advantages_B1 = inputs.advantages_B.to(ratio_BT.dtype).unsqueeze(1)
    losses_BT = -torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    kl_BT = entropy_BT = None
    if inputs.ref_logprobs_BT is not None:
        d_BT = torch.where(mask_BT, inputs.ref_logprobs_BT - inputs.logprobs_BT, zero)
        kl_BT = d_BT.exp() - d_BT - 1
        if config.kl_coef > 0:
            losses_BT = losses_BT + config.kl_coef * kl_BT
    if inputs.entropy_BT is not None:
        entropy_BT = torch.where(mask_BT, inputs.entropy_BT, zero)
        if config.entropy_coef > 0:
            losses_BT = losses_BT - config.entropy_coef * entropy_BT
    losses_B = torch.where(mask_BT, losses_BT, zero).sum(1)
    if config.aggregation == "grpo":
        losses_B = losses_B / mask_BT.sum(1).clamp(min=1)
    # min() takes the clipped branch only where it is the smaller one.
    active_BT = (clipped_BT * advantages_B1 < ratio_BT * advantages_B1) & mask_BT
    return LossOutputs(
        loss=losses_B.sum() / normaliser,
        metrics=_metrics(mask_BT, ratio_BT, active_BT, kl_BT, entropy_BT),
    )


def _check(inputs: LossInputs, config: LossConfig) -> None:
    if config.kl_coef > 0 and inputs.ref_logprobs_BT is None:
        raise ValueError(f"kl_coef={config.kl_coef:g} needs ref_logprobs_BT")
    if config.entropy_coef > 0 and inputs.entropy_BT is None:
        raise ValueError(f"entropy_coef={config.entropy_coef:g} needs entropy_BT")
    shape = inputs.logprobs_BT.shape
    for name in ("old_logprobs_BT", "mask_BT", "ref_logprobs_BT", "entropy_BT"):
        tensor = getattr(inputs, name)
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, logprobs_BT {tuple(shape)}")
    if inputs.advantages_B.shape != shape[:1]:
        raise ValueError(
            f"advantages_B has shape {tuple(inputs.advantages_B.shape)}, expected {(shape[0],)}"
        )


def _metrics(
    mask_BT: Tensor,
    ratio_BT: Tensor,
    active_BT: Tensor,
    kl_BT: Tensor | None,
    entropy_BT: Tensor | None,
) -> dict[str, float]:
    with torch.no_grad():
        tokens = mask_BT.sum().clamp(min=1)
        found = {
            "clip_fraction": active_BT.sum() / tokens,
            "ratio_mean": (ratio_BT * mask_BT).sum() / tokens,
            "ratio_max": (ratio_BT * mask_BT).max() if mask_BT.numel() else tokens.new_zeros(()),
        }
        if kl_BT is not None:
            found["kl"] = kl_BT.sum() / tokens
        if entropy_BT is not None:
            found["entropy"] = entropy_BT.sum() / tokens
        # One transfer for all of them: on an accelerator each would be a wait of its own.
        values = torch.stack([value.double() for value in found.values()]).tolist()
    return dict(zip(found, values, strict=True))
