"""GPUs: what is there, who uses it, and whether a run may start on it.

Nothing is ever ended. A GPU that others use is reported, and with `require_free` the answer to "may
the run start?" is no. Whose process it is and whether it may stop is for people to decide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from aflow_grpo.workbench.doctor.check import Check, Status
from aflow_grpo.workbench.doctor.nvidia import (
    Gpu,
    GpuProcess,
    NvidiaTrouble,
    Snapshot,
    has_nvidia_smi,
    look,
)
from aflow_grpo.workbench.doctor.run_settings import RunSettings
from aflow_grpo.workbench.doctor.software import TorchBuild
from aflow_grpo.workbench.doctor.visible import Visible, visible_gpus

__all__ = ["chosen_gpus", "device_checks", "gpu_line", "is_in_use", "process_text"]

_UNSEEN_MIB = 1024.0
"""More memory than this is in use by somebody, even if no process is to be seen."""
_SHOWN = 8
"""Processes of one GPU that are named; the rest is counted."""


def device_checks(
    settings: RunSettings,
    torch: TorchBuild,
    *,
    gpus: Sequence[int] | None,
    protected_pids: Sequence[int],
    require_free: bool,
) -> Iterator[Check]:
    """Everything about GPUs and the device that the run would use."""
    status: Status
    wants_gpu = str(settings.get("trainer.accelerator", "auto")) in ("gpu", "cuda")
    if not has_nvidia_smi():
        yield _no_program(asked=bool(gpus), wants_gpu=wants_gpu)
        yield from _device(settings, torch, None)
        return
    try:
        snapshot = look(protected_pids)
    except NvidiaTrouble as trouble:
        needed = wants_gpu or require_free or bool(gpus) or bool(torch.cuda)
        status = "failure" if needed else "warning"
        yield Check("nvidia_smi", "devices", status, trouble.found, trouble.remedy)
        yield from _device(settings, torch, None)
        return
    driver = snapshot.gpus[0].driver if snapshot.gpus else "?"
    count = len(snapshot.gpus)
    found = f"driver {driver}, {count} GPU{'s' * (count != 1)}" if count else "no GPU"
    yield Check("nvidia_smi", "devices", "ok", found)
    visible = visible_gpus(snapshot, os.environ)
    yield from _visible(visible, snapshot)
    chosen, missing = chosen_gpus(snapshot, visible, gpus)
    for index in missing:
        known = ", ".join(str(gpu.index) for gpu in snapshot.gpus) or "none"
        fix = f"Choose among those that are there: {known}."
        yield Check(f"gpu.{index}", "devices", "failure", "there is no such GPU", fix)
    for gpu in chosen:
        yield _gpu(gpu, snapshot, require_free=require_free)
    unknown = snapshot.unplaced + snapshot.unreadable
    if unknown:
        found = f"{unknown} line{'s' * (unknown != 1)} about processes that belong to no GPU here"
        fix = "Run nvidia-smi by itself; one of these processes may be on your GPU."
        status = "failure" if require_free else "warning"
        yield Check("gpu_processes", "devices", status, found, fix)
    yield from _device(settings, torch, len(chosen))


def chosen_gpus(
    snapshot: Snapshot, visible: Visible, gpus: Sequence[int] | None
) -> tuple[list[Gpu], list[int]]:
    """The GPUs that are meant (`gpus`, else the visible ones), and the indices that are not there.

    `gpus` are nvidia-smi's indices.
    """
    if gpus is None:
        return list(visible.gpus), []
    by_index = {gpu.index: gpu for gpu in snapshot.gpus}
    wanted = list(dict.fromkeys(gpus))
    return [by_index[i] for i in wanted if i in by_index], [i for i in wanted if i not in by_index]


def is_in_use(gpu: Gpu, snapshot: Snapshot) -> bool:
    """Whether a run would have to share it."""
    return bool(snapshot.users_of(gpu)) or (gpu.used_mib or 0.0) > _UNSEEN_MIB


def gpu_line(gpu: Gpu) -> str:
    """Name, memory and load of a GPU."""
    memory = "memory unknown"
    if gpu.used_mib is not None and gpu.total_mib is not None:
        memory = f"{gpu.used_mib:,.0f} of {gpu.total_mib:,.0f} MiB"
    busy = "load unknown" if gpu.busy_percent is None else f"{gpu.busy_percent:.0f} % busy"
    mig = ", cut into MIG parts" if gpu.mig else ""
    return f"{gpu.name}, {memory}, {busy}{mig}"


def process_text(process: GpuProcess) -> str:
    """Who it is, in a few words."""
    memory = "" if process.used_mib is None else f", {process.used_mib:,.0f} MiB"
    mark = ", protected" if process.protected else ""
    return f"pid {process.pid} ({process.user}, {process.name}{memory}{mark})"


def _gpu(gpu: Gpu, snapshot: Snapshot, *, require_free: bool) -> Check:
    name, line = f"gpu.{gpu.index}", gpu_line(gpu)
    if not is_in_use(gpu, snapshot):
        return Check(name, "devices", "ok", f"{line}; free")
    users = snapshot.users_of(gpu)
    told = "; ".join(process_text(process) for process in users[:_SHOWN])
    if len(users) > _SHOWN:
        told += f"; and {len(users) - _SHOWN} more"
    told = told or "a process that is not to be seen from here (another container or user)"
    free = [str(g.index) for g in snapshot.gpus if not is_in_use(g, snapshot)]
    other = f"take a free one: CUDA_VISIBLE_DEVICES={free[0]}" if free else "wait for its end"
    fix = f"Ask its owner, or {other}. The doctor ends no process."
    if any(process.protected for process in users):
        fix = f"A protected process is on it: {other}. The doctor ends no process."
    if require_free:
        fix = f"The run should not start here. {fix}"
    status: Status = "failure" if require_free else "warning"
    return Check(name, "devices", status, f"{line}; in use by {told}", fix)


def _no_program(*, asked: bool, wants_gpu: bool) -> Check:
    if asked or wants_gpu:
        what = "--gpus names GPUs" if asked else "trainer.accelerator asks for a GPU"
        return Check(
            "nvidia_smi",
            "devices",
            "failure",
            f"not installed or not on the PATH, but {what}",
            "Install the NVIDIA driver, start the container with --gpus all, mend the PATH, or "
            "set trainer.accelerator: cpu.",
        )
    return Check("nvidia_smi", "devices", "ok", "not installed: no NVIDIA GPU to look at")


def _visible(visible: Visible, snapshot: Snapshot) -> Iterator[Check]:
    if visible.value is None:
        return
    name = "CUDA_VISIBLE_DEVICES"
    seen = ", ".join(str(gpu.index) for gpu in visible.gpus)
    found = f"{visible.value!r}: " + (f"GPU {seen}" if seen else "no GPU")
    if visible.trouble:
        fix = f"Correct the variable; GPUs here: {', '.join(str(g.index) for g in snapshot.gpus)}."
        yield Check(name, "devices", "failure", f"{found}; {visible.trouble}", fix)
        return
    yield Check(name, "devices", "ok", found)
    kinds = {gpu.name for gpu in snapshot.gpus}
    if len(kinds) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield Check(
            "CUDA_DEVICE_ORDER",
            "devices",
            "warning",
            "GPUs of different kinds: CUDA numbers the fastest first, nvidia-smi by bus",
            "export CUDA_DEVICE_ORDER=PCI_BUS_ID, so that both mean the same GPU.",
        )


def _device(settings: RunSettings, torch: TorchBuild, chosen: int | None) -> Iterator[Check]:
    """What the run would compute on, and whether that is what the settings ask for.

    Args:
        chosen: GPUs that it would see; None where nobody knows.
    """
    accelerator = str(settings.get("trainer.accelerator", "auto"))
    gpu_works = bool(torch.cuda) and bool(chosen)
    if accelerator in ("gpu", "cuda") and not gpu_works:
        reason = "this torch is built without CUDA" if not torch.cuda else "no GPU is to be seen"
        yield Check(
            "device",
            "devices",
            "failure",
            f"trainer.accelerator={accelerator}, but {reason}",
            "Install a CUDA build of torch (https://pytorch.org/get-started/locally), make a GPU "
            "visible, or set trainer.accelerator: cpu.",
        )
        return
    if chosen and not torch.cuda:
        yield Check(
            "device",
            "devices",
            "warning",
            f"CPU, although there is a GPU: torch {torch.version} is built without CUDA",
            "Install a CUDA build of torch (https://pytorch.org/get-started/locally).",
        )
        return
    wanted = settings.get("trainer.devices", 1)
    if gpu_works and isinstance(wanted, int) and chosen is not None and wanted > chosen:
        yield Check(
            "device",
            "devices",
            "failure",
            f"trainer.devices={wanted}, but only {chosen} GPU{'s' * (chosen != 1)} to be seen",
            f"Set trainer.devices: {chosen}, or name more in CUDA_VISIBLE_DEVICES.",
        )
        return
    uses_gpu = gpu_works and accelerator != "cpu"
    yield Check("device", "devices", "ok", f"cuda, trainer.devices={wanted}" if uses_gpu else "cpu")
