"""What is optimised, in numbers: the effective settings of advantage and loss.

Every field is filled: `presets.py` makes these from what a user set, and the functions on tensors
(`advantages.py`, `losses.py`, `correction.py`) read nothing else. Without torch, so that the
command line can show them at once. Not here: what the published losses are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal

from aflow_grpo.errors import ConfigError

__all__ = ["KEY", "AdvantageConfig", "LossConfig", "Objective"]

KEY = "model.grpo.loss"
"""Where a user sets all of this."""


def _at_least(name: str, value: float, least: float, *, above: bool = False) -> None:
    # Written so that a NaN is refused too.
    if not (value > least if above else value >= least):
        expected = f"more than {least:g}" if above else f"{least:g} or more"
        raise ConfigError(f"{KEY}.{name}={value:g}: expected {expected}.")


@dataclass(frozen=True)
class AdvantageConfig:
    """How rewards become advantages; equations in `advantages.py`."""

    scale: Literal["none", "group_std", "batch_std", "leave_one_out"] = "group_std"
    """What r - mean is divided by, or `leave_one_out`: the mean is that of the other members."""
    ddof: int = 1
    """1: the unbiased standard deviation (n - 1); 0: that of the sample (n)."""
    eps: float = 1e-4
    """Added to the standard deviation, in units of reward."""
    clip: float = float("inf")
    """Largest absolute advantage; infinite: no limit."""

    def __post_init__(self) -> None:
        if self.ddof not in (0, 1):
            raise ConfigError(f"{KEY}.advantage_ddof={self.ddof}: expected 0 or 1.")
        _at_least("advantage_eps", self.eps, 0)
        _at_least("advantage_clip", self.clip, 0, above=True)


@dataclass(frozen=True)
class LossConfig:
    """Which loss; equation in `losses.py`."""

    clip_low: float = 0.2
    """ε_low: how far below 1 the probability ratio may push, in [0, 1]; 1 switches it off."""
    clip_high: float = 0.2
    """ε_high: how far above 1; infinite: no limit."""
    ratio: Literal["token", "sequence"] = "token"
    """One ratio per token, or one per sequence: the exponential of its mean log-ratio (GSPO)."""
    log_ratio_limit: float = 20.0
    """Largest absolute log-ratio that is exponentiated, in nats; infinite: no limit."""
    kl_coef: float = 0.0
    """β: weight of the KL to the reference policy; 0 needs no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Which estimate of the KL."""
    kl_gradient: Literal["classic", "ratio", "straight_through"] = "classic"
    """How it is differentiated: as it stands, times the probability ratio, or as k2."""
    entropy_coef: float = 0.0
    """c: weight of the entropy bonus, per token and nat."""
    aggregation: Literal["sequence_mean", "token_mean", "constant"] = "sequence_mean"
    """Mean over sequences of token means, mean over all tokens, or sum over a constant."""
    max_length: int = 0
    """`constant` only: the number of tokens that every sequence is divided by; 0: the most that
    the policy may write (`resolve` is told)."""
    correction: Literal["off", "token", "sequence"] = "token"
    """Level of the truncated importance correction, where the sampler's log-probs are given."""
    correction_cap: float = 2.0
    """Largest correction weight; infinite: no limit."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_low <= 1:
            raise ConfigError(f"{KEY}.clip_low={self.clip_low:g}: expected 0 to 1.")
        for name in ("clip_high", "kl_coef", "entropy_coef", "max_length"):
            _at_least(name, getattr(self, name), 0)
        for name in ("log_ratio_limit", "correction_cap"):
            _at_least(name, getattr(self, name), 0, above=True)
        if self.kl_coef > 0 and (self.kl_estimator, self.kl_gradient) == ("k1", "classic"):
            raise ConfigError(
                f"{KEY}.kl_gradient=classic: the gradient of {KEY}.kl_estimator=k1 as it stands is "
                "0 on average and holds nothing back. Use ratio or straight_through, or k2 or k3."
            )


@dataclass(frozen=True)
class Objective:
    """Everything that decides what an update optimises."""

    preset: str = "default"
    """The published loss that it began with."""
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    correction: Literal["auto", "off", "token", "sequence"] = "auto"
    """`auto`: corrected, at `loss.correction`, only where sampler and trainer may differ."""
    overlong: Literal["keep", "mask"] = "keep"
    """Whether completions that were cut at their length limit stay in the loss. Their rewards stay
    in their group's mean in both cases."""
    zero_variance: Literal["keep", "drop", "resample"] = "keep"
    """Groups with equal rewards: keep them, for KL and entropy; drop them from the loss; or drop
    them and draw other problems in their place."""
    resample_limit: int = 10
    """`resample` only: so many times per iteration at most."""

    def __post_init__(self) -> None:
        _at_least("resample_limit", self.resample_limit, 1)

    def settings(self) -> dict[str, str | int | float]:
        """The effective value of every key of `model.grpo.loss`, preset first."""
        found: dict[str, str | int | float] = {"preset": self.preset}
        for prefix, part in (("advantage_", self.advantage), ("", self.loss), ("", self)):
            for each in fields(part):
                value = getattr(part, each.name)
                if not is_dataclass(value):
                    found[f"{prefix}{each.name}"] = value
        return found
