"""Draws completions: prefill each distinct prompt once, then decode all rows together.

Every row has its own random numbers, from a counter-based generator keyed by the row's seed, so
that a completion does not depend on which others are drawn beside it. Rows that have ended leave
the batch and are handed over at once. Log-probabilities come from the very logits that were sampled
from. Not here: prompts and text; this module knows token ids only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aflow_grpo.policy.cache import make_cache
from aflow_grpo.policy.choosing import inverse_cdf, logits_into
from aflow_grpo.policy.loading import CausalParts

__all__ = ["Drawn", "Sampler", "draw", "uniforms"]

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


def draw(
    parts: CausalParts,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampler: Sampler,
    *,
    on_row: Callable[[int, Drawn], None] | None = None,
) -> list[Drawn]:
    """One row per (prompt, seed), in their order.

    Args:
        parts: The model, in eval mode.
        prompts: Token ids, none of them empty; equal prompts are prefilled once.
        seeds: One non-negative seed per prompt.
        sampler: Temperature, limits, greedy or not.
        on_row: Called with a row's number and the row as soon as it has ended, while others are
            still being drawn; once per row. What it raises ends the drawing.
    """
    drawn_B: list[Drawn | None] = [None] * len(prompts)
    with torch.inference_mode():
        decoding = _Decoding(parts, prompts, seeds, sampler) if prompts else None
    step = 0
    while decoding is not None:
        with torch.inference_mode():
            ended = decoding.choose(step)
        for b, row in ended.items():
            drawn_B[b] = row
            if on_row is not None:
                on_row(b, row)
        if not decoding.alive:
            break
        with torch.inference_mode():
            decoding.advance()
        step += 1
    return [row for row in drawn_B if row is not None]


class _Decoding:
    """The state of one batch; axis R is the rows still decoded, axis B all rows."""

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
        if not sampler.greedy:
            numbers = torch.from_numpy(uniforms(seeds, steps))
            self._uniforms_BT = numbers.to(device)
        self._weights_BV = torch.empty(len(prompts), parts.head.weight.shape[0], device=device)
        self._rows = list(range(len(prompts)))
        self._rows_R = torch.arange(len(prompts), device=device)
        self.alive = set(self._rows)
        """Rows that have not ended; those that have stay in the batch until enough have."""
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

    def choose(self, step: int) -> dict[int, Drawn]:
        """Draw each row's next token; returns the rows that this ends."""
        sampler, rows_R = self._sampler, self._rows_R
        weights_RV = logits_into(
            self._weights_BV[: len(rows_R)], self._parts.head, self._hidden_RH, sampler.temperature
        )
        highest_R1, chosen_R1 = weights_RV.max(1, keepdim=True)
        weights_RV.sub_(highest_R1).exp_()
        if not sampler.greedy:
            uniforms_R1 = self._uniforms_BT[rows_R, step].unsqueeze(1)
            chosen_R1 = inverse_cdf(weights_RV, uniforms_R1, sampler.top_p)
        logprobs_R1 = weights_RV.gather(1, chosen_R1).log() - weights_RV.sum(1, keepdim=True).log()
        self._chosen_R1 = chosen_R1
        self._tokens_BT[rows_R, step] = chosen_R1.squeeze(1)
        self._logprobs_BT[rows_R, step] = logprobs_R1.squeeze(1)
        finished_R = torch.isin(chosen_R1.squeeze(1), self._end_ids).tolist()
        cut = step + 1 == sampler.max_new_tokens
        return {
            b: self._end(b, step + 1, finished)
            for b, finished in zip(self._rows, finished_R, strict=True)
            if b in self.alive and (finished or cut)
        }

    def _end(self, b: int, length: int, finished: bool) -> Drawn:
        self.alive.remove(b)
        tokens, logprobs = self._tokens_BT[b, :length], self._logprobs_BT[b, :length]
        return Drawn(tokens.tolist(), logprobs.tolist(), finished)

    def advance(self) -> None:
        """Drop rows that have ended, when enough have, and run the model on the chosen tokens."""
        if len(self._rows) - len(self.alive) >= _COMPACT_SHARE * len(self._rows):
            self._keep([r for r, b in enumerate(self._rows) if b in self.alive])
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

    def _keep(self, kept: list[int]) -> None:
        self._rows = [self._rows[r] for r in kept]
        kept_R = torch.tensor(kept, device=self._rows_R.device)
        self._cache.batch_select_indices(kept_R)
        for name in ("_rows_R", "_chosen_R1", "_positions_R1"):
            setattr(self, name, getattr(self, name)[kept_R])
        if self._mask_RK is not None:
            self._mask_RK = self._mask_RK[kept_R]
