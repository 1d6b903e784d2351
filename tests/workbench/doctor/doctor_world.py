"""A machine for the doctor: an nvidia-smi on the PATH that prints what real ones have printed."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from aflow_grpo.workbench.doctor.check import Check

A = "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c"
B = "GPU-b1d4e0b3-3f2a-41f8-8e0b-0a5b3b1f6a11"
C = "GPU-2927d07e-3fe9-7904-9e08-b08b82d9a37d"
MIG_0 = "MIG-e07a497d-1bb6-5a42-b670-1c33bf55ab6e"
MIG_1 = "MIG-6e95ef19-5145-571b-b040-7e731f1c1af3"
A100 = "NVIDIA A100-SXM4-80GB, 535.104.05"
THREE = (
    f"0, {A}, {A100}, 4, 81920, 0, Disabled\n"
    f"1, {B}, {A100}, 30519, 81920, 97, Disabled\n"
    f"2, {C}, {A100}, 4, 81920, 0, Disabled\n"
)
MIG_GPU = f"0, {A}, {A100}, [N/A], [N/A], [N/A], Enabled\n"
MIG_LIST = (
    f"GPU 0: NVIDIA A100-SXM4-80GB (UUID: {A})\n"
    f"  MIG 3g.40gb     Device  0: (UUID: {MIG_0})\n"
    f"  MIG 1g.10gb     Device  1: (UUID: {MIG_1})\n"
)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a shell script of that name first on the PATH; returns its folder."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    program = place / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return place


def says(gpus: str, processes: str = "", listing: str = "") -> str:
    """The script of an nvidia-smi that answers the doctor's questions."""
    return (
        'case "$*" in\n'
        f"*--query-gpu=*) printf %s {shlex.quote(gpus)} ;;\n"
        f"*--query-compute-apps=*) printf %s {shlex.quote(processes)} ;;\n"
        f"-L) printf %s {shlex.quote(listing)} ;;\n"
        "*) exit 91 ;;\nesac"
    )


def named(checks: Sequence[Check], name: str) -> Check:
    """The only line of that name."""
    (found,) = [check for check in checks if check.name == name]
    return found


def verb(*arguments: str) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "aflow_grpo", "doctor", *arguments]
