"""Which rollouts become MLflow traces, and how much of their texts these show.

Here and not beside the code that writes traces (`training.traces`), so that the executor's settings
can be read without MLflow. A trace of five spans takes about 10 ms of processor time, off the
critical path, and in MLflow's SQLite store 12 KB with the simulator's short texts, 24 KB with 8 KB
of texts; the quickstart has about a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.errors import ConfigError

__all__ = ["TraceSettings"]


@dataclass(frozen=True)
class TraceSettings:
    """Traces of sampled rollouts in MLflow."""

    sample_rate: float = 0.02
    """Share of the rollouts, 0 to 1; 0 for no traces. Those that ran to an answer and those that
    did not are taken in turns."""
    max_chars: int = 2000
    """Longest prompt, reply or other text in characters; a longer one loses its middle."""

    def __post_init__(self) -> None:
        if not 0 <= self.sample_rate <= 1:
            raise ConfigError(
                f"llm.traces.sample_rate={self.sample_rate!r}: expected a share from 0 (no traces) "
                "to 1 (every rollout)."
            )
        if self.max_chars < 100:
            raise ConfigError(
                f"llm.traces.max_chars={self.max_chars!r}: expected at least 100. To have no "
                "traces, set llm.traces.sample_rate to 0."
            )
