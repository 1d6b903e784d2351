"""Turns a policy with adapters into the plain model that it computes as.

Weights are added in float32 and rounded once. Layer by layer and in place, so that nothing but one
layer is in memory twice; 4-bit weights are turned back into numbers first, those that the policy
computed with, not the ones that they were made from.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from aflow_grpo.policy.policy import Policy

__all__ = ["Dtype", "plain_model"]

Dtype = Literal["auto", "float32", "bfloat16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class _Adapter(NamedTuple):
    """One layer's adapter; its product is as large as the layer and is made when needed."""

    down: Tensor
    up: Tensor
    scaling: float

    def change(self) -> Tensor:
        """What it adds to the layer's weight, in float32."""
        return self.scaling * (self.up.float() @ self.down.float())


@torch.no_grad()
def plain_model(policy: Policy, dtype: Dtype = "auto") -> PreTrainedModel:
    """The policy's model without adapters around it; the policy is of no use afterwards.

    Args:
        policy: Set up.
        dtype: Of the weights; ``auto`` is that of the policy's base.
    """
    wanted = _DTYPES[policy.dtype if dtype == "auto" else dtype]
    model: Any = policy.model
    if not isinstance(model, PeftModel):
        return _cast(model, wanted)
    adapters = {_plain_name(name): _adapter(layer) for name, layer in _lora_layers(model)}
    base: Any = model.unload()
    if policy.quantization != "none":
        base = base.dequantize()
    layers: dict[str, Any] = dict(base.named_modules())
    for name, adapter in adapters.items():
        weight = layers[name].weight
        weight.data = (weight.data.float() + adapter.change()).to(wanted)
    return _cast(base.requires_grad_(False), wanted)


def _lora_layers(model: nn.Module) -> list[tuple[str, Any]]:
    return [(n, layer) for n, layer in model.named_modules() if isinstance(layer, LoraLayer)]


def _plain_name(name: str) -> str:
    """A layer's name in the model that the adapters are around."""
    return name.removeprefix("base_model.model.")


def _adapter(layer: Any) -> _Adapter:
    (name,) = layer.lora_A
    return _Adapter(
        layer.lora_A[name].weight.detach(),
        layer.lora_B[name].weight.detach(),
        float(layer.scaling[name]),
    )


def _cast(model: Any, dtype: torch.dtype) -> PreTrainedModel:
    for tensor in (*model.parameters(), *model.buffers()):
        # Buffers such as the positions' frequencies stay as exact as they are.
        if tensor.dtype != dtype and isinstance(tensor, nn.Parameter):
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype
    return model  # type: ignore[no-any-return]
