"""The asyncio side of one zygote process: starts it, hands it jobs, collects what they leave.

One `ZygoteClient` lives as long as its process; who wants another process makes another client
(`jail.py`). It knows bytes and exit codes only; what they mean is `jail.py`'s business.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from itertools import count
from pathlib import Path
from typing import Any, Literal

from aflow_grpo.errors import SandboxUnavailable
from aflow_grpo.sandbox.job import LENGTH_PREFIX

__all__ = [
    "PACKAGES",
    "PACKAGE_ROOT",
    "Outcome",
    "ZygoteClient",
    "ZygoteLost",
    "installed_packages",
]

PACKAGES = ("numpy", "sympy", "mpmath")
"""Third-party packages that jobs may import, where they are installed; no other one is readable."""

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""
_BOOTSTRAP = (
    "import json, sys; root = json.loads(sys.argv[1])['root']; sys.path.insert(0, root); "
    "from aflow_grpo.sandbox.zygote import main; main()"
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 5.0
_GRACE_S = 5.0
_CHUNK = 1 << 16
_MAX_REPORT_BYTES = 4 << 20
"""Longest report (all values together) that is read from one job."""


class ZygoteLost(Exception):
    """The zygote ended while a job was under way."""


@dataclass(frozen=True)
class Outcome:
    """What one job left: bytes, and how its process ended."""

    report: bytes
    stdout: bytes
    code: int
    """Exit code, negative for a signal."""
    over: Literal["", "cpu", "wall"]
    """The time limit that it was killed for, if any."""
    cpu_s: float
    """Processor time, user and system."""
    flooded: bool
    """It printed or reported more than allowed and was killed for it."""


def installed_packages() -> dict[str, str]:
    """Those of `PACKAGES` that are installed here -> the directory they lie in."""
    found = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found[name] = str(Path(spec.origin).parent.parent)
    return found


def _multiarch() -> list[str]:
    triplet = sysconfig.get_config_var("MULTIARCH")
    return [f"{base}/{triplet}" for base in ("/lib", "/usr/lib")] if triplet else []


def _settings(control: int) -> dict[str, Any]:
    """What the zygote must know: above all which paths stay readable.

    The standard library without its site-packages (where hidden tests of an installed wheel would
    lie), the shared libraries it may still load, time zones, and the packages of `PACKAGES`.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    others = {"site-packages", "dist-packages"}
    readable = [str(entry) for entry in stdlib.iterdir() if entry.name not in others]
    readable += [*glob(f"{sys.base_prefix}/lib/*.so*"), *_multiarch(), "/lib64", "/usr/lib64"]
    readable += ["/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"]
    packages = installed_packages()
    sites = sorted(set(packages.values()))[:1]
    for name, site in packages.items():
        if site in sites:
            readable += [f"{site}/{name}", f"{site}/{name}.libs"]
    return {
        "root": str(PACKAGE_ROOT),
        "control": control,
        "readable": readable,
        "listable": [str(stdlib), *sites],
        "site": sites[0] if sites else "",
        "packages": [name for name, site in packages.items() if site in sites],
    }


def _interpreter() -> str:
    """The real interpreter, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _wrapped(command: Sequence[str], bwrap: str, settings: dict[str, Any]) -> list[str]:
    """`command` inside bubblewrap: own namespaces, and a file system of what it reads."""
    package = PACKAGE_ROOT / "aflow_grpo"
    stdlib = sysconfig.get_path("stdlib")
    visible = {_interpreter(), *_LIBRARIES, stdlib, *settings["readable"]}
    visible |= {str(package / "__init__.py"), str(package / "sandbox")}
    covered = (stdlib + "/", *(f"{base}/" for base in _LIBRARIES))
    visible = {path for path in visible if not path.startswith(covered)}
    binds = [part for path in sorted(visible) for part in ("--ro-bind-try", path, path)]
    isolation = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    return [bwrap, *isolation, "--dev", "/dev", *binds, *command]


class ZygoteClient:
    """One zygote process and the jobs under way in it; bound to the running event loop.

    Args:
        bwrap: Path of bubblewrap to run it in, or None.
        memory_mb: Address space of one job, MiB.
        max_output_bytes: A job that prints more is killed.
    """

    def __init__(self, *, bwrap: str | None, memory_mb: int, max_output_bytes: int) -> None:
        self._bwrap = bwrap
        self._memory_mb = memory_mb
        self._max_output_bytes = max_output_bytes
        self._numbers = count(1)
        self._exits: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ready: asyncio.Future[dict[str, Any]] | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the zygote, or of the bubblewrap around it; 0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether jobs can be handed over."""
        return self._control is not None

    async def start(self) -> int:
        """Start the process; returns the landlock version in force.

        Raises:
            SandboxUnavailable: It did not start, or could not lock itself down.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            raise SandboxUnavailable(f"the jail's process does not start: {error}") from error
        ours.setblocking(False)
        self._control = ours
        self._ready = loop.create_future()
        loop.add_reader(ours.fileno(), self._hear)
        try:
            answer = await asyncio.wait_for(self._ready, _START_TIMEOUT_S)
        except (ZygoteLost, TimeoutError):
            answer = {"refused": "its process did not start"}
        except BaseException:
            await self.aclose()
            raise
        if "ready" not in answer:
            await self.aclose()
            raise SandboxUnavailable(f"the jail cannot be built here: {answer['refused']}")
        return int(answer["ready"])

    def _spawn(self, control: int) -> None:
        settings = _settings(control)
        # No site, no user or current directory on the path. The environment is empty but for the
        # hash seed, so that the order of sets, and with it a job's answer, is always the same.
        flags = ["-s", "-S", "-P", "-B", "-X", "utf8"]
        command = [_interpreter(), *flags, "-c", _BOOTSTRAP, json.dumps(settings)]
        if self._bwrap:
            command = _wrapped(command, self._bwrap, settings)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(control,),
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )

    def _hear(self) -> None:
        """Take what the zygote says: the only reader of the control socket."""
        assert self._control is not None
        try:
            data = self._control.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return
        message = json.loads(data)
        if "job" in message:
            waiting = self._exits.pop(message["job"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif self._ready is not None and not self._ready.done():
            self._ready.set_result(message)

    def _disconnect(self) -> None:
        """Close our end: the zygote ends and takes its jobs along; whoever waits is told."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        for waiting in (*self._exits.values(), *([self._ready] if self._ready else ())):
            if not waiting.done():
                waiting.set_exception(ZygoteLost())
                waiting.exception()  # somebody may have stopped waiting: no warning then
        self._exits.clear()

    async def aclose(self) -> None:
        """End the process and every job; may be called twice."""
        self._disconnect()
        process, self._process = self._process, None
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, _END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    async def run(
        self, request: bytes, *, cpu_s: float, wall_s: float, packages: Sequence[str]
    ) -> Outcome:
        """Run one job to its end.

        Args:
            request: What `job.py` reads.
            cpu_s: Limit of processor time, kept by the kernel.
            wall_s: Wall-clock limit, kept by the zygote.
            packages: Those of `PACKAGES` that the job is likely to import.

        Raises:
            ZygoteLost: The zygote ended, or stopped answering and was ended.
        """
        number = next(self._numbers)
        channel, channel_job = socket.socketpair()
        stdout, stdout_job = socket.socketpair()
        exit_ = asyncio.get_running_loop().create_future()
        collect: asyncio.Task[tuple[bytes, bytes, bool]] | None = None
        with channel, stdout:
            channel.setblocking(False)
            stdout.setblocking(False)
            with channel_job, stdout_job:
                order = {"job": number, "memory_mb": self._memory_mb, "packages": list(packages)}
                handles = (channel_job.fileno(), stdout_job.fileno())
                self._send({**order, "cpu_s": cpu_s, "wall_s": wall_s}, handles)
            self._exits[number] = exit_
            try:
                collect = asyncio.create_task(self._collect(number, channel, stdout, request))
                end = await asyncio.wait_for(exit_, wall_s + _GRACE_S)
                report, printed, flooded = await collect
            except TimeoutError:
                self._disconnect()
                raise ZygoteLost from None
            finally:
                if self._exits.pop(number, None) is not None:  # given up: nobody waits any more
                    self._kill(number)
                if collect is not None and not collect.done():
                    collect.cancel()
                    await asyncio.gather(collect, return_exceptions=True)
        return Outcome(report, printed, end["code"], end["over"], end["cpu_s"], flooded)

    async def _collect(
        self, number: int, channel: socket.socket, stdout: socket.socket, request: bytes
    ) -> tuple[bytes, bytes, bool]:
        """Send the request, read report and output to their ends: (report, output, flooded)."""
        loop = asyncio.get_running_loop()
        flooded = False

        async def send() -> None:
            with contextlib.suppress(OSError):  # the job may be gone already
                await loop.sock_sendall(channel, LENGTH_PREFIX.pack(len(request)) + request)

        async def read(source: socket.socket, limit: int) -> bytes:
            nonlocal flooded
            data = bytearray()
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(source, _CHUNK):
                    data += part[: limit + 1 - len(data)]
                    if len(data) > limit and not flooded:
                        flooded = True
                        self._kill(number)
            return bytes(data[:limit])

        _, report, printed = await asyncio.gather(
            send(), read(channel, _MAX_REPORT_BYTES), read(stdout, self._max_output_bytes)
        )
        return report, printed, flooded

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ZygoteLost):
            self._send({"kill": number})

    def _send(self, order: dict[str, Any], handles: Sequence[int] = ()) -> None:
        if self._control is None:
            raise ZygoteLost
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))]
        try:
            self._control.sendmsg([json.dumps(order).encode()], rights if handles else [])
        except OSError:
            raise ZygoteLost from None
