"""Draws completions: prefill each distinct prompt once, then decode all rows together.

Every row has its own random numbers, from a counter-based generator keyed by the row's seed, so
that a completion does not depend on which others are drawn beside it. Rows that have ended leave
the batch. Log-probabilities come from the very logits that were sampled from. Not here: prompts and
text; this module knows token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aflow_grpo.policy.cache import make_cache
from aflow_grpo.policy.loading import CausalParts

__all__ = ["Drawn", "Sampler", "draw", "inverse_cdf", "uniforms"]

_COMPACT_SHARE = 0.25
"""Rows leave the batch when this share of them has ended: dropping copies the cache."""


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    greedy: bool = False


@dataclass(frozen=True)
class Drawn:
    """One drawn row."""

    token_ids: list[int]
    """The end token included, where there is one."""
    logprobs: list[float]
    """At the sampler's temperature, in nats."""
    finished: bool
    """False when the row was cut at `max_new_tokens`."""


def uniforms(seeds: Sequence[int], count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) per seed, (B, count); each row depends on its own seed alone."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return np.stack(rows) if rows else np.empty((0, count))


@torch.inference_mode()
def draw(
    parts: CausalParts,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampler: Sampler,
) -> list[Drawn]:
    """One row per (prompt, seed), in their order.

    Args:
        parts: The model, in eval mode.
        prompts: Token ids, none of them empty; equal prompts are prefilled once.
        seeds: One non-negative seed per prompt.
        sampler: Temperature, limits, greedy or not.
    """
    if not prompts:
        return []
    decoding = _Decoding(parts, prompts, seeds, sampler)
    for step in range(sampler.max_new_tokens):
        if not decoding.choose(step) or step + 1 == sampler.max_new_tokens:
            break
        decoding.advance()
    return decoding.rows()


class _Decoding:
    """The state of one batch; axis R is the rows still alive, axis B all rows."""

    def __init__(
        self,
        parts: CausalParts,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampler: Sampler,
    ) -> None:
        self._parts = parts
        self._sampler = sampler
        device = parts.head.weight.device
        self._end_ids = torch.tensor(sorted(parts.end_ids), device=device)
        steps = sampler.max_new_tokens
        self._tokens_BT = torch.zeros(len(prompts), steps, dtype=torch.long, device=device)
        self._logprobs_BT = torch.zeros(len(prompts), steps, device=device)
        self._lengths_B = torch.full((len(prompts),), steps, device=device)
        self._finished_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        if not sampler.greedy:
            numbers = torch.from_numpy(uniforms(seeds, steps))
            self._uniforms_BT = numbers.to(device)
        self._rows_R = torch.arange(len(prompts), device=device)
        self._alive_R = torch.ones(len(prompts), dtype=torch.bool, device=device)
        self._prefill(prompts, device)

    def _prefill(self, prompts: Sequence[Sequence[int]], device: torch.device) -> None:
        """Run each distinct prompt once, left-padded, and repeat its cache for its rows."""
        distinct = {tuple(prompt): None for prompt in prompts}
        order = {prompt: index for index, prompt in enumerate(distinct)}
        longest = max(map(len, distinct))
        ids_PT = torch.zeros(len(order), longest, dtype=torch.long)
        mask_PT = torch.zeros(len(order), longest, dtype=torch.long)
        for prompt, index in order.items():
            ids_PT[index, longest - len(prompt) :] = torch.tensor(prompt)
            mask_PT[index, longest - len(prompt) :] = 1
        capacity = longest + self._sampler.max_new_tokens
        self._cache = make_cache(self._parts.config, capacity)
        rows_B = torch.tensor([order[tuple(prompt)] for prompt in prompts], device=device)
        padded = bool((mask_PT == 0).any())
        mask_PT = mask_PT.to(device)
        hidden_PTH = self._parts.inner(
            input_ids=ids_PT.to(device),
            attention_mask=mask_PT if padded else None,
            position_ids=(mask_PT.cumsum(1) - 1).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        self._cache.batch_select_indices(rows_B)
        self._hidden_RH = hidden_PTH[:, -1][rows_B]
        self._positions_R1 = mask_PT.sum(1)[rows_B].unsqueeze(1)
        self._filled = longest
        self._mask_RK: Tensor | None = None
        if padded:
            ones = torch.ones(len(prompts), capacity - longest, dtype=torch.long, device=device)
            self._mask_RK = torch.cat([mask_PT[rows_B], ones], dim=1)

    def choose(self, step: int) -> bool:
        """Draw each row's next token; returns whether any row goes on."""
        logits_RV = self._parts.head(self._hidden_RH).float()
        if self._sampler.temperature != 1.0:
            logits_RV = logits_RV / self._sampler.temperature
        logprobs_RV = logits_RV.log_softmax(-1)
        if self._sampler.greedy:
            self._chosen_R1 = logits_RV.argmax(-1, keepdim=True)
        else:
            uniforms_R1 = self._uniforms_BT[self._rows_R, step].unsqueeze(1)
            self._chosen_R1 = inverse_cdf(logprobs_RV.exp(), uniforms_R1, self._sampler.top_p)
        self._tokens_BT[self._rows_R, step] = self._chosen_R1.squeeze(1)
        self._logprobs_BT[self._rows_R, step] = logprobs_RV.gather(1, self._chosen_R1).squeeze(1)
        ended_R = torch.isin(self._chosen_R1.squeeze(1), self._end_ids) & self._alive_R
        ended_rows = self._rows_R[ended_R]
        self._lengths_B[ended_rows] = step + 1
        self._finished_B[ended_rows] = True
        self._alive_R &= ~ended_R
        return bool(self._alive_R.any())

    def advance(self) -> None:
        """Drop rows that have ended, when enough have, and run the model on the chosen tokens."""
        rows = len(self._rows_R)
        kept_R = self._alive_R.nonzero().squeeze(1)
        if rows - len(kept_R) >= _COMPACT_SHARE * rows:
            self._keep(kept_R)
        self._filled += 1
        mask_RK = self._mask_RK
        self._hidden_RH = self._parts.inner(
            input_ids=self._chosen_R1,
            attention_mask=None if mask_RK is None else mask_RK[:, : self._filled],
            position_ids=self._positions_R1,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        self._positions_R1 = self._positions_R1 + 1

    def _keep(self, kept_R: Tensor) -> None:
        self._cache.batch_select_indices(kept_R)
        for name in ("_rows_R", "_alive_R", "_chosen_R1", "_positions_R1"):
            setattr(self, name, getattr(self, name)[kept_R])
        if self._mask_RK is not None:
            self._mask_RK = self._mask_RK[kept_R]

    def rows(self) -> list[Drawn]:
        """What was drawn, for every row."""
        lengths, finished = self._lengths_B.tolist(), self._finished_B.tolist()
        tokens, logprobs = self._tokens_BT.tolist(), self._logprobs_BT.tolist()
        return [
            Drawn(tokens[b][:length], logprobs[b][:length], finished[b])
            for b, length in enumerate(lengths)
        ]


def inverse_cdf(probs_RV: Tensor, uniforms_R1: Tensor, top_p: float = 1.0) -> Tensor:
    """The token at which the cumulative probability first exceeds the row's uniform number.

    Args:
        probs_RV: Probabilities, (R, V).
        uniforms_R1: In [0, 1), (R, 1) float64.
        top_p: Restrict to the most probable tokens that together have at least this probability.

    Returns:
        Token ids, (R, 1).
    """
    # Summed in fp64: over 152 k fp32 terms the tail would be rounded away.
    if top_p >= 1.0:
        cumulative_RV = probs_RV.cumsum(-1, dtype=torch.float64)
        return _first_above(cumulative_RV, uniforms_R1)
    sorted_RV, order_RV = probs_RV.sort(-1, descending=True)
    before_RV = sorted_RV.cumsum(-1, dtype=torch.float64) - sorted_RV
    kept_RV = torch.where(before_RV < top_p, sorted_RV, 0.0)
    cumulative_RV = kept_RV.cumsum(-1, dtype=torch.float64)
    return order_RV.gather(1, _first_above(cumulative_RV, uniforms_R1))


def _first_above(cumulative_RV: Tensor, uniforms_R1: Tensor) -> Tensor:
    thresholds_R1 = uniforms_R1 * cumulative_RV[:, -1:]
    # right=True: a token of probability 0 is never drawn, not even by a uniform of exactly 0.
    index_R1 = torch.searchsorted(cumulative_RV, thresholds_R1, right=True)
    return index_R1.clamp(max=cumulative_RV.shape[-1] - 1)
