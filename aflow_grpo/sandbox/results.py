"""What goes into the sandbox and what comes out, whichever back-end runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["Backend", "Job", "JobStatus", "SandboxLimits", "SandboxResult", "Value", "not_run"]

JobStatus = Literal["ok", "error", "timeout", "memory", "crash"]
"""How the source ended: ran through, raised, took too long, asked for too much, died otherwise."""


@dataclass(frozen=True)
class SandboxLimits:
    """What one job may use."""

    timeout_s: float
    """Processor seconds, unless the job says otherwise."""
    memory_mb: int
    """Address space (jail) or heap (Monty), MiB."""
    max_output_bytes: int
    """A job that prints more is killed."""
    wall_factor: float = 6.0
    """Wall-clock limit, in multiples of the processor seconds."""


@dataclass(frozen=True)
class Job:
    """One request: code, then expressions in its namespace."""

    source: str
    expressions: tuple[str, ...]
    timeout_s: float
    """Processor seconds (wall-clock ones in Monty, which cannot tell)."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Values bound to names before the source runs."""


@dataclass(frozen=True)
class Value:
    """What one expression evaluated to."""

    ok: bool
    value: Any = None
    """Built from plain types only; None unless `ok`."""
    error: str = ""
    """Why there is no value; empty when `ok`."""


@dataclass(frozen=True)
class SandboxResult:
    """What a job left behind; everything in it was chosen by untrusted code."""

    status: JobStatus
    """Of the source; a job that dies while evaluating an expression keeps `ok`."""
    values: tuple[Value, ...]
    """One per expression."""
    stdout: str
    error: str
    """Of the source: the last lines of its traceback; empty when it ran through."""
    seconds: float
    """Wall-clock time, without waiting for a free worker."""
    cpu_seconds: float = 0.0
    """Processor time, user and system (wall-clock time in Monty)."""


class Backend(Protocol):
    """One way of running jobs."""

    mode: str
    """How it protects: `jail`, `jail+bwrap` or `monty`."""

    async def start(self) -> None:
        """Get ready; raises SandboxUnavailable where this machine cannot."""

    async def aclose(self) -> None:
        """End every process; may be called twice."""

    async def run(self, job: Job) -> SandboxResult:
        """Run one job; whatever the code does is a result, not an exception."""


def not_run(job: Job, status: JobStatus, error: str) -> SandboxResult:
    """The result of a job that never ran."""
    values = tuple(Value(False, error=f"not evaluated: {error}") for _ in job.expressions)
    return SandboxResult(status, values, "", error, 0.0)
