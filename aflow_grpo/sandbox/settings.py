"""What can be set about the sandbox: the group `rollout.sandbox` of the YAML files."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SandboxSettings"]


@dataclass(frozen=True)
class SandboxSettings:
    """Where the code that operators write is run."""

    workers: int = 2
    """Jobs at the same time."""
    timeout_s: float = 10.0
    """Processor time of one job; it may take six times as long by the clock."""
    memory_mb: int = 1024
    """Address space of one job."""
