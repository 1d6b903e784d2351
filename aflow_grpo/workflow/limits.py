"""What one workflow may use while it runs: the interpreter's settings, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.errors import ConfigError

__all__ = ["InterpreterLimits"]


@dataclass(frozen=True)
class InterpreterLimits:
    """What one workflow may use; each limit ends it with a fault kind of its own."""

    max_feed_s: float = 2.0
    """Seconds of computing, waits for operators not counted (`time_limit`)."""
    max_memory_mb: int = 64
    """Heap inside the interpreter, in MiB (`memory_limit`)."""
    max_recursion: int = 900
    """Depth of the call stack (`recursion_limit`)."""
    max_operator_calls: int = 32
    """Operator calls (`call_budget`)."""
    max_argument_chars: int = 200_000
    """Characters over all arguments of one call (`exception`: a TypeError)."""
    max_answer_chars: int = 100_000
    """Length of the answer (`output_limit`)."""

    def __post_init__(self) -> None:
        """Refuses limits that are not positive."""
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"rollout.interpreter.{name}={value}: expected a number above 0")

    @property
    def max_suspensions(self) -> int:
        """Round trips to the host: three per operator call, and some for undefined names."""
        return 200 + 4 * self.max_operator_calls
