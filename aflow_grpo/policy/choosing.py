"""From hidden states to chosen tokens, for the few rows of a decoding step.

Made for vocabularies of 152 k: one buffer of unnormalised probabilities is all that is ever held,
and only one block of it per row is summed token by token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["inverse_cdf", "logits_into"]

_BLOCK = 512
"""Tokens per block of the cumulative sum."""
_TILE = 1024
"""Vocabulary entries per product with the head, on processors: 1 MB at a hidden size of 256."""


def logits_into(out_RV: Tensor, head: nn.Linear, hidden_RH: Tensor, temperature: float) -> Tensor:
    """Write (W h + b) / temperature into `out_RV`, fp32, and return it."""
    if hidden_RH.device.type == "cpu" and hidden_RH.dtype is out_RV.dtype is head.weight.dtype:
        # W hᵀ is up to twice as fast as h Wᵀ for a few rows.
        hidden_HR = hidden_RH.t()
        for first in range(0, out_RV.shape[1], _TILE):
            part = slice(first, first + _TILE)
            out_RV[:, part] = (head.weight[part] @ hidden_HR).t()
        if head.bias is not None:
            out_RV += head.bias
    else:
        out_RV.copy_(head(hidden_RH))
    return out_RV if temperature == 1.0 else out_RV.div_(temperature)


def inverse_cdf(weights_RV: Tensor, uniforms_R1: Tensor, top_p: float = 1.0) -> Tensor:
    """The token at which the cumulative weight first exceeds the row's share of the whole.

    Args:
        weights_RV: Probabilities up to a factor per row, (R, V).
        uniforms_R1: In [0, 1), (R, 1) float64.
        top_p: Restrict to the most probable tokens that together have at least this probability.

    Returns:
        Token ids, (R, 1).
    """
    if top_p >= 1.0:
        return _first_above(weights_RV, uniforms_R1)
    sorted_RV, order_RV = weights_RV.sort(-1, descending=True)
    cumulative_RV = sorted_RV.cumsum(-1, dtype=torch.float64)
    kept_RV = cumulative_RV - sorted_RV < top_p * cumulative_RV[:, -1:]
    return order_RV.gather(1, _first_above(sorted_RV.where(kept_RV, 0.0), uniforms_R1))


def _first_above(weights_RV: Tensor, uniforms_R1: Tensor) -> Tensor:
    """The block in which the cumulative weight passes its threshold, then the token in it."""
    count = weights_RV.shape[1]
    even = count - count % _BLOCK
    sums_RK = weights_RV[:, :even].reshape(len(weights_RV), even // _BLOCK, _BLOCK).sum(2)
    if even < count:
        sums_RK = torch.cat([sums_RK, weights_RV[:, even:].sum(1, keepdim=True)], dim=1)
    block_R1, rest_R1 = _passed(sums_RK, uniforms_R1)
    places_RC = block_R1 * _BLOCK + torch.arange(_BLOCK, device=weights_RV.device)
    inside_RC = weights_RV.gather(1, places_RC.clamp(max=count - 1))
    place_R1, _ = _passed(inside_RC.where(places_RC < count, 0.0), rest_R1)
    # Beyond the end only where the weights are not numbers; the update's guard tells that.
    return (block_R1 * _BLOCK + place_R1).clamp(max=count - 1)


def _passed(weights_RK: Tensor, shares_R1: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulative weight passes this share of the whole, and how far into that weight.

    A weight of 0 is never passed, whatever the share: not by one of exactly 0, nor by one that
    rounding has made 1.

    Returns:
        Index and share of the weight there, in [0, 1], both (R, 1).
    """
    # Summed in fp64: over many fp32 terms the tail would be rounded away.
    cumulative_RK = weights_RK.cumsum(1, dtype=torch.float64)
    whole_R1 = cumulative_RK[:, -1:]
    threshold_R1 = shares_R1 * whole_R1
    index_R1 = torch.searchsorted(cumulative_RK, threshold_R1, right=True)
    last_R1 = torch.searchsorted(cumulative_RK, whole_R1.contiguous())
    index_R1 = index_R1.minimum(last_R1).clamp(max=weights_RK.shape[1] - 1)
    weight_R1 = weights_RK.gather(1, index_R1)
    before_R1 = cumulative_RK.gather(1, index_R1) - weight_R1
    return index_R1, ((threshold_R1 - before_R1) / weight_R1).clamp(0.0, 1.0)
