"""How the tiny policy is made, in numbers; without torch, so that `--help` knows them at once.

Not here: the making (`warmstart`, `supervised`, `tiny`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aflow_grpo.errors import ConfigError

__all__ = ["FlawFamily", "SupervisedSettings", "TinyShape", "WarmStartSettings"]

FlawFamily = Literal["habits", "undefined_names"]
"""What most synthetic workflows fail by (`flaws`, `name_flaws`)."""


@dataclass(frozen=True)
class SupervisedSettings:
    """Batches and optimiser (AdamW) of supervised training."""

    seed: int = 0
    steps: int = 500
    batch_size: int = 32
    """Sequences per step."""
    learning_rate: float = 2.5e-3
    """Peak, after a linear warm-up and before a cosine decay."""
    warmup_steps: int = 20
    final_learning_rate_share: float = 0.02
    """Learning rate at the end, as a share of `learning_rate`."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True)
class TinyShape:
    """Size of the tiny policy; the defaults come to about 0.87 M parameters."""

    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    max_positions: int = 1024
    """Longest prompt and completion together, in tokens."""


@dataclass(frozen=True)
class WarmStartSettings(SupervisedSettings):
    """How the tiny policy is made; the defaults make the shipped one."""

    vocab_size: int = 640
    max_token_length: int = 12
    """Longest token, in bytes."""
    tokenizer_pairs: int = 4000
    """Synthetic pairs that the tokenizer is trained on."""
    foreign_share: float = 0.12
    """Share of training prompts with a text unlike the problems': longer, of unknown words."""
    fresh_problems: int = 1000
    """Generated problems that are trained on besides the shipped ones."""
    flaws: FlawFamily = "habits"
    """What most of its workflows fail by: wrong signatures, arguments, operators and a forgotten
    cost, or prompts that nothing defines and keys that a result does not have."""
    shape: TinyShape = field(default_factory=TinyShape)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer_pairs < 1:
            raise ConfigError(f"tokenizer_pairs is {self.tokenizer_pairs}; expected at least 1")
        if self.vocab_size < 300:
            raise ConfigError(
                f"vocab_size is {self.vocab_size}; expected at least 300 (256 bytes, the special "
                "tokens, and some merges)"
            )
