"""How much memory a policy needs, by its shape and settings: arithmetic for docs/scaling.md.

Counts what grows with the model and the batch. Not counted: what the framework itself takes (a CUDA
context is 0.3 to 0.8 GB), fragmentation, and what a kernel needs while it runs. Without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ATTENTION", "EVERY_LINEAR", "QWEN2_5", "ModelShape", "activation_bytes_per_token"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERY_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
_ADAM_FP32 = 4 + 4 + 8
"""Bytes of a trained parameter: itself, its gradient, two moments."""
_DDP_BUCKET = 4
"""DDP keeps a second copy of the gradients, in which they are averaged."""
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight: 4 bits, an 8-bit scale for 64 of them, a fp32 scale for 256 of those."""


@dataclass(frozen=True)
class ModelShape:
    """A Qwen2 model's sizes; `head_dim` is `hidden / heads`."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool
    """Whether the output head is the embedding."""

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear maps."""
        keys = self.hidden // self.heads * self.kv_heads
        wide, hidden = self.intermediate, self.hidden
        return {
            "q_proj": (hidden, hidden), "k_proj": (hidden, keys), "v_proj": (hidden, keys),
            "o_proj": (hidden, hidden), "gate_proj": (hidden, wide), "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }  # fmt: skip

    @property
    def quantised(self) -> int:
        """Parameters of the linear maps, the head aside: those that NF4 quantises."""
        return self.layers * sum(rows * columns for rows, columns in self.linears.values())

    @property
    def parameters(self) -> int:
        """All parameters: linear maps, biases of q, k and v, norms, embedding, head."""
        keys = self.linears["k_proj"][1]
        biases_and_norms = self.layers * (3 * self.hidden + 2 * keys) + self.hidden
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.quantised + biases_and_norms + tables

    def adapter_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Parameters of LoRA adapters of this rank on these linear maps of every layer."""
        sizes = (sum(self.linears[name]) for name in targets)
        return self.layers * rank * sum(sizes)

    def weight_bytes(self, *, nf4: bool) -> float:
        """Frozen weights: bf16; with NF4 the linear maps in 4 bits and the rest in bf16."""
        if not nf4:
            return 2.0 * self.parameters
        return _NF4 * self.quantised + 2.0 * (self.parameters - self.quantised)

    def adapter_bytes(self, rank: int, targets: Sequence[str], *, ddp: bool = False) -> int:
        """Adapters in fp32 with gradients and Adam's moments."""
        each = _ADAM_FP32 + (_DDP_BUCKET if ddp else 0)
        return each * self.adapter_parameters(rank, targets)

    def cache_bytes_per_token(self) -> int:
        """Keys and values of one position of one sequence in bf16."""
        return 2 * 2 * self.layers * self.linears["k_proj"][1]

    def sampling_bytes(self, sequences: int, tokens: int) -> int:
        """Cache of `sequences` sampled at once, prompt and completion of `tokens` each."""
        return self.cache_bytes_per_token() * sequences * tokens

    def scoring_bytes(
        self, sequences: int, tokens: int, targets: Sequence[str], *, checkpointing: bool
    ) -> int:
        """What autograd keeps of one micro-batch until its backward pass.

        With gradient checkpointing that is every layer's input, and one layer in full at a time.
        """
        layer = activation_bytes_per_token(self, targets)
        kept = 2 * self.hidden * self.layers + layer if checkpointing else layer * self.layers
        return kept * sequences * tokens

    def tile_bytes(self, positions: int, entries: int) -> int:
        """One tile of logits in fp32 and its exponentials; full logits never exist."""
        return 2 * 4 * positions * min(entries, self.vocabulary)

    def logits_bytes(self, positions: int) -> int:
        """What full logits of so many positions would take in fp32, once."""
        return 4 * positions * self.vocabulary


def activation_bytes_per_token(shape: ModelShape, targets: Sequence[str]) -> int:
    """What autograd keeps of one layer for each token, in bf16 with fp32 adapters.

    Counted on transformers' Qwen2 with PEFT: about 18 hidden + 8 intermediate bytes, of which the
    latter are gate, up, activation and product in bf16, with adapters on attention; adapters on the
    other three keep their inputs once more in fp32, which makes 26 hidden + 12 intermediate.
    """
    on_mlp = "gate_proj" in targets
    return (
        26 * shape.hidden + 12 * shape.intermediate
        if on_mlp
        else (18 * shape.hidden + 8 * shape.intermediate)
    )


QWEN2_5 = {
    "0.5B": ModelShape(896, 24, 14, 2, 4864, 151936, tied=True),
    "1.5B": ModelShape(1536, 28, 12, 2, 8960, 151936, tied=True),
    "7B": ModelShape(3584, 28, 28, 4, 18944, 152064, tied=False),
}
"""The published shapes of Qwen2.5."""
