"""What can be set about the simulator; sent to the child process as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.simulator.faults import FaultSettings

__all__ = ["SIMULATED_MODEL", "LatencySpread", "SimulatorSettings"]

SIMULATED_MODEL = "simulated/gpt-4o-mini"
LatencySpread = Literal["exponential", "none"]
_MAX_VISIBILITY = 2.0


@dataclass(frozen=True)
class SimulatorSettings:
    """The imitated model's skill, how fast it replies, and the faults it shows."""

    skill_seed: int = 0
    """Decides which problems the imitated model can solve."""
    effects_seed: int | None = None
    """Draws the imitated model's figures anew, each within its recorded interval: accuracies, gains
    of operators, how reviews and revisions err, lengths of replies; null: the nominal figures."""
    noise: float = 1.0
    """Scales how much repeated calls on one problem differ; 0: they never do."""
    visibility: float = 1.0
    """Scales how far a problem's text shows whether it is hard, from 0 (not at all) to 2; 1 is what
    recorded runs show, for problems of known difficulty the whole of what was chosen for them."""
    latency_ms: float = 0.0
    """Mean time that a reply takes."""
    latency_spread: LatencySpread = "exponential"
    """How single times spread around it: `exponential` (a function of the request) or `none`."""
    structured_outputs: bool = True
    """Whether `response_format` is understood; otherwise it is refused with status 400."""
    api_key: str = ""
    """Other keys are answered with 401; empty: every key is accepted."""
    models: tuple[str, ...] = (SIMULATED_MODEL, "gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    """Served under these names; others are answered with 404."""
    faults: FaultSettings = field(default_factory=FaultSettings)
    """What goes wrong on demand."""

    def __post_init__(self) -> None:
        for name in ("noise", "latency_ms"):
            if getattr(self, name) < 0:
                raise self._wrong(name, "0 or more")
        if not 0 <= self.visibility <= _MAX_VISIBILITY:
            raise self._wrong("visibility", f"0 to {_MAX_VISIBILITY:g}")
        if self.latency_spread not in get_args(LatencySpread):
            raise self._wrong("latency_spread", f"one of {', '.join(get_args(LatencySpread))}")
        if not self.models:
            raise self._wrong("models", "at least one name")

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SimulatorSettings:
        """The settings that `records.to_dict` made `fields` of."""
        faults, models = FaultSettings(**fields["faults"]), tuple(fields["models"])
        return cls(**{**fields, "faults": faults, "models": models})

    def _wrong(self, name: str, expected: str) -> ConfigError:
        return ConfigError(f"llm.simulator.{name}={getattr(self, name)!r}: expected {expected}.")
