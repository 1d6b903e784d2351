"""Which GPUs a program started here would see: `CUDA_VISIBLE_DEVICES`, read as CUDA reads it.

Indices or UUIDs (a unique beginning is enough), of GPUs or of MIG parts. CUDA says nothing about a
wrong entry: it ignores it and everything after it. So wrong entries are named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aflow_grpo.workbench.doctor.nvidia import Gpu, Snapshot

__all__ = ["Visible", "visible_gpus"]

_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Visible:
    """What `CUDA_VISIBLE_DEVICES` leaves."""

    gpus: tuple[Gpu, ...]
    """In CUDA's order, each once."""
    value: str | None
    """The variable as it is set; None when it is not."""
    trouble: str = ""
    """Why CUDA sees fewer than the variable seems to say."""


def visible_gpus(snapshot: Snapshot, environ: Mapping[str, str]) -> Visible:
    """The GPUs that CUDA would see."""
    value = environ.get(_VARIABLE)
    if value is None:
        return Visible(snapshot.gpus, None)
    entries = [entry.strip() for entry in value.split(",")]
    seen: list[Gpu] = []
    taken: set[str] = set()
    for place, entry in enumerate(entries):
        if entry in ("", "-1", "NoDevFiles"):
            rest = [e for e in entries[place + 1 :] if e]
            told = f"everything after {entry!r} is ignored: {', '.join(rest)}" if rest else ""
            return Visible(tuple(seen), value, told)
        device, trouble = _named(entry, snapshot)
        if device is None:
            return Visible(tuple(seen), value, trouble)
        key, gpu = device
        if key in taken:
            return Visible((), value, f"{entry!r} names a device twice, so that CUDA sees none")
        taken.add(key)
        if gpu not in seen:
            seen.append(gpu)
    return Visible(tuple(seen), value)


def _named(entry: str, snapshot: Snapshot) -> tuple[tuple[str, Gpu] | None, str]:
    """The device that one entry names: its UUID and the GPU it is (part of)."""
    by_index = {gpu.index: gpu for gpu in snapshot.gpus}
    known = ", ".join(map(str, by_index)) or "none"
    ignored = "CUDA ignores it and what follows"
    if entry.isdecimal() and entry.isascii():
        gpu = by_index.get(int(entry))
        if gpu is not None:
            return (gpu.uuid, gpu), ""
        return None, f"{entry!r} is no GPU here (there are: {known}); {ignored}"
    devices = [(gpu.uuid, gpu) for gpu in snapshot.gpus]
    parts = [p for p in snapshot.mig_devices if p.gpu_index in by_index]
    devices += [(part.uuid, by_index[part.gpu_index]) for part in parts]
    found = [device for device in devices if device[0].startswith(entry)]
    if len(found) == 1 and entry.startswith(("GPU-", "MIG-")):
        return found[0], ""
    if len(found) > 1:
        return None, f"{entry!r} begins the UUID of {len(found)} devices; {ignored}"
    return None, f"{entry!r} is neither an index nor the UUID of a GPU here; {ignored}"
