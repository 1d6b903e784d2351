"""Restricts file access, TCP and signals by landlock, through raw system calls.

Landlock takes rights away from the calling process and all it will start, for ordinary users too.
What an older kernel's version of it does not know (TCP before 6.7, signals before 6.12) the
seccomp filter denies in any case. It does not hide that a file exists: `stat` still answers.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

__all__ = ["landlock_abi", "restrict_files"]

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_FS_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file-system rights each version knows; later versions know as many as the fifth."""
_TCP_BIND_AND_CONNECT = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def landlock_abi(libc: ctypes.CDLL) -> int:
    """The kernel's landlock version, 0 when it has none or it is switched off."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def _ruleset(abi: int) -> bytes:
    """struct landlock_ruleset_attr, as long as this version knows it: everything is handled."""
    rights = (1 << _FS_RIGHTS_BY_ABI.get(abi, 16)) - 1
    fields = [rights]
    if abi >= 4:
        fields.append(_TCP_BIND_AND_CONNECT)
    if abi >= 6:
        fields.append(_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(fields)}Q", *fields)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {what}: {os.strerror(code)}")
    return result


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Add one path; a missing path is nothing to allow."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= ~_READ_DIR
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle), 12)
        added = libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        _check(int(added), f"cannot allow {path}")
    finally:
        os.close(handle)


def restrict_files(
    libc: ctypes.CDLL, *, readable: Iterable[str], listable: Iterable[str], devices: Iterable[str]
) -> int:
    """Leave read access to `readable` (files or trees) and nothing else; returns the version used.

    Args:
        libc: The C library, loaded with `use_errno`.
        readable: Files and directories whose content may be read.
        listable: Directories whose entries may be listed, all the way down, but not read.
        devices: Device files that may be read and written.

    Raises:
        OSError: The kernel has no landlock or refused; some rights may be left.
    """
    abi = landlock_abi(libc)
    if abi < 1:
        raise OSError("the kernel has no landlock (Linux 5.13 or newer, switched on)")
    attributes = _ruleset(abi)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    size = ctypes.c_size_t(len(attributes))
    made = libc.syscall(_CREATE_RULESET, ctypes.byref(buffer), size, 0)
    ruleset = _check(int(made), "no ruleset")
    try:
        for path in readable:
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
        for path in listable:
            _allow(libc, ruleset, path, _READ_DIR)
        for path in devices:
            _allow(libc, ruleset, path, _READ_FILE | _WRITE_FILE)
        _check(int(libc.syscall(_RESTRICT_SELF, ruleset, 0)), "cannot restrict")
    finally:
        os.close(ruleset)
    return abi
