"""What a user sets under `model.policy` in the YAML files."""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.errors import ConfigError

__all__ = ["LoraSettings", "SamplingSettings"]


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on frozen base weights (arXiv 2106.09685)."""

    rank: int = 64
    """Rank of each adapter."""
    alpha: int = 64
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    """On the adapter's input while training; sampling has none."""
    target_modules: str | list[str] = "all-linear"
    """``all-linear`` (every linear layer but the output head), or names such as ``q_proj``."""

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"model.policy.lora.{name}={getattr(self, name)}: expected at least 1."
                )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"model.policy.lora.dropout={self.dropout:g}: expected 0 up to, not including, 1."
            )
        if not self.target_modules:
            raise ConfigError(
                "model.policy.lora.target_modules is empty: expected all-linear or names of linear "
                "layers, e.g. [q_proj, v_proj]."
            )
        if "lm_head" in self.target_modules:
            raise ConfigError(
                "model.policy.lora.target_modules names lm_head: log-probabilities are computed "
                "from the output head's own weight, so it cannot carry an adapter. Leave it out."
            )

    def __str__(self) -> str:
        targets = self.target_modules
        names = targets if isinstance(targets, str) else "+".join(targets)
        return f"LoRA rank {self.rank}, alpha {self.alpha}, on {names}"


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn."""

    temperature: float = 1.0
    """Divides the logits, in sampling and in every log-probability."""
    top_p: float = 1.0
    """Draw from the smallest set of tokens with at least this probability. Below 1 the draws no
    longer follow the recorded log-probabilities, which stay those of the whole distribution."""
    max_new_tokens: int = 384
    """Longest completion, the end token included; a longer one is cut."""
    max_prompt_tokens: int = 640
    """Longest prompt. A longer one loses part of its context, never of its question or rules; for
    a problem that does not fit even so, see `data.skip_too_long`."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(
                f"model.policy.sampling.temperature={self.temperature:g}: expected more than 0; "
                "greedy decoding is what evaluations do besides sampling."
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(
                f"model.policy.sampling.top_p={self.top_p:g}: expected more than 0, at most 1."
            )
        for name, least in (("max_new_tokens", 1), ("max_prompt_tokens", 8)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"model.policy.sampling.{name}={getattr(self, name)}: "
                    f"expected at least {least}."
                )
