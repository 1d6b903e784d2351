"""Takes rights away from the process that runs untrusted code, with ctypes alone.

Two steps: `lock_process` once in the zygote (no new privileges, no capabilities, not dumpable,
landlock), inherited by every fork; `lock_job` in each job before it reads its first byte (dies
with the zygote, resource limits, timer of processor time, seccomp allowlist). Both fail closed:
what the kernel refuses is an OSError and the caller runs nothing. No protection against flaws of
the kernel itself, against side channels, or of many jobs' memory together.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aflow_grpo.sandbox.landlock import restrict_files
from aflow_grpo.sandbox.seccomp import build_filter, current_architecture, install_filter
from aflow_grpo.sandbox.syscalls import Architecture

__all__ = ["JobLimits", "load_libc", "lock_job", "lock_process"]

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_CLOCK_PROCESS_CPUTIME = 2
_BACKSTOP_S = 2
"""Between the timer of a job's processor time and the resource limit, in whole seconds."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class JobLimits:
    """What one job may use."""

    memory_bytes: int
    """Address space, the interpreter's own 30 MB included."""
    cpu_s: float
    """Processor seconds, after which the kernel kills the job."""


def load_libc() -> ctypes.CDLL:
    """The C library of this process, with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def _prctl(libc: ctypes.CDLL, option: int, value: int, what: str) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up root's powers; with no_new_privs nothing brings them back."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    nothing = ctypes.create_string_buffer(24)
    if libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot drop capabilities: {os.strerror(code)}")
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _limit_cpu(libc: ctypes.CDLL, architecture: Architecture, cpu_s: float) -> None:
    """Have the kernel send SIGKILL once this process has used `cpu_s` of processor time.

    RLIMIT_CPU counts whole seconds only. The filter denies every call that could undo the timer.
    """
    event = ctypes.create_string_buffer(struct.pack("=Qii", 0, signal.SIGKILL, 0), 64)
    timer = ctypes.c_int()
    seconds = int(cpu_s)
    due = (seconds, max(1, int((cpu_s - seconds) * 1e9)))
    setting = ctypes.create_string_buffer(struct.pack("=4q", 0, 0, *due), 32)
    create, settime = architecture.timer_create, architecture.timer_settime
    made = libc.syscall(create, _CLOCK_PROCESS_CPUTIME, ctypes.byref(event), ctypes.byref(timer))
    if made or libc.syscall(settime, timer, 0, ctypes.byref(setting), None):
        code = ctypes.get_errno()
        raise OSError(code, f"no timer of processor time: {os.strerror(code)}")


def lock_process(libc: ctypes.CDLL, *, readable: Sequence[str], listable: Sequence[str]) -> int:
    """Lock the zygote, and with it every job; returns the landlock version in force.

    Raises:
        OSError: The kernel or the machine cannot enforce it.
    """
    architecture = current_architecture()
    if architecture is None:
        raise OSError(f"no system call table for {os.uname().machine}")
    build_filter(architecture, os.getpid())  # keeps its common part for the jobs
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    _prctl(libc, _PR_SET_DUMPABLE, 0, "not dumpable")
    _drop_capabilities(libc)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return restrict_files(libc, readable=readable, listable=listable, devices=_DEVICES)


def lock_job(libc: ctypes.CDLL, limits: JobLimits, parent: int) -> None:
    """Lock the calling process for one job of untrusted code.

    Raises:
        OSError: The kernel refused, or the zygote `parent` is gone.
    """
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL, "die with the zygote")
    if os.getppid() != parent:
        raise OSError("the zygote is gone")
    for limit, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, int(limits.cpu_s) + _BACKSTOP_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    architecture = current_architecture()
    if architecture is None:
        raise OSError(f"no system call table for {os.uname().machine}")
    _limit_cpu(libc, architecture, limits.cpu_s)
    install_filter(libc, build_filter(architecture, os.getpid()))
