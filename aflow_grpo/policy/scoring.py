"""Log-probabilities of completions that were sampled earlier, with gradient.

The completions of a group share their prompt, so each distinct prompt goes through the model once
and its keys and values serve all of its rows, gradients included. Where that is not possible
(sliding windows, activation checkpointing) or not worth it, prompt and completion go through
together. The output head sees only the positions that predict completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from aflow_grpo.grpo.logprobs import token_logprobs
from aflow_grpo.policy.cache import has_full_attention
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
    share_prompts: bool | None = None,
) -> Scored:
    """Teacher-forced log-probabilities of `completions`, in their order.

    Args:
        parts: The model.
        completions: With token ids; their recorded log-probabilities are not read.
        temperature: Divides the logits.
        with_entropy: Whether entropies are wanted.
        share_prompts: Run each distinct prompt once; None does so where it saves work.

    Raises:
        ValueError: There is no completion, or an empty prompt.
    """
    if not completions or any(not completion.prompt_ids for completion in completions):
        raise ValueError("score needs completions, each with a prompt of at least one token")
    if share_prompts is None:
        share_prompts = _sharing_pays(parts, completions)
    device = parts.head.weight.device
    targets_BT, mask_BT = _padded([c.token_ids for c in completions], device)
    hidden_BTH = (_shared if share_prompts else _together)(parts, completions, targets_BT)
    logprobs_N, entropy_N = token_logprobs(
        hidden_BTH[mask_BT],
        parts.head.weight,
        targets_BT[mask_BT],
        temperature=temperature,
        bias_V=parts.head.bias,
        with_entropy=with_entropy,
    )

    def spread(values_N: Tensor) -> Tensor:
        return values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)

    return Scored(spread(logprobs_N), None if entropy_N is None else spread(entropy_N), mask_BT)


def _sharing_pays(parts: CausalParts, completions: Sequence[Completion]) -> bool:
    inner = parts.inner
    if getattr(inner, "gradient_checkpointing", False) and inner.training:
        return False  # Transformers keeps no cache then.
    distinct = len({completion.prompt_ids for completion in completions})
    return 2 * distinct <= len(completions) and has_full_attention(parts.config)


def _together(parts: CausalParts, completions: Sequence[Completion], targets_BT: Tensor) -> Tensor:
    """Hidden states that predict the targets, (B, T, H): prompt and completion in one sequence.

    Right-padded, so that plain causal attention needs no mask. Prompt [7, 8] with completion [9]
    beside prompt [7] with completion [5, 6] gives ids [[7, 8, 9], [7, 5, 6]]; the first targets are
    predicted at places 1 and 0.
    """
    device = targets_BT.device
    ids_BL, _ = _padded([(*c.prompt_ids, *c.token_ids) for c in completions], device)
    hidden_BLH: Tensor = parts.inner(input_ids=ids_BL, use_cache=False).last_hidden_state
    starts_B1 = _lengths(completions, device).unsqueeze(1) - 1
    places_BT = starts_B1 + torch.arange(targets_BT.shape[1], device=device)
    rows_B1 = torch.arange(len(completions), device=device).unsqueeze(1)
    # Beyond a row's end any place does: the mask hides what is found there.
    return hidden_BLH[rows_B1, places_BT.clamp(max=ids_BL.shape[1] - 1)]


def _shared(parts: CausalParts, completions: Sequence[Completion], targets_BT: Tensor) -> Tensor:
    """The same (B, T, H), with each distinct prompt run once.

    Prompts are right-padded, so that they need no mask; the gap between a shorter prompt and its
    completion is masked, and the completion's positions continue where its prompt ended.
    """
    device = targets_BT.device
    order = {c.prompt_ids: None for c in completions}
    index = {prompt: p for p, prompt in enumerate(order)}
    rows_B = torch.tensor([index[c.prompt_ids] for c in completions], device=device)
    lengths_B = _lengths(completions, device)
    ids_PL, mask_PL = _padded(list(order), device)
    cache = DynamicCache(config=parts.config)
    hidden_PLH = parts.inner(
        input_ids=ids_PL, past_key_values=cache, use_cache=True
    ).last_hidden_state
    first_B1H: Tensor = hidden_PLH[rows_B, lengths_B - 1].unsqueeze(1)
    inputs_BS = targets_BT[:, :-1]
    if inputs_BS.shape[1] == 0:
        return first_B1H
    cache.batch_select_indices(rows_B)
    hidden_BSH = parts.inner(
        input_ids=inputs_BS,
        attention_mask=torch.cat(
            [mask_PL[rows_B], torch.ones_like(inputs_BS, dtype=torch.bool)], 1
        ),
        position_ids=lengths_B.unsqueeze(1) + torch.arange(inputs_BS.shape[1], device=device),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first_B1H, hidden_BSH], dim=1)


def _lengths(completions: Sequence[Completion], device: torch.device) -> Tensor:
    """Prompt lengths, (B,)."""
    return torch.tensor([len(c.prompt_ids) for c in completions], device=device)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and their mask, both (rows, longest, at least 1)."""
    longest = max(1, max(map(len, rows)))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    lengths = torch.tensor([[len(row)] for row in rows])
    return ids.to(device), (torch.arange(longest) < lengths).to(device)
