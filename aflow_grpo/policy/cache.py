"""A key-value cache that is written in place instead of being copied at every step.

Transformers' `DynamicCache` concatenates at each token, which copies everything so far; its
`StaticCache` attends over the whole capacity. This one allocates once and attends over what is
filled. Models with other kinds of layers (sliding windows, state spaces) get the `DynamicCache`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

__all__ = ["PreallocatedLayer", "has_full_attention", "make_cache"]


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, (B, heads, capacity, head_dim), filled up to `length`.

    Args:
        capacity: Most positions that will ever be held.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the new positions; returns views of everything filled."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            batch, heads, _, width = key_states.shape
            self._keys = key_states.new_empty(batch, heads, self.capacity, width)
            self._values = value_states.new_empty(
                batch, heads, self.capacity, value_states.shape[-1]
            )
            self.is_initialized = True
        start, self.length = self.length, self.length + key_states.shape[-2]
        self._keys[:, :, start : self.length] = key_states
        self._values[:, :, start : self.length] = value_states
        return self._refresh()

    def get_seq_length(self) -> int:
        """Number of filled positions."""
        return self.length

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep (or repeat) these rows, in this order."""
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = old.new_empty(len(indices), *old.shape[1:])
            torch.index_select(old[:, :, : self.length], 0, indices, out=new[:, :, : self.length])
            setattr(self, name, new)
        self._refresh()

    def _refresh(self) -> tuple[Tensor, Tensor]:
        keys = self._keys[:, :, : self.length]
        values = self._values[:, :, : self.length]
        self.keys, self.values = keys, values
        return keys, values


def make_cache(config: PretrainedConfig, capacity: int) -> Cache:
    """The fastest cache that fits the model.

    Args:
        config: The model's.
        capacity: Prompt and completion together, in tokens.
    """
    cache = DynamicCache(config=config)
    if has_full_attention(config):
        return Cache(layers=[PreallocatedLayer(capacity) for _ in cache.layers])
    return cache


def has_full_attention(config: PretrainedConfig) -> bool:
    """Whether every layer attends to all earlier positions."""
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
