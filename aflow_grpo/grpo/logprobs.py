"""Log-probabilities of given tokens from hidden states, without ever holding all logits.

At a vocabulary of 152 k the logits of a few thousand positions are gigabytes, and a plain
`log_softmax` holds three copies. Here the head is applied to a tile of positions at a time, and in
the backward pass each tile is computed again. A small vocabulary fits in one tile, which is then
kept instead. Not here: which positions are scored; the caller passes hidden states of completion
positions only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["token_logprobs"]

_TILE_ELEMENTS = 2**23
"""Logits per tile: 32 MB in fp32 per temporary, or 55 positions of a vocabulary of 152 k."""


def token_logprobs(
    hidden_BTH: Tensor,
    weight_VH: Tensor,
    targets_BT: Tensor,
    *,
    temperature: float,
    bias_V: Tensor | None = None,
    with_entropy: bool = True,
    tile: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """log softmax(W h / temperature)[target] and the entropy of that distribution.

    Exact: equals the full computation to rounding, in value and in gradient. Half precision is
    raised to fp32 after the head, fp64 stays. A frozen `weight_VH` gets no gradient.

    Args:
        hidden_BTH: Hidden states that predict the targets, (..., H).
        weight_VH: The output head's weight, (V, H).
        targets_BT: Token ids, (...), int64.
        temperature: Logits are divided by it, > 0.
        bias_V: The head's bias, (V,).
        with_entropy: Whether the entropy is wanted; it costs time and, when kept, memory.
        tile: Positions per tile; None chooses by the vocabulary's size.

    Returns:
        Log-probabilities and entropies in nats, both of the shape of `targets_BT`; entropies are
        None when not wanted.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature:g}: expected more than 0")
    shape = targets_BT.shape
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])
    targets_N = targets_BT.reshape(-1)
    if hidden_NH.shape[0] != targets_N.shape[0]:
        raise ValueError(
            f"hidden states of shape {tuple(hidden_BTH.shape)} do not fit targets {tuple(shape)}"
        )
    positions = hidden_NH.shape[0]
    size = tile or max(1, _TILE_ELEMENTS // weight_VH.shape[0])
    # Recomputing pays only when there is something to save.
    recompute = size < positions and torch.is_grad_enabled()
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for first in range(0, max(positions, 1), size):
        part = slice(first, first + size)
        arguments = (hidden_NH[part], weight_VH, bias_V, targets_N[part], temperature, with_entropy)
        if recompute:
            logprob_N, entropy_N = checkpoint(
                _tile_logprobs, *arguments, use_reentrant=False, preserve_rng_state=False
            )
        else:
            logprob_N, entropy_N = _tile_logprobs(*arguments)
        logprobs.append(logprob_N)
        if entropy_N is not None:
            entropies.append(entropy_N)
    logprobs_BT = torch.cat(logprobs).view(shape)
    return logprobs_BT, torch.cat(entropies).view(shape) if with_entropy else None


def _tile_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float,
    with_entropy: bool,
) -> tuple[Tensor, Tensor | None]:
    logits_NV = F.linear(hidden_NH, weight_VH, bias_V)
    if logits_NV.dtype in (torch.float16, torch.bfloat16):
        logits_NV = logits_NV.float()
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    all_NV = logits_NV.log_softmax(-1)
    logprob_N = all_NV.gather(-1, targets_N.unsqueeze(-1)).squeeze(-1)
    if not with_entropy:
        return logprob_N, None
    return logprob_N, -(all_NV.exp() * all_NV).sum(-1)
