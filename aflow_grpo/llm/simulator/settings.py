"""What can be set about the simulator; sent to the child process as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.errors import ConfigError

__all__ = ["SIMULATED_MODEL", "SimulatorSettings"]

SIMULATED_MODEL = "simulated/gpt-4o-mini"


@dataclass(frozen=True)
class SimulatorSettings:
    """The imitated model's skill, and the trouble it makes."""

    skill_seed: int = 0
    """Decides which problems the imitated model can solve."""
    noise: float = 1.0
    """Scales how much repeated calls on one problem differ; 0: they never do."""
    latency_ms: float = 0.0
    """Mean time that a reply takes (exponentially distributed, a function of the request)."""
    rate_429: float = 0.0
    """Share of requests whose first attempt is answered with 429 and a Retry-After."""
    rate_500: float = 0.0
    """Share of requests whose first attempt is answered with 500."""
    rate_hang: float = 0.0
    """Share of requests whose first attempt is never answered."""
    rate_malformed: float = 0.0
    """Share of replies that lack the tags or the code that the prompt asks for."""
    retry_after_s: float = 0.05
    """What a 429 asks the client to wait."""
    api_key: str = ""
    """Other keys are answered with 401; empty: every key is accepted."""
    models: tuple[str, ...] = (SIMULATED_MODEL, "gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    """Served under these names; others are answered with 404."""

    def __post_init__(self) -> None:
        rates = ("rate_429", "rate_500", "rate_hang", "rate_malformed")
        for name in rates:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"rollout.simulator.{name}={getattr(self, name)!r}: expected 0 to 1."
                )
        if self.rate_429 + self.rate_500 + self.rate_hang > 1:
            raise ConfigError(
                "rollout.simulator.rate_429 + rate_500 + rate_hang is more than 1: one attempt "
                "fails in one way only. Lower them."
            )
        for name in ("noise", "latency_ms", "retry_after_s"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"rollout.simulator.{name}={getattr(self, name)!r}: expected 0 or more."
                )
