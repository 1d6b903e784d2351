"""The trusted, pre-forked server: locks itself down once, then forks one process per job.

It never sees a job's source, expressions or results: it is handed the job's channel and passes it
on, so a fork of it holds nothing of any other job. It kills jobs at their wall-clock deadline (the
kernel does at the end of their processor time, `lockdown.py`), and ends when its client does (end
of file on the control socket, or another parent). Standard library only, so that it starts in a
fraction of a second. It is started by `client.py` and speaks its protocol: JSON datagrams on a
SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from aflow_grpo.sandbox.job import CHANNEL, run_job
from aflow_grpo.sandbox.lockdown import JobLimits, load_libc, lock_job, lock_process

__all__ = ["main"]

_PRELOAD = (
    *("bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "functools", "heapq", "itertools", "json", "math", "operator", "queue"),
    *("random", "re", "statistics", "string", "textwrap", "typing"),
)
"""What solutions import most: imported once here, free in every job."""
_PARENT_CHECK_S = 1.0
_BROKEN_JOB = 70
_CPU_TOLERANCE_S = 0.005
"""Two clocks of the kernel tell a job's processor time; they may differ by this much."""
_DATAGRAM = 1 << 16


class _PackageFinder:
    """Finds the few third-party packages that jobs may import; any other is simply not there."""

    def __init__(self, site: str, packages: frozenset[str]) -> None:
        self._site = site
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What the import system asks of a finder."""
        return PathFinder.find_spec(name, [self._site]) if name in self._packages else None


class _Job:
    """One running job, from the outside."""

    def __init__(self, number: int, pid: int, *, cpu_s: float, deadline: float) -> None:
        self.number = number
        self.pid = pid
        self.cpu_s = cpu_s
        self.deadline = deadline
        self.pidfd = os.pidfd_open(pid)
        self.timed_out = False


class Zygote:
    """Forks, watches and reaps jobs for one client."""

    def __init__(self, control: socket.socket, packages: frozenset[str]) -> None:
        self._control = control
        self._packages = packages
        self._libc = load_libc()
        self._parent = os.getppid()
        self._null = os.open(os.devnull, os.O_RDWR)
        self._jobs: dict[int, _Job] = {}  # by pidfd
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Run until the client is gone; then kill what still runs."""
        try:
            while os.getppid() == self._parent:
                for handle, _ in self._poll.poll(self._poll_timeout_ms()):
                    if handle != self._control.fileno():
                        self._reap(self._jobs[handle])
                    elif not self._obey():
                        return
                self._kill_overdue()
        finally:
            for job in self._jobs.values():
                os.kill(job.pid, signal.SIGKILL)

    def _poll_timeout_ms(self) -> int:
        pending = [job.deadline for job in self._jobs.values() if not job.timed_out]
        wait_s = min([_PARENT_CHECK_S, *(d - time.monotonic() for d in pending)])
        return max(0, int(wait_s * 1000) + 1)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for job in self._jobs.values():
            if job.deadline <= now and not job.timed_out:
                job.timed_out = True
                os.kill(job.pid, signal.SIGKILL)

    def _obey(self) -> bool:
        """Take one order; False when the client is gone."""
        space = socket.CMSG_SPACE(2 * array.array("i").itemsize)
        data, ancillary, _, _ = self._control.recvmsg(_DATAGRAM, space)
        if not data:
            return False
        handles = array.array("i")
        for _, _, payload in ancillary:
            handles.frombytes(payload[: len(payload) - len(payload) % handles.itemsize])
        order = json.loads(data)
        if "kill" in order:
            for job in self._jobs.values():
                if job.number == order["kill"]:
                    os.kill(job.pid, signal.SIGKILL)
        else:
            self._preload(order["packages"])
            try:
                self._fork(order, channel=handles[0], stdout=handles[1])
            finally:
                for handle in handles:
                    os.close(handle)
        return True

    def _preload(self, packages: list[str]) -> None:
        """Import what the job will: slow packages are then paid for once, not per job."""
        for package in packages:
            if package in self._packages and package not in sys.modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(package)
                    if package == "numpy":  # it would import its random part later, unseeded
                        importlib.import_module("numpy.random")
                    gc.freeze()

    def _fork(self, order: dict[str, Any], *, channel: int, stdout: int) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_job(order, zygote, channel=channel, stdout=stdout)
            finally:
                os._exit(_BROKEN_JOB)
        deadline = time.monotonic() + order["wall_s"]
        job = _Job(order["job"], pid, cpu_s=order["cpu_s"], deadline=deadline)
        self._jobs[job.pidfd] = job
        self._poll.register(job.pidfd, select.POLLIN)

    def _become_job(self, order: dict[str, Any], zygote: int, *, channel: int, stdout: int) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(self._null, 0)
        os.dup2(stdout, 1)
        os.dup2(self._null, 2)
        os.dup2(channel, CHANNEL)
        os.closerange(CHANNEL + 1, 1 << 16)  # above all the control socket and other jobs' channels
        limits = JobLimits(order["memory_mb"] << 20, order["cpu_s"])
        lock_job(self._libc, limits, zygote)
        run_job()
        os._exit(0)

    def _reap(self, job: _Job) -> None:
        _, status, used = os.wait4(job.pid, 0)
        self._poll.unregister(job.pidfd)
        os.close(job.pidfd)
        del self._jobs[job.pidfd]
        code = os.waitstatus_to_exitcode(status)
        cpu_s = used.ru_utime + used.ru_stime
        spent = "cpu" if code == -signal.SIGKILL and cpu_s >= job.cpu_s - _CPU_TOLERANCE_S else ""
        over = "wall" if job.timed_out else spent
        self._tell({"job": job.number, "code": code, "over": over, "cpu_s": cpu_s})

    def _tell(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode())


def main() -> None:
    """Serve the client on the control socket named by the one argument, a JSON object.

    Its keys: `control` (file descriptor), `readable`, `listable` (paths for landlock), `site`
    (directory of third-party packages, may be empty), `packages` (importable from it).
    """
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to handle
    os.environ.clear()
    sys.argv[:] = [""]
    # From here on nothing is imported from our own package's directory.
    sys.path[:] = [path for path in sys.path if path != settings["root"]]
    for name in _PRELOAD:
        importlib.import_module(name)
    packages = frozenset(settings["packages"])
    sys.meta_path.append(_PackageFinder(settings["site"], packages))
    control = socket.socket(fileno=settings["control"])
    os.set_inheritable(control.fileno(), False)
    try:
        abi = lock_process(
            load_libc(), readable=settings["readable"], listable=settings["listable"]
        )
    except OSError as error:
        control.sendall(json.dumps({"refused": str(error)}).encode())
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a fork must not inherit a thread pool
    gc.collect()
    gc.freeze()  # forks share these pages
    control.sendall(json.dumps({"ready": abi}).encode())
    Zygote(control, packages).serve()
