"""Who draws the tokens of a policy whose weights are here: this process, or a server beside it.

Both sit behind one small protocol, so that `Policy` does not know which it has. Here is the one in
this process; the other is `served`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import nn

from aflow_grpo.policy.loading import CausalParts
from aflow_grpo.policy.merging import merged_adapters
from aflow_grpo.policy.sampling import Drawn, Sampler, draw

__all__ = ["InProcess", "OnRow", "SamplingBackend"]

OnRow = Callable[[int, Drawn], None]
"""Called with a row's place among those asked for and the row."""


class SamplingBackend(Protocol):
    """Draws completions with a policy's current weights."""

    @property
    def differs(self) -> bool:
        """Whether its arithmetic is another than that of the model here."""

    def draw(
        self,
        model: nn.Module,
        parts: CausalParts,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampler: Sampler,
        on_row: OnRow | None = None,
    ) -> list[Drawn]:
        """One row per (prompt, seed), in their order.

        Args:
            model: The policy's model, adapters included, in eval mode.
            parts: The same, taken apart.
            prompts: Token ids, none of them empty.
            seeds: One non-negative seed per prompt; unused when greedy.
            sampler: Temperature, limits, greedy or not.
            on_row: Called once for each row, in this thread, as soon as it has ended.
        """


class InProcess:
    """Draws with the model itself."""

    differs = False

    def draw(
        self,
        model: nn.Module,
        parts: CausalParts,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampler: Sampler,
        on_row: OnRow | None = None,
    ) -> list[Drawn]:
        """See `SamplingBackend.draw`; equal prompts are prefilled once."""
        with merged_adapters(model):
            return draw(parts, prompts, seeds, sampler, on_row=on_row)
