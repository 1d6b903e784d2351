"""Asks `nvidia-smi` what GPUs there are and who uses them; believes nothing of what it says.

Its two lists are comma-separated without quotes, and names are the choice of others: a process may
be called ``a, b``. So lines are read from both ends, and what remains is the name. The program may
be absent, hang, print for ever or say something else; each is a `NvidiaTrouble` with a remedy. Not
here: which GPUs are meant (`visible`), whether a run may start on them (`devices`).

Nothing in here ends a process but the `nvidia-smi` that it has started itself.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aflow_grpo.terminal import printable

__all__ = ["Gpu", "GpuProcess", "MigDevice", "NvidiaTrouble", "Snapshot", "has_nvidia_smi", "look"]

TIMEOUT_S = 5.0
"""Without persistence mode the driver takes seconds to wake up."""
_MOST_BYTES = 1 << 20
_LONGEST_NAME = 70
_LONGEST_PID = 10
_GPU_FIELDS = ("index", "uuid", "name", "driver_version", "memory.used", "memory.total")
_LAST_FIELDS = ("utilization.gpu", "mig.mode.current")
_PROCESS_FIELDS = ("gpu_uuid", "pid", "process_name", "used_memory")
_NO_FIELD = "is not a valid field to query"
_MIG = re.compile(r"\bMIG \S+\s+Device\s+(\d+):\s+\(UUID:\s+(MIG-[\w/-]+)\)")
_PARENT = re.compile(r"^GPU (\d+):")
_REMEDIES = (
    (
        "Driver/library version mismatch",
        "The driver was updated under the running kernel module: restart the machine, or unload "
        "and load the nvidia module.",
    ),
    (
        "couldn't communicate with the NVIDIA driver",
        "The kernel module is not loaded: install or reinstall the driver, then restart.",
    ),
    (
        "Unknown Error",
        "Inside a container this means that it has lost its devices: start the container again "
        "with --gpus.",
    ),
    ("GPU is lost", "Restart the machine; the GPU has fallen off the bus."),
    (
        "Insufficient Permissions",
        "Your user may not open /dev/nvidia*: ask for membership of the group that owns them.",
    ),
)


class NvidiaTrouble(Exception):
    """`nvidia-smi` is there and gives no answer that can be used."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver numbers it."""

    index: int
    uuid: str
    name: str
    driver: str
    used_mib: float | None
    """None where the driver does not say."""
    total_mib: float | None
    busy_percent: float | None
    """None where the driver does not say, as with MIG."""
    mig: bool = False
    """Cut into parts (MIG)."""


@dataclass(frozen=True)
class MigDevice:
    """A part of a GPU."""

    uuid: str
    gpu_index: int
    number: int


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    gpu_uuid: str
    pid: int
    name: str
    """Its own choice: printable, cut."""
    used_mib: float | None
    user: str
    """``?`` where the process is not to be seen from here, as from inside a container."""
    protected: bool = False
    """On the user's list of processes that nobody may touch."""


@dataclass(frozen=True)
class Snapshot:
    """All GPUs and all their processes at one moment."""

    gpus: tuple[Gpu, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    mig_devices: tuple[MigDevice, ...] = ()
    unreadable: int = 0
    """Lines about processes that make no sense; a name may hold a line end."""

    def users_of(self, gpu: Gpu) -> tuple[GpuProcess, ...]:
        """The processes on `gpu`, its MIG parts included."""
        parts = {part.uuid for part in self.mig_devices if part.gpu_index == gpu.index}
        return tuple(p for p in self.processes if p.gpu_uuid == gpu.uuid or p.gpu_uuid in parts)

    @property
    def unplaced(self) -> int:
        """Processes on a device that is none of those here."""
        known = {gpu.uuid for gpu in self.gpus} | {part.uuid for part in self.mig_devices}
        return sum(process.gpu_uuid not in known for process in self.processes)


def has_nvidia_smi() -> bool:
    """Whether the program is on the PATH."""
    return shutil.which("nvidia-smi") is not None


def look(protected_pids: Collection[int] = (), timeout_s: float = TIMEOUT_S) -> Snapshot:
    """What `nvidia-smi` says now.

    Raises:
        NvidiaTrouble: It says nothing that can be used.
    """
    apps_query = f"--query-compute-apps={','.join(_PROCESS_FIELDS)}"
    deadline = time.monotonic() + timeout_s
    gpus = _gpus(deadline)
    mig = _mig_devices(_ask(("-L",), deadline)) if any(gpu.mig for gpu in gpus) else ()
    told = _ask((apps_query, "--format=csv,noheader,nounits"), deadline)
    processes, unreadable = _processes(told, set(protected_pids))
    return Snapshot(gpus, processes, mig, unreadable)


def _gpus(deadline: float) -> tuple[Gpu, ...]:
    """Drivers older than MIG do not know its field, and refuse the whole question for it."""
    trouble: NvidiaTrouble | None = None
    for last in (_LAST_FIELDS, _LAST_FIELDS[:1]):
        query = f"--query-gpu={','.join((*_GPU_FIELDS, *last))}"
        try:
            told = _ask((query, "--format=csv,noheader,nounits"), deadline)
        except NvidiaTrouble as error:
            trouble = error
            if _NO_FIELD not in error.found:
                raise
            continue
        if told.strip() == "No devices were found":
            return ()
        gpus = tuple(_gpu(line, has_mig=last == _LAST_FIELDS) for line in _lines(told))
        return tuple(sorted(gpus, key=lambda gpu: gpu.index))
    assert trouble is not None
    raise trouble


def _lines(told: str) -> list[str]:
    return [line for line in told.split("\n") if line.strip()]


def _gpu(line: str, *, has_mig: bool) -> Gpu:
    parts = [part.strip() for part in line.split(",")]
    tail = 4 + has_mig
    if len(parts) < 3 + tail or not parts[0].isdigit():
        raise _garbled(line)
    after = parts[len(parts) - tail :]
    return Gpu(
        index=int(parts[0]),
        uuid=_short(parts[1]),
        name=_short(", ".join(parts[2 : len(parts) - tail])),
        driver=_short(after[0]),
        used_mib=_number(after[1]),
        total_mib=_number(after[2]),
        busy_percent=_number(after[3]),
        mig=has_mig and after[4] == "Enabled",
    )


def _processes(told: str, protected: Collection[int]) -> tuple[tuple[GpuProcess, ...], int]:
    """The processes, and how many lines are none."""
    found, unreadable = [], 0
    for line in _lines(told):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 4 or not parts[1].isdecimal() or len(parts[1]) > _LONGEST_PID:
            unreadable += "No running processes" not in line and "No devices were" not in line
            continue
        pid = int(parts[1])
        found.append(
            GpuProcess(
                gpu_uuid=_short(parts[0]),
                pid=pid,
                name=_short(", ".join(parts[2:-1])),
                used_mib=_number(parts[-1]),
                user=_user_of(pid),
                protected=pid in protected,
            )
        )
    return tuple(found), unreadable


def _mig_devices(told: str) -> tuple[MigDevice, ...]:
    found, parent = [], 0
    for line in _lines(told):
        if gpu := _PARENT.match(line):
            parent = int(gpu[1])
        elif part := _MIG.search(line):
            found.append(MigDevice(part[2], parent, int(part[1])))
    return tuple(found)


def _number(text: str) -> float | None:
    """None for ``[N/A]``, ``[Not Supported]``, ``[Insufficient Permissions]`` and their like."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def _short(text: str) -> str:
    text = printable(text).replace("\n", " ")
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _user_of(pid: int) -> str:
    """Who started it; the arguments are not read, they may hold a key."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return "?"
    try:
        return _short(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)


def _garbled(line: str) -> NvidiaTrouble:
    return NvidiaTrouble(
        f"nvidia-smi says something that is no list: {_short(line.strip())!r}",
        "Run nvidia-smi by itself and see what it says.",
    )


def _ask(arguments: Sequence[str], deadline: float) -> str:
    """What it prints, bounded in time and length.

    Raises:
        NvidiaTrouble: It cannot be started, fails, hangs or floods.
    """
    try:
        # A session of its own, so that what it starts can be ended with it.
        process = subprocess.Popen(
            ("nvidia-smi", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise NvidiaTrouble(
            f"nvidia-smi cannot be started: {error.strerror or error}",
            "Reinstall the NVIDIA driver's utilities, or take the file out of the PATH.",
        ) from None
    told, ended = _read(process, deadline)
    text = told.decode(errors="replace")
    if not ended:
        reason = "prints without end" if len(told) >= _MOST_BYTES else "does not answer"
        raise NvidiaTrouble(
            f"nvidia-smi {reason}",
            "The driver hangs, perhaps on a GPU that is lost: look at `dmesg | grep -i nvrm`; "
            "it may take a restart of the machine.",
        )
    if process.returncode or _NO_FIELD in text:
        first = _short((_lines(text) or [f"exit code {process.returncode}"])[0].strip())
        known = (remedy for words, remedy in _REMEDIES if words in text)
        raise NvidiaTrouble(
            f"nvidia-smi fails: {first}",
            next(known, "Run nvidia-smi by itself and see what it says."),
        )
    return text


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
    """Its output so far, and whether it ended by itself; it has ended afterwards."""
    assert process.stdout is not None
    told, ended = b"", False
    try:
        with process.stdout as pipe:
            while len(told) < _MOST_BYTES and not ended:
                left_s = max(0.0, deadline - time.monotonic())
                if not select.select([pipe], [], [], left_s)[0]:
                    break
                part = os.read(pipe.fileno(), 1 << 16)
                told += part
                ended = not part
        if ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            ended = process.returncode is not None
    finally:  # also when Ctrl-C comes in between
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return told[:_MOST_BYTES], ended
