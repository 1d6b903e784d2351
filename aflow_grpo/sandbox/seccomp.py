"""Builds and installs the seccomp filter of a job: an allowlist, in raw BPF, without libseccomp.

The filter answers EPERM to everything that `syscalls.py` does not list, kills a job that switches
to another system call table (32-bit on x86_64), and looks at arguments where a call is safe only
sometimes. Threads are denied with processes: nothing else bounds their number for root. It cannot
look behind pointers: file names are landlock's business (`landlock.py`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from functools import cache

from aflow_grpo.sandbox.syscalls import ALLOWED, ARCHITECTURES, CONDITIONAL, Architecture

__all__ = ["build_filter", "current_architecture", "install_filter"]

_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data

_AF_UNIX = 1
_PR_SET_NAME, _PR_GET_NAME = 15, 16
# TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: questions and own-fd flags.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC. F_SETOWN and F_SETSIG would signal strangers.
_FCNTLS = (0, 1, 2, 3, 4, 1030)

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_Instruction = tuple[int, int, int, int]


def current_architecture() -> Architecture | None:
    """This machine's architecture, or None where no table exists."""
    return ARCHITECTURES.get(os.uname().machine)


def _low(argument: int) -> int:
    """Offset of the low half of an argument (both architectures are little-endian)."""
    return 16 + 8 * argument


def _when_equal(offset: int, values: Iterable[int]) -> list[_Instruction]:
    """A block that allows the call when the word at `offset` is one of `values`."""
    block: list[_Instruction] = [(_LOAD, 0, 0, offset)]
    for value in values:
        block += [(_JUMP_EQUAL, 0, 1, value & 0xFFFFFFFF), (_RETURN, 0, 0, _ALLOW)]
    return [*block, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def _fixed_conditions() -> dict[str, list[_Instruction]]:
    """Name -> block that looks at the arguments and always returns."""
    deny = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    return {
        "ioctl": _when_equal(_low(1), _IOCTLS),
        "fcntl": _when_equal(_low(1), _FCNTLS),
        "prctl": _when_equal(_low(0), (_PR_SET_NAME, _PR_GET_NAME)),
        "socketpair": _when_equal(_low(0), (_AF_UNIX,)),
        # Only without an address: a datagram socket could otherwise reach a path on the host.
        "sendto": [
            (_LOAD, 0, 0, _low(4)),
            (_JUMP_EQUAL, 1, 0, 0),
            deny,
            (_LOAD, 0, 0, _low(4) + 4),
            (_JUMP_EQUAL, 1, 0, 0),
            deny,
            allow,
        ],
    }


def _own_process_conditions(own_pid: int) -> dict[str, list[_Instruction]]:
    """The same for calls that name a process: only the job itself."""
    return {
        "prlimit64": _when_equal(_low(0), (0, own_pid)),
        "kill": _when_equal(_low(0), (own_pid,)),
        "tgkill": _when_equal(_low(0), (own_pid,)),
    }


def _assemble(program: Iterable[_Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _blocks(
    architecture: Architecture, conditions: dict[str, list[_Instruction]]
) -> list[_Instruction]:
    program: list[_Instruction] = []
    for name, block in conditions.items():
        number = CONDITIONAL[name][architecture.column]
        program += [(_JUMP_EQUAL, 0, len(block), number), *block]
    return program


@cache
def _opening(architecture: Architecture) -> bytes:
    """What is the same for every process: built once in the zygote, inherited by its jobs."""
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in ALLOWED.values():
        number = numbers[architecture.column]
        if number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    return _assemble([*program, *_blocks(architecture, _fixed_conditions())])


def build_filter(architecture: Architecture, own_pid: int) -> bytes:
    """The BPF program (8 bytes an instruction) for the process `own_pid`."""
    closing = _blocks(architecture, _own_process_conditions(own_pid))
    closing.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return _opening(architecture) + _assemble(closing)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_filter(libc: ctypes.CDLL, program: bytes) -> None:
    """Put the calling thread, and all it will start, under `program`, for good.

    Raises:
        OSError: The kernel refused it; nothing is filtered then.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp filter refused: {os.strerror(code)}")
