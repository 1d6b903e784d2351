"""Disk, memory, processors and open files, beside what a run with these settings takes.

Limits of containers count as much as the machine's own (cgroups, both versions). Whether a
directory can be written is tried with a file that has no name and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aflow_grpo.workbench.doctor.check import Check, Status
from aflow_grpo.workbench.doctor.run_settings import RunSettings

__all__ = ["cgroup_limits", "disk_checks", "limit_checks"]

_GIB = 1 << 30
_MIB = 1 << 20
_RUN_LEAST, _RUN_COMFORTABLE = 100 * _MIB, 2 * _GIB
_TEMPORARY_COMFORTABLE, _SHARED_COMFORTABLE = 200 * _MIB, 64 * _MIB
_PROBE_BYTES = 1 << 16
_NO_LIMIT = 1 << 50
"""The kernel writes a number like this where there is none."""
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "lustre", "beegfs", "ceph")
_BASE_MEMORY = 1 * _GIB
"""Python, torch, MLflow and the tiny policy."""
_FILES_BASE, _FILES_PER_WORKFLOW = 256, 8
"""Open files: databases, workers, log; then pipes and connections of each workflow under way."""


def disk_checks(root: Path) -> Iterator[Check]:
    """Where a run writes: its directory, temporary files, shared memory.

    Args:
        root: The run's directory; need not exist yet.
    """
    yield from _run_directory(root)
    temporary = _temporary()
    if temporary is None:
        fix = "Make room there, or set TMPDIR to a directory that you may write to."
        places = "TMPDIR, /tmp, /var/tmp or here"
        found = f"no place for temporary files ({places})"
        yield Check("disk.tmp", "machine", "failure", found, fix)
    else:
        fix = "Make room there, or set TMPDIR to a directory on a larger disk."
        yield _room("disk.tmp", temporary, _TEMPORARY_COMFORTABLE, fix)
    shared = Path("/dev/shm")
    if shared.is_dir():
        fix = "Several GPUs exchange data there; docker run --shm-size=1g gives a container more."
        yield _room("disk.shm", shared, _SHARED_COMFORTABLE, fix)


def _run_directory(root: Path) -> Iterator[Check]:
    place = root.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    key = "trainer.default_root_dir"
    fix = f"Make room or give a directory that you may write to: --{key} DIR."
    free = shutil.disk_usage(place).free if place.is_dir() else 0
    told = f"{root}: {_size(free)} free"
    if not place.is_dir():
        yield Check("disk.run", "machine", "failure", f"{root}: {place} is no directory", fix)
        return
    trouble = _cannot_write(place)
    if trouble:
        found = f"{told}, but {place} cannot be written ({trouble})"
        yield Check("disk.run", "machine", "failure", found, fix)
    elif free < _RUN_LEAST:
        yield Check("disk.run", "machine", "failure", told, fix)
    elif free < _RUN_COMFORTABLE:
        yield Check("disk.run", "machine", "warning", told, "A run with checkpoints may fill it.")
    else:
        yield Check("disk.run", "machine", "ok", told)
    kind = _file_system(place)
    if kind in _NETWORK:
        found = f"{place} is on a network file system ({kind})"
        fix = f"SQLite's locks are unreliable there; give a local directory: --{key} DIR."
        yield Check("disk.run.kind", "machine", "warning", found, fix)


def _room(name: str, place: Path, comfortable: int, fix: str) -> Check:
    free = shutil.disk_usage(place).free
    status: Status = "ok" if free >= comfortable else "warning"
    found = f"{place}: {_size(free)} free"
    return Check(name, "machine", status, found, "" if status == "ok" else fix)


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none of them can be written
        return None


def _cannot_write(place: Path) -> str:
    """Why not; empty when a file can be written and flushed there."""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _file_system(place: Path) -> str:
    """The type of the mount that `place` is on; empty where nobody says."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, point, found, *_ = (*line.split(" "), "", "", "")
        point = point.replace("\\040", " ")
        inside = place == Path(point) or Path(point) in place.parents
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def limit_checks(settings: RunSettings) -> Iterator[Check]:
    """Memory, processors and open files, containers' limits included."""
    yield _memory(settings)
    yield _processors(settings)
    yield _open_files(settings)


def _memory(settings: RunSettings) -> Check:
    available, (limit, _) = _available(), cgroup_limits()
    known = [value for value in (available, limit) if value is not None]
    if not known:
        return Check("memory", "machine", "ok", "unknown on this platform")
    have = min(known)
    workers = _whole(settings, "rollout.sandbox.workers", 2)
    each_mib = _whole(settings, "rollout.sandbox.memory_mb", 1024)
    need = _BASE_MEMORY + workers * each_mib * _MIB
    told = f"{_size(have)} available"
    if limit is not None:
        told += f" ({_size(limit)} left of the limit of this container or job)"
    if have < _BASE_MEMORY:
        fix = "End other programs, or give the container more memory."
        return Check("memory", "machine", "failure", told, fix)
    if have < need:
        found = f"{told}; {workers} sandbox workers may take {each_mib} MiB each besides 1 GiB"
        fix = "Lower rollout.sandbox.workers or rollout.sandbox.memory_mb."
        return Check("memory", "machine", "warning", found, fix)
    return Check("memory", "machine", "ok", told)


def _processors(settings: RunSettings) -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _, quota = cgroup_limits()
    told = f"{count} to this process"
    if quota is not None:
        told += f", limit of this container or job: {quota:g}"
    with contextlib.suppress(OSError):
        told += f"; load {os.getloadavg()[0]:.1f}"
    usable = min(count or 1, quota if quota is not None else float(count or 1))
    if usable < 1:
        fix = "Timeouts may be hit for want of processor time; give the container a whole core."
        return Check("cpu", "machine", "warning", told, fix)
    threads = settings.get("model.policy.init_args.threads")
    if isinstance(threads, int) and threads > usable:
        fix = f"Set model.policy.init_args.threads to {int(usable)} or less."
        found = f"{told}; model.policy.init_args.threads is {threads}"
        return Check("cpu", "machine", "warning", found, fix)
    return Check("cpu", "machine", "ok", told)


def _open_files(settings: RunSettings) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    concurrency = _whole(settings, "rollout.rollout.concurrency", 16)
    need = _FILES_BASE + _FILES_PER_WORKFLOW * concurrency
    infinite = resource.RLIM_INFINITY
    if soft == infinite or soft >= need:
        many = "no limit" if soft == infinite else f"limit {soft:,}"
        return Check("open_files", "machine", "ok", many)
    found = f"limit {soft:,}; rollout.rollout.concurrency={concurrency} may need {need:,}"
    fix = f"ulimit -n {need}"
    if hard != infinite and hard < need:
        fix = f"Lower rollout.rollout.concurrency, or have the hard limit ({hard:,}) raised."
    status: Status = "failure" if soft < _FILES_BASE // 2 else "warning"
    return Check("open_files", "machine", status, found, fix)


def _whole(settings: RunSettings, key: str, default: int) -> int:
    value = settings.get(key, default)
    return value if isinstance(value, int) and value > 0 else default


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def cgroup_limits(
    base: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, float | None]:
    """What this process's control groups leave: bytes of memory, processors; None: no limit.

    The tightest of its own group and those above it counts: a batch system sets a job's.

    Args:
        base: Where the groups are mounted, in either version.
        membership: The kernel's list of this process's groups.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    memory: list[int] = []
    processors: list[float] = []
    for line in [*lines, "0::/", ":memory:/", ":cpu:/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        top = base / controllers if controllers else base
        group = top / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            for most, used in (
                ("memory.max", "memory.current"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ):
                limit = _integer(folder / most)
                if limit is not None and limit < _NO_LIMIT:
                    memory.append(max(0, limit - (_integer(folder / used) or 0)))
            share = _processor_share(folder)
            if share is not None:
                processors.append(share)
    return min(memory, default=None), min(processors, default=None)


def _processor_share(folder: Path) -> float | None:
    try:
        quota, period = map(int, (folder / "cpu.max").read_text().split())
    except (OSError, ValueError):  # "max 100000" where there is no limit
        quota = _integer(folder / "cpu.cfs_quota_us") or 0
        period = _integer(folder / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None


def _integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _size(count: int) -> str:
    return f"{count / _GIB:,.1f} GiB" if count >= _GIB else f"{count / _MIB:,.0f} MiB"
