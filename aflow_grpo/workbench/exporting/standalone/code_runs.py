"""Runs programs that a model wrote, each in a process of its own.

The process has an empty environment, limits of processor time, memory and file size, a temporary
folder, and an end. It is no jail: such a program can read the files that you can read and use the
network. That is why nothing of it happens without `--run-code`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_grpo.sandbox.client import Outcome
from aflow_grpo.sandbox.jail import _encode_request, _interpret
from aflow_grpo.sandbox.job import LENGTH_PREFIX, run_job
from aflow_grpo.sandbox.results import Job, SandboxLimits, SandboxResult, not_run
from aflow_grpo.sandbox.values import UnsupportedValue
from aflow_grpo.workbench.exporting.standalone.executor import FaultKind, WorkflowFault

__all__ = ["CHANNEL", "CODE_LIMITS", "ONE_PROGRAM", "PACKAGE_ROOT", "Sandbox", "run_one_program"]

ONE_PROGRAM = "--run-one-program"
"""The file called so by itself is one of those processes."""
CODE_LIMITS = SandboxLimits(timeout_s=10.0, memory_mb=1024, max_output_bytes=1_000_000)
CHANNEL = 3
"""File descriptor of the process's end of the channel."""
PACKAGE_ROOT = Path(__file__).resolve().parent
_MAX_FILE_BYTES = 10 << 20
_MAX_REPORT_BYTES = 4 << 20
_END_S = 2.0
_CHUNK = 1 << 16


class Sandbox:
    """Runs code and evaluates expressions in its namespace.

    Args:
        allowed: Whether the user has said `--run-code`.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self.timeout_s = CODE_LIMITS.timeout_s

    def require_allowed(self, operator: str) -> None:
        """Called before an operator that runs programs does anything.

        Raises:
            WorkflowFault: It may not.
        """
        if not self._allowed or os.name != "posix":
            why = "it was started without --run-code" if os.name == "posix" else "this is no POSIX"
            message = f"{operator}: runs programs that a model wrote, which is off: {why}"
            raise WorkflowFault(FaultKind.EXCEPTION, message)

    async def evaluate(
        self,
        source: str,
        expressions: Sequence[str],
        *,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> SandboxResult:
        """Run `source` as a module, then evaluate `expressions` one by one in its namespace."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        job = Job(source, tuple(expressions), limit_s, dict(inputs or {}))
        try:
            request = _encode_request(job)
        except UnsupportedValue as error:
            return not_run(job, "error", f"an input does not cross into the sandbox: {error}")
        started = time.monotonic()
        outcome = await asyncio.to_thread(_run_process, request, limit_s)
        return _interpret(job, outcome, CODE_LIMITS, time.monotonic() - started)


def run_one_program() -> None:
    """What the process does: limits for itself, then the program that comes in on its stdin."""
    import resource  # POSIX alone has it

    cpu_s = max(1, math.ceil(float(sys.argv[2])))
    memory = CODE_LIMITS.memory_mb << 20
    # A second between them, so that the signal says which limit it was.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(0, CHANNEL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    run_job()


def _run_process(request: bytes, cpu_s: float) -> Outcome:
    """One process, from its start to its end and that of whatever it started."""
    ours, theirs = socket.socketpair()
    flags = ["-s", "-P", "-B", "-X", "utf8"]
    command = [sys.executable, *flags, os.path.abspath(__file__), ONE_PROGRAM, f"{cpu_s:g}"]
    with tempfile.TemporaryDirectory() as folder, ours:
        with theirs:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},
                cwd=folder,
                start_new_session=True,
            )
        assert process.stdout is not None
        report = _Reader(ours.recv, _MAX_REPORT_BYTES, process.pid)
        printed = _Reader(process.stdout.read1, CODE_LIMITS.max_output_bytes, process.pid)  # type: ignore[attr-defined]
        clock = threading.Timer(cpu_s * CODE_LIMITS.wall_factor, report.kill)
        clock.start()
        with contextlib.suppress(OSError):  # it may be gone already
            ours.sendall(LENGTH_PREFIX.pack(len(request)) + request)
        _, status, used = os.wait4(process.pid, 0)
        on_time = clock.is_alive()
        clock.cancel()
        process.returncode = code = os.waitstatus_to_exitcode(status)
        report.kill()  # what it started and left behind
        data, text = report.result(), printed.result()
        process.stdout.close()
    over: Any = "cpu" if code == -signal.SIGXCPU else "" if on_time else "wall"
    flooded = report.flooded or printed.flooded
    return Outcome(data, text, code, over, used.ru_utime + used.ru_stime, flooded)


class _Reader(threading.Thread):
    """Reads to the end of a stream, or to its limit, where the process is ended."""

    def __init__(self, read: Any, limit: int, group: int) -> None:
        super().__init__(daemon=True)
        self._read, self._limit, self._group = read, limit, group
        self._data = bytearray()
        self.flooded = False
        self.start()

    def run(self) -> None:
        try:
            while part := self._read(_CHUNK):
                self._data += part[: self._limit + 1 - len(self._data)]
                if len(self._data) > self._limit and not self.flooded:
                    self.flooded = True
                    self.kill()
        except (OSError, ValueError):
            pass  # closed under it

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, signal.SIGKILL)

    def result(self) -> bytes:
        """What was read."""
        self.join(_END_S)
        return bytes(self._data[: self._limit])
