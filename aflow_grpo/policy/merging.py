"""Folds small adapters into their base weights while sampling.

Applied as they are trained, adapters triple the number of matrix products of every decoding step.
At laptop size they are folded into copies of the base weights for the time of a batch; the
originals are put back untouched, so that nothing drifts. Large, half-precision or quantised models
keep their adapters apart: a second copy would cost memory, and rounding the sum would change the
policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

__all__ = ["merged_adapters"]

_MOST_WEIGHTS = 50_000_000
"""Largest number of adapted base weights that is copied: 200 MB."""


@contextmanager
def merged_adapters(model: nn.Module) -> Iterator[bool]:
    """Within it, sampling needs no adapters; yields whether it was worth it.

    The weights are the same tensors before and after. Gradients must not be taken within it.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    weights: list[Any] = [layer.get_base_layer().weight for layer in layers]
    merge = (
        bool(layers)
        and all(type(layer.get_base_layer()) is nn.Linear for layer in layers)
        and all(weight.dtype is torch.float32 for weight in weights)
        and sum(weight.numel() for weight in weights) <= _MOST_WEIGHTS
    )
    if not merge:
        yield False
        return
    originals: list[Tensor] = [weight.data for weight in weights]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.merge(safe_merge=True)
        yield True
    finally:
        for layer, weight, original in zip(layers, weights, originals, strict=True):
            weight.data = original
            layer.merged_adapters.clear()
