"""Log-probabilities of completions that were sampled earlier, with gradient.

Prompt and completion go through the model right-padded, so that plain causal attention needs no
mask; the output head sees only the positions that predict completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aflow_grpo.grpo.logprobs import token_logprobs
from aflow_grpo.policy.loading import CausalParts
from aflow_grpo.records import Completion

__all__ = ["Scored", "score"]


class Scored(NamedTuple):
    """Per-token results of a micro-batch; T is its longest completion."""

    logprobs_BT: Tensor
    """log π of each sampled token at the sampling temperature, in nats; 0 outside the mask."""
    entropy_BT: Tensor | None
    """Entropy at each position, in nats; 0 outside the mask; None when not asked for."""
    mask_BT: Tensor
    """True on completion tokens."""


def score(
    parts: CausalParts,
    completions: Sequence[Completion],
    *,
    temperature: float,
    with_entropy: bool = False,
) -> Scored:
    """Teacher-forced log-probabilities of `completions`, in their order.

    Raises:
        ValueError: There is no completion, or an empty prompt.
    """
    if not completions or any(not completion.prompt_ids for completion in completions):
        raise ValueError("score needs completions, each with a prompt of at least one token")
    device = parts.head.weight.device
    ids_BL, mask_BT, positions_BT = _tensors(completions)
    ids_BL, mask_BT, positions_BT = (t.to(device) for t in (ids_BL, mask_BT, positions_BT))
    hidden_BLH = parts.inner(input_ids=ids_BL, use_cache=False).last_hidden_state
    rows_N, columns_N = mask_BT.nonzero(as_tuple=True)
    places_N = positions_BT[rows_N, columns_N]
    logprobs_N, entropy_N = token_logprobs(
        hidden_BLH[rows_N, places_N - 1],
        parts.head.weight,
        ids_BL[rows_N, places_N],
        temperature=temperature,
        bias_V=parts.head.bias,
        with_entropy=with_entropy,
    )

    def spread(values_N: Tensor) -> Tensor:
        blank_BT = values_N.new_zeros(mask_BT.shape)
        return blank_BT.index_put((rows_N, columns_N), values_N)

    return Scored(spread(logprobs_N), None if entropy_N is None else spread(entropy_N), mask_BT)


def _tensors(completions: Sequence[Completion]) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids (B, L), completion mask (B, T), and each token's place in its row (B, T).

    Prompt [7, 8] and completion [9] beside prompt [7] and completion [5, 6] give ids
    [[7, 8, 9], [7, 5, 6]], mask [[1, 0], [1, 1]] and places [[2, 3], [1, 2]].
    """
    sequences = [(*c.prompt_ids, *c.token_ids) for c in completions]
    longest = max(map(len, sequences))
    ids_BL = torch.tensor([s + (0,) * (longest - len(s)) for s in sequences])
    lengths_B1 = torch.tensor([[len(c.token_ids)] for c in completions])
    prompts_B1 = torch.tensor([[len(c.prompt_ids)] for c in completions])
    columns_T = torch.arange(max(1, int(lengths_B1.max())))
    return ids_BL, columns_T < lengths_B1, prompts_B1 + columns_T
