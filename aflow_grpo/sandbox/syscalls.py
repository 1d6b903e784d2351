"""Which system calls a jailed job may make, as data: name -> number on each architecture.

What is missing here is denied (EPERM). There is no call that opens a network connection, starts a
process, a thread or a program, traces, mounts, removes a file or changes another process; calls
that are safe only with certain arguments are listed with their condition in `seccomp.py`. The
x86_64 numbers are exercised by every test run; the aarch64 ones are checked against the kernel's
generic table only.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AARCH64", "ALLOWED", "ARCHITECTURES", "CONDITIONAL", "X86_64", "Architecture"]

_READ_ONLY_IO = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "lseek": (8, 62),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "open": (2, None),
    "openat": (257, 56),
    "fadvise64": (221, 223),
    "getdents64": (217, 61),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "umask": (95, 166),
}
_WAITING = {
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "wait4": (61, 260),
    "waitid": (247, 95),
}
_OWN_SOCKET_PAIR = {
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockopt": (55, 209),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
}
_MEMORY_AND_LOCKS = {
    "brk": (12, 214),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    "futex": (202, 98),
    "arch_prctl": (158, None),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "restart_syscall": (219, 128),
}
_OWN_SIGNALS = {
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
}
_QUESTIONS = {
    "time": (201, None),
    "times": (100, 153),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "getrandom": (318, 278),
    "getcpu": (309, 168),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getpriority": (140, 141),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
}

ALLOWED: dict[str, tuple[int | None, int | None]] = {
    **_READ_ONLY_IO,
    **_WAITING,
    **_OWN_SOCKET_PAIR,
    **_MEMORY_AND_LOCKS,
    **_OWN_SIGNALS,
    **_QUESTIONS,
}
"""Calls allowed whatever their arguments: name -> (x86_64, aarch64); None where it does not exist.

Files are opened read-only by landlock's doing, not by this list."""

CONDITIONAL: dict[str, tuple[int, int]] = {
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "kill": (62, 129),
    "tgkill": (234, 131),
}
"""Calls whose arguments decide, same form."""


class Architecture(NamedTuple):
    """One processor architecture as seccomp names it."""

    machine: str
    """As `os.uname().machine` says it."""
    audit: int
    """The kernel's AUDIT_ARCH_* constant."""
    column: int
    """Which number of the tables above is its own."""
    timer_create: int
    """Number of a call that the lock makes and no job may."""
    timer_settime: int
    """Another one."""


X86_64 = Architecture("x86_64", 0xC000003E, 0, 222, 223)
AARCH64 = Architecture("aarch64", 0xC00000B7, 1, 107, 110)
ARCHITECTURES = {arch.machine: arch for arch in (X86_64, AARCH64)}
"""What the jail can be built for; any other machine has no jail."""
