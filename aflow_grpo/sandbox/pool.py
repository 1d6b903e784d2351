"""`Sandbox`: where the rest of the program runs untrusted Python.

It picks the strongest back-end that this machine can enforce (the jail, else Monty), bounds how
many jobs run at once, and says which one it is. What code may do once it runs is the back-ends'
matter: `jail.py`, `monty_backend.py`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal, Self

from aflow_grpo.errors import ConfigError, SandboxUnavailable
from aflow_grpo.sandbox.jail import JailBackend
from aflow_grpo.sandbox.landlock import landlock_abi
from aflow_grpo.sandbox.monty_backend import MontyBackend
from aflow_grpo.sandbox.results import Backend, Job, SandboxLimits, SandboxResult
from aflow_grpo.sandbox.seccomp import current_architecture

__all__ = ["Sandbox", "sandbox_report"]

_LOG = logging.getLogger(__name__)

SandboxMode = Literal["auto", "jail", "monty"]


class Sandbox:
    """Runs untrusted Python; an async context manager bound to one event loop.

    Args:
        workers: Most jobs at once; others wait their turn.
        timeout_s: Processor seconds of one job (source and expressions together), so that a busy
            machine does not change what a program is worth. Monty counts wall-clock seconds.
        memory_mb: Memory of one job in MiB; `workers` times as much must fit into the machine.
        max_output_bytes: A job that prints more is killed.
        wall_factor: A job that has not ended after this many times `timeout_s` of wall-clock time
            is killed too: for those that only wait.
        mode: `jail`, `monty`, or `auto` for the jail where it holds and Monty elsewhere.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        timeout_s: float = 10.0,
        memory_mb: int = 1024,
        max_output_bytes: int = 65536,
        wall_factor: float = 6.0,
        mode: SandboxMode = "auto",
    ) -> None:
        lowest = {"workers": 1, "timeout_s": 0.01, "memory_mb": 64, "max_output_bytes": 0}
        given = {"workers": workers, "timeout_s": timeout_s}
        given |= {"memory_mb": memory_mb, "max_output_bytes": max_output_bytes}
        lowest["wall_factor"], given["wall_factor"] = 1, wall_factor
        for name, least in lowest.items():
            if not given[name] >= least:
                raise ConfigError(f"sandbox {name}: got {given[name]}, expected at least {least}")
        if mode not in ("auto", "jail", "monty"):
            raise ConfigError(f"sandbox mode: got {mode!r}, expected auto, jail or monty")
        self._limits = SandboxLimits(timeout_s, memory_mb, max_output_bytes, wall_factor)
        self._workers = workers
        self._wanted = mode
        self._backend: Backend | None = None
        self._free = asyncio.Semaphore(workers)
        self._starting = asyncio.Lock()
        self.timeout_s = timeout_s
        """Processor seconds of a job that does not say otherwise."""
        self.mode: str = mode
        """After `start`: `jail`, `jail+bwrap` or `monty`."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start the strongest back-end that works here; a second call does nothing.

        Raises:
            SandboxUnavailable: None of those asked for works here.
        """
        async with self._starting:
            if self._backend is not None:
                return
            candidates: list[Backend] = []
            if self._wanted != "monty":
                candidates.append(JailBackend(self._limits))
            if self._wanted != "jail":
                candidates.append(MontyBackend(self._limits, workers=self._workers))
            reasons = []
            for backend in candidates:
                try:
                    await backend.start()
                except SandboxUnavailable as error:
                    reasons.append(str(error))
                    continue
                self._backend, self.mode = backend, backend.mode
                if reasons:
                    _LOG.warning(
                        "Code that operators run has no jail here (%s); it runs in Monty instead, "
                        "which knows less of Python.",
                        "; ".join(reasons),
                    )
                return
            raise SandboxUnavailable(
                f"No way to run untrusted code safely on this machine ({'; '.join(reasons)}). "
                "Use Linux 5.13 or newer with landlock and seccomp on x86_64 or aarch64, or "
                "install pydantic-monty and set the sandbox's mode to auto or monty."
            )

    async def aclose(self) -> None:
        """End every process of the sandbox; may be called twice."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.aclose()

    async def evaluate(
        self,
        source: str,
        expressions: Sequence[str],
        *,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> SandboxResult:
        """Run `source` as a fresh module, then evaluate `expressions` one by one in its namespace.

        One failing expression leaves the others alone, unless it ends the process (`os._exit`, the
        time limit): those after it are then not evaluated. The module's `__name__` is not
        `__main__`. Hash and random seeds are fixed: the same job gives the same result.

        Args:
            source: Any Python.
            expressions: Their values come back, built from plain types (see `values.py`).
            timeout_s: Processor seconds, instead of the sandbox's own.
            inputs: Values of plain types, bound to names before the source runs.

        Raises:
            RuntimeError: The sandbox is not started.
        """
        if self._backend is None:
            raise RuntimeError("start the sandbox first: `async with Sandbox() as sandbox`")
        limit = self._limits.timeout_s if timeout_s is None else timeout_s
        async with self._free:
            backend = self._backend
            if backend is None:
                raise RuntimeError("the sandbox was closed while this job waited its turn")
            return await backend.run(Job(source, tuple(expressions), limit, dict(inputs or {})))


def sandbox_report() -> dict[str, str]:
    """What this machine offers for running untrusted code, for people; starts nothing."""
    report = {"platform": f"{sys.platform} {os.uname().machine}"}
    if sys.platform.startswith("linux"):
        abi = landlock_abi(ctypes.CDLL(None, use_errno=True))
        report["landlock"] = f"version {abi}" if abi else "missing (Linux 5.13 or newer has it)"
        has_seccomp = os.path.exists("/proc/sys/kernel/seccomp/actions_avail")
        known = current_architecture() is not None
        report["seccomp"] = "available" if has_seccomp and known else "missing"
        report["bubblewrap"] = shutil.which("bwrap") or "not installed (optional)"
    report["monty"] = "installed" if find_spec("pydantic_monty") else "not installed"
    return report
