"""How answers are judged: the profile, a user's own scorers, the clocks.

Not covered: the rules themselves (the domains' modules), how a user's scorer is found and called
(`scorers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from aflow_grpo.errors import ConfigError

__all__ = ["Profile", "ScoringSettings"]

Profile = Literal["strict", "aflow"]


@dataclass(frozen=True)
class ScoringSettings:
    """How a run decides what is right (config key `rollout.scoring`)."""

    profile: Profile = "strict"
    """`strict` is right: 1 or 0, nothing between. `aflow` reproduces AFlow's published scorers,
    defects included, so that numbers compare; never train on it."""
    scorers: dict[str, str] = field(default_factory=dict)
    """Dataset -> import path `module.function` of a scorer of your own; docs/scoring.md says how
    to write one. It comes before both profiles."""
    code_timeout_s: float | None = None
    """Most processor seconds for all hidden tests of one program; null: the sandbox's, or 15 in
    the profile `aflow`."""
    math_timeout_s: float = 5.0
    """Most seconds for one comparison of two formulas."""

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            raise _wrong("profile", self.profile, f"one of {', '.join(get_args(Profile))}")
        if self.code_timeout_s is not None:
            _check_seconds("code_timeout_s", self.code_timeout_s)
        _check_seconds("math_timeout_s", self.math_timeout_s)


def _check_seconds(name: str, given: float) -> None:
    if not (math.isfinite(given) and given > 0):
        raise _wrong(name, given, "a number of seconds above 0")


def _wrong(name: str, given: object, expected: str) -> ConfigError:
    return ConfigError(f"rollout.scoring.{name} is {given!r}, expected {expected}")
