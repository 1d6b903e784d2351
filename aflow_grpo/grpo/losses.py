r"""The policy-gradient loss: one per-token core, one reducer.

With the log-ratio l = log π - log π_old, d = log π_ref - log π and the entropy H of π, per token t
of sequence i:

    ℓ_it = -ρ_it min(w_it A_i, clip(w_it, 1 - ε_low, 1 + ε_high) A_i) + β KL_it - c H_it

    ratio          w_it
    token          exp(l_it)                             PPO, arXiv 1707.06347
    sequence       exp((1/|o_i|) Σ_t l_it)               GSPO, arXiv 2507.18071

    kl_estimator   KL_it
    k1             -d_it
    k2             d_it² / 2
    k3             exp(d_it) - d_it - 1                  DeepSeekMath, arXiv 2402.03300

    kl_gradient        is that of
    classic            KL_it as it stands                DeepSeekMath
    ratio              w_it KL_it, which is also the value; on policy w = 1 (TRL's
                       use_bias_correction_kl)
    straight_through   k2; the value stays (verl's k1+, k3+)

On policy the expected gradient is that of KL(π || π_ref) with straight_through, with ratio for k1
and k3, and with classic for k2. With classic, k3 has that of KL(π_ref || π), and k1 none at all.

ρ is the truncated importance correction (`correction.py`), 1 where nothing is to be corrected. The
per-token losses are summed with the mask m, |o_i| = Σ_t m_it, and divided by a normaliser:

    aggregation     sum                            normaliser (`loss_normaliser`)   source
    sequence_mean   Σ_i (1/|o_i|) Σ_t m_it ℓ_it    number of non-empty sequences    DeepSeekMath
    token_mean      Σ_i Σ_t m_it ℓ_it              Σ_i |o_i|                        DAPO
    constant        Σ_i Σ_t m_it ℓ_it              non-empty sequences × max_length Dr. GRPO

The normaliser is that of the whole optimiser step over all ranks and is passed in, so that the
losses of any split into micro-batches and ranks add up to the loss of the whole.

A log-ratio is limited to ±`log_ratio_limit` before it is exponentiated, since exp(89) is infinite
in single precision and an infinite loss has NaN gradients. A token at the limit gives no gradient
through that ratio; the metric ``log_ratio_limited`` counts such tokens. A NaN that comes in stays
one: hiding a broken policy is not the loss's to do. All log-probabilities are at the sampling
temperature. Not here: where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aflow_grpo.grpo.correction import correction_weights
from aflow_grpo.grpo.objective import LossConfig

__all__ = ["OF_ALL", "LossInputs", "LossOutputs", "grpo_loss", "loss_normaliser"]

OF_ALL = ("correction_mean", "correction_capped")
"""Metrics that count every token, those of texts that are not the policy's own too."""


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
    sampler_logprobs_BT: Tensor | None = None
    """log μ of whatever drew the tokens, (B, T) float, where it may differ from π_old; a row with
    NaN inside the mask is not corrected. 0 where a text was given instead of drawn."""
    off_policy_B: Tensor | None = None
    """True where the text is not the policy's own, (B,) bool; matters to the correction, and to
    the metrics, which are of the policy's own tokens."""


@dataclass(frozen=True)
class LossOutputs:
    """What a micro-batch contributes."""

    loss: Tensor
    """Scalar with gradient; add up over micro-batches."""
    metrics: dict[str, float]
    """Means over this micro-batch's tokens of the policy's own (`ratio_max`: the largest); `kl`
    and `entropy` only where their inputs were given. Those of `OF_ALL` are over all tokens, and
    there only where the sampler's log-probs were given."""


def loss_normaliser(lengths: Sequence[int], config: LossConfig) -> float:
    """The divisor of one optimiser step.

    Args:
        lengths: |o_i| of every sequence of the step, over all its micro-batches and ranks; 0 for
            one that left the loss.
        config: Names the aggregation.

    Returns:
        At least 1, so that a step without tokens has loss 0. An empty sequence does not count.

    Raises:
        ValueError: The constant that every sequence is divided by is not known.
    """
    sequences = sum(length > 0 for length in lengths)
    if config.aggregation == "sequence_mean":
        return float(max(1, sequences))
    if config.aggregation == "token_mean":
        return float(max(1, sum(lengths)))
    if config.max_length < 1:
        raise ValueError("aggregation=constant needs max_length: give it to resolve()")
    return float(max(1, sequences * config.max_length))


def grpo_loss(inputs: LossInputs, config: LossConfig, *, normaliser: float) -> LossOutputs:
    """This micro-batch's share of the loss (equation in the module's docstring).

    Worked number: one sequence of two tokens with ratios 1 and 1.5, A = 2 and clip 0.2 has
    ℓ = -2 and -min(3, 2.4) = -2.4; aggregated as ``sequence_mean`` with normaliser 1 the loss is
    -2.2.

    Args:
        inputs: Log-probabilities, advantages and mask.
        config: Which loss.
        normaliser: `loss_normaliser` of the whole optimiser step.

    Raises:
        ValueError: A term is switched on but its input is missing, or shapes do not fit.
    """
    _check(inputs, config)
    mask_BT = inputs.mask_BT.bool()
    log_ratio_BT, limit = _log_ratios(inputs, mask_BT, config), config.log_ratio_limit
    ratio_BT = log_ratio_BT.clamp(-limit, limit).exp()
    clipped_BT = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    advantages_B1 = inputs.advantages_B.to(ratio_BT.dtype).unsqueeze(1)
    losses_BT = -torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    # min() takes the clipped branch only where it is the smaller one.
    found_BT = {
        "clip_fraction": clipped_BT * advantages_B1 < ratio_BT * advantages_B1,
        "ratio_mean": ratio_BT,
    }
    limited_BT = log_ratio_BT.abs() > limit
    if inputs.sampler_logprobs_BT is not None:
        rho_BT = correction_weights(
            inputs.old_logprobs_BT,
            inputs.sampler_logprobs_BT,
            mask_BT,
            config,
            inputs.off_policy_B,
        )
        losses_BT = losses_BT * rho_BT
        found_BT["correction_mean"] = rho_BT
        found_BT["correction_capped"] = rho_BT >= config.correction_cap
    if inputs.ref_logprobs_BT is not None:
        d_BT = _within(mask_BT, inputs.ref_logprobs_BT - inputs.logprobs_BT)
        limited_BT = limited_BT | (d_BT.abs() > limit)
        kl_BT = _kl(d_BT.clamp(-limit, limit), ratio_BT, config)
        found_BT["kl"] = kl_BT
        if config.kl_coef > 0:
            losses_BT = losses_BT + config.kl_coef * kl_BT
    if inputs.entropy_BT is not None:
        found_BT["entropy"] = inputs.entropy_BT
        if config.entropy_coef > 0:
            losses_BT = losses_BT - config.entropy_coef * inputs.entropy_BT
    found_BT["log_ratio_limited"] = limited_BT
    losses_B = _within(mask_BT, losses_BT).sum(1)
    if config.aggregation == "sequence_mean":
        losses_B = losses_B / mask_BT.sum(1).clamp(min=1)
    own_BT = mask_BT
    if inputs.off_policy_B is not None:
        own_BT = mask_BT & ~inputs.off_policy_B.unsqueeze(1)
    return LossOutputs(losses_B.sum() / normaliser, _metrics(mask_BT, own_BT, ratio_BT, found_BT))


def _within(mask_BT: Tensor, values_BT: Tensor) -> Tensor:
    """0 outside the mask, in value and in gradient, whatever stands there."""
    return torch.where(mask_BT, values_BT, values_BT.new_zeros(()))


def _log_ratios(inputs: LossInputs, mask_BT: Tensor, config: LossConfig) -> Tensor:
    """log π - log π_old of each token, or the mean of its sequence; 0 outside the mask."""
    of_tokens_BT = _within(mask_BT, inputs.logprobs_BT - inputs.old_logprobs_BT)
    if config.ratio == "token":
        return of_tokens_BT
    lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
    return (of_tokens_BT.sum(1, keepdim=True) / lengths_B1).expand_as(mask_BT)


def _kl(d_BT: Tensor, ratio_BT: Tensor, config: LossConfig) -> Tensor:
    """The estimate whose value is reported and whose gradient is taken."""
    k2_BT = d_BT.square() / 2
    if config.kl_estimator == "k1":
        kl_BT = -d_BT
    elif config.kl_estimator == "k2":
        kl_BT = k2_BT
    else:
        kl_BT = d_BT.exp() - d_BT - 1
    if config.kl_gradient == "ratio":
        return ratio_BT * kl_BT
    if config.kl_gradient == "straight_through":
        return kl_BT.detach() + (k2_BT - k2_BT.detach())
    return kl_BT


def _check(inputs: LossInputs, config: LossConfig) -> None:
    if config.kl_coef > 0 and inputs.ref_logprobs_BT is None:
        raise ValueError(f"kl_coef={config.kl_coef:g} needs ref_logprobs_BT")
    if config.entropy_coef > 0 and inputs.entropy_BT is None:
        raise ValueError(f"entropy_coef={config.entropy_coef:g} needs entropy_BT")
    shape = inputs.logprobs_BT.shape
    names = ("old_logprobs", "mask", "ref_logprobs", "entropy", "sampler_logprobs")
    for name in (f"{name}_BT" for name in names):
        tensor = getattr(inputs, name)
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, logprobs_BT {tuple(shape)}")
    for name in ("advantages_B", "off_policy_B"):
        tensor = getattr(inputs, name)
        if tensor is not None and tensor.shape != shape[:1]:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {(shape[0],)}")


def _metrics(
    mask_BT: Tensor, own_BT: Tensor, ratio_BT: Tensor, found_BT: dict[str, Tensor]
) -> dict[str, float]:
    with torch.no_grad():
        tokens, own_tokens = mask_BT.sum().clamp(min=1), own_BT.sum().clamp(min=1)
        found = {}
        for name, values_BT in found_BT.items():
            of_BT, count = (mask_BT, tokens) if name in OF_ALL else (own_BT, own_tokens)
            found[name] = torch.where(of_BT, values_BT, 0).sum(dtype=torch.float64) / count
        largest = (ratio_BT * own_BT).max() if own_BT.numel() else tokens.new_zeros(())
        found["ratio_max"] = largest.double()
        # One transfer for all of them: on an accelerator each would be a wait of its own.
        values = torch.stack(list(found.values())).tolist()
    return dict(zip(found, values, strict=True))
