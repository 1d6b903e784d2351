"""The seccomp program's verdicts, computed by a small BPF machine, for both architectures."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from aflow_grpo.sandbox.seccomp import build_filter
from aflow_grpo.sandbox.syscalls import ALLOWED, ARCHITECTURES, CONDITIONAL, Architecture

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM
_PID = 4242
_ARCHITECTURES = list(ARCHITECTURES.values())


def _verdict(arch: Architecture, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would answer."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, audit or arch.audit, 0, *padded)
    program = list(struct.iter_unpack("=HBBI", build_filter(arch, _PID)))
    accumulator = position = 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x15:
            position += if_true if accumulator == operand else if_false
        else:
            assert code == 0x06
            return int(operand)


@pytest.mark.parametrize("arch", _ARCHITECTURES, ids=lambda arch: arch.machine)
def test_every_number_is_denied_unless_listed(arch: Architecture) -> None:
    listed = {numbers[arch.column] for numbers in ALLOWED.values()} - {None}
    conditional = {numbers[arch.column] for numbers in CONDITIONAL.values()}
    assert not listed & conditional
    for number in set(range(600)) - conditional:
        assert _verdict(arch, number) == (_ALLOW if number in listed else _DENY), number


@pytest.mark.parametrize("arch", _ARCHITECTURES, ids=lambda arch: arch.machine)
@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("kill", (_PID, 9), True),
        ("kill", (1, 9), False),
        ("kill", (0, 9), False),
        ("kill", (2**64 - 1, 9), False),  # -1: everybody
        ("tgkill", (_PID, _PID, 6), True),
        ("tgkill", (1, _PID, 6), False),
        ("prlimit64", (0,), True),
        ("prlimit64", (1,), False),
        ("socketpair", (1, 1), True),
        ("socketpair", (2, 1), False),
        ("sendto", (5, 0, 0, 0, 0, 0), True),
        ("sendto", (5, 0, 0, 0, 0x1000, 16), False),
        ("sendto", (5, 0, 0, 0, 0x7F00_0000_0000, 16), False),
        ("fcntl", (1, 3), True),
        ("fcntl", (1, 8, 1), False),  # F_SETOWN: signals to others
        ("ioctl", (0, 0x5401), True),
        ("ioctl", (0, 0x5412), False),  # TIOCSTI: keys to a terminal
        ("prctl", (15,), True),
        ("prctl", (4, 1), False),  # PR_SET_DUMPABLE
    ],
)
def test_arguments_decide(
    arch: Architecture, name: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    number = CONDITIONAL[name][arch.column]
    assert _verdict(arch, number, *arguments) == (_ALLOW if allowed else _DENY)


def test_another_system_call_table_kills() -> None:
    arch = ARCHITECTURES["x86_64"]
    assert _verdict(arch, 0, audit=0x40000003) == _KILL  # 32-bit
    assert _verdict(arch, 0x40000000) == _DENY  # x32: same table name, other numbers


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernel_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    text = Path(header).read_text()
    found: dict[str, int] = {}
    for wide, name, number in re.findall(r"define __NR(3264)?_(\w+)\s+(\d+)", text):
        found.setdefault({"fstatat": "newfstatat"}.get(name, name) if wide else name, int(number))
    column = ARCHITECTURES[machine].column
    for name, numbers in {**ALLOWED, **CONDITIONAL}.items():
        assert found.get(name) == numbers[column], name
    arch = ARCHITECTURES[machine]
    timers = (found["timer_create"], found["timer_settime"])
    assert timers == (arch.timer_create, arch.timer_settime)
