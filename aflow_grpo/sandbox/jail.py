"""The jail back-end: CPython in a forked, locked-down process per job (Linux, x86_64 and aarch64).

It starts the zygote (inside bubblewrap where that works), proves at start that the locks hold,
turns what a job left into a `SandboxResult`, and replaces a zygote that died. It does not decide
how many jobs run at once (`pool.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sys
import time
from typing import Any

from aflow_grpo.errors import SandboxUnavailable
from aflow_grpo.sandbox import values
from aflow_grpo.sandbox.client import PACKAGE_ROOT, PACKAGES, Outcome, ZygoteClient, ZygoteLost
from aflow_grpo.sandbox.results import Job, JobStatus, SandboxLimits, SandboxResult, Value, not_run

__all__ = ["JailBackend"]

_MAX_REQUEST_BYTES = 16 << 20
_MAX_LINE_BYTES = 2 * values.MAX_BYTES + 1000  # quotes inside a value are escaped
_MAX_ERROR = 4000
_IMPORTS = re.compile(rf"^\s*(?:import|from)\s+({'|'.join(PACKAGES)})\b", re.MULTILINE)

_PROBE = """
import os, socket
def denied(act):
    try:
        act()
    except OSError:
        return True
    return False
"""
_PROBE_EXPRESSIONS = (
    "denied(lambda: open('/etc/passwd').read())",
    "denied(lambda: open('/tmp/aflow-grpo-probe', 'w'))",
    "denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))",
    "denied(lambda: os.fork() or os._exit(0))",
    "denied(lambda: os.execv('/bin/true', ['true']))",
    "denied(lambda: os.kill(os.getppid(), 0))",
)


class JailBackend:
    """Runs jobs in forks of a locked-down zygote.

    Args:
        limits: What one job may use.
        use_bwrap: Put bubblewrap around it where the program is installed and works.
    """

    def __init__(self, limits: SandboxLimits, *, use_bwrap: bool = True) -> None:
        self.mode = "jail"
        self._limits = limits
        self._bwrap = shutil.which("bwrap") if use_bwrap else None
        self._client: ZygoteClient | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def zygote_pid(self) -> int:
        """Process id of the zygote (or of the bubblewrap around it); 0 when there is none."""
        return self._client.pid if self._client else 0

    async def start(self) -> None:
        """Start the zygote and prove that its locks hold.

        Raises:
            SandboxUnavailable: The kernel or the machine cannot enforce the jail.
        """
        if not sys.platform.startswith("linux"):
            raise SandboxUnavailable(f"the jail needs Linux, this is {sys.platform}")
        try:
            await self._start_and_prove()
        except SandboxUnavailable:
            if self._bwrap is None:
                raise
            self._bwrap = None  # installed, but not usable here, e.g. inside a container
            await self._start_and_prove()
        self.mode = "jail+bwrap" if self._bwrap else "jail"

    async def _start_and_prove(self) -> None:
        await self._ready_client()
        result = await self.run(Job(_PROBE, _PROBE_EXPRESSIONS, timeout_s=10.0))
        for expression, value in zip(_PROBE_EXPRESSIONS, result.values, strict=True):
            if value.value is not True:
                await self._end_client()
                raise SandboxUnavailable(
                    f"the jail does not hold on this machine: {expression} gave "
                    f"{value.value!r} {value.error or result.error}, expected True"
                )

    async def aclose(self) -> None:
        """End the zygote and every job, for good; may be called twice."""
        self._closed = True
        async with self._starting:
            await self._end_client()

    async def _end_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ready_client(self) -> ZygoteClient:
        """The living zygote's client; a dead one is replaced."""
        async with self._starting:
            if self._closed:
                raise ZygoteLost
            if self._client is not None and not self._client.alive:
                await self._end_client()
            if self._client is None:
                client = ZygoteClient(
                    bwrap=self._bwrap,
                    memory_mb=self._limits.memory_mb,
                    max_output_bytes=self._limits.max_output_bytes,
                )
                await client.start()
                self._client = client
            return self._client

    async def run(self, job: Job) -> SandboxResult:
        """Run one job; when the zygote dies under it, once more in a new one."""
        try:
            request = _encode_request(job)
        except values.UnsupportedValue as error:
            return not_run(job, "error", f"an input does not cross into the sandbox: {error}")
        if len(request) > _MAX_REQUEST_BYTES:
            return not_run(job, "error", f"the request is longer than {_MAX_REQUEST_BYTES} bytes")
        packages = sorted(set(_IMPORTS.findall(job.source)))
        started = time.monotonic()
        for _ in range(2):
            try:
                client = await self._ready_client()
                outcome = await client.run(
                    request,
                    cpu_s=job.timeout_s,
                    wall_s=job.timeout_s * self._limits.wall_factor,
                    packages=packages,
                )
            except ZygoteLost:
                continue
            seconds = time.monotonic() - started
            return _interpret(job, outcome, self._limits, seconds)
        why = "was closed" if self._closed else "lost its server process twice"
        return not_run(job, "crash", f"the sandbox {why} while this job was under way")


def _encode_request(job: Job) -> bytes:
    inputs = {name: values.encode(value) for name, value in job.inputs.items()}
    request = {"source": job.source, "expressions": job.expressions, "inputs": inputs}
    return json.dumps(request).encode()


def _interpret(job: Job, outcome: Outcome, limits: SandboxLimits, seconds: float) -> SandboxResult:
    """What the job's bytes and exit code mean; the bytes may be forged, so nothing is trusted."""
    ending, why = _ending(job, outcome, limits)
    lines = outcome.report.split(b"\n")[:-1][: 1 + len(job.expressions)]
    try:
        reports = [_parse_line(line) for line in lines]
    except values.MalformedValue as error:
        return not_run(job, "crash", f"the job's report is malformed: {error}")
    status: JobStatus = "ok"
    message = ""
    if not reports:
        status, message = ending, why
    elif not reports[0]["ok"]:
        status = "memory" if reports[0].get("memory") else "error"
        message = _clean(reports[0].get("error"))
    found = [_value(report) for report in reports[1:]] if status == "ok" else []
    missing = len(job.expressions) - len(found)
    if missing and status == "ok":  # the job died while evaluating the first of them
        found.append(Value(False, error=why))
        missing -= 1
    reason = why if status == "ok" else "the source did not run through"
    found += [Value(False, error=f"not evaluated: {reason}")] * missing
    stdout = outcome.stdout.decode("utf-8", "replace")
    return SandboxResult(status, tuple(found), stdout, message, seconds, outcome.cpu_s)


def _ending(job: Job, outcome: Outcome, limits: SandboxLimits) -> tuple[JobStatus, str]:
    """How the process ended, for whatever it had not reported by then."""
    if outcome.flooded:
        most = limits.max_output_bytes
        return "error", f"printed more than {most} bytes, or returned far too much"
    if outcome.over == "cpu":
        return "timeout", f"did not finish within {job.timeout_s:g} s of processor time"
    if outcome.over == "wall":
        wall_s = job.timeout_s * limits.wall_factor
        return "timeout", f"did not finish within {wall_s:g} s of waiting and computing"
    if outcome.code == -signal.SIGSYS:
        return "crash", "the process was killed for a forbidden system call"
    if outcome.code < 0:
        return "crash", f"the process was killed by {signal.Signals(-outcome.code).name}"
    return "crash", f"the process ended with exit code {outcome.code} before it was done"


def _parse_line(line: bytes) -> dict[str, Any]:
    if len(line) > _MAX_LINE_BYTES:
        raise values.MalformedValue("too long")
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        raise values.MalformedValue("no JSON") from None
    if not isinstance(report, dict) or not isinstance(report.get("ok"), bool):
        raise values.MalformedValue("no report")
    return report


def _value(report: dict[str, Any]) -> Value:
    if not report["ok"]:
        return Value(False, error=_clean(report.get("error")))
    try:
        text = report.get("value")
        if not isinstance(text, str):
            raise values.MalformedValue("no text")
        return Value(True, values.loads(text))
    except values.MalformedValue as error:
        return Value(False, error=f"malformed value: {error}")


def _clean(error: Any) -> str:
    """An error text without this machine's paths, bounded."""
    text = error[: 4 * _MAX_ERROR] if isinstance(error, str) else ""
    for path in {sys.prefix, sys.base_prefix, str(PACKAGE_ROOT)} - {"/", "/usr"}:
        text = text.replace(path, "...")
    return text[:_MAX_ERROR] or "failed without a message"
