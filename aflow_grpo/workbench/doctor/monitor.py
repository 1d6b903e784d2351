"""GPUs and their processes again and again: a live picture on a terminal, plain lines elsewhere.

It only looks. What is shown comes from `nvidia`; which GPUs, from `--gpus` or the environment.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.doctor.devices import chosen_gpus, is_in_use
from aflow_grpo.workbench.doctor.nvidia import Gpu, NvidiaTrouble, Snapshot, has_nvidia_smi, look
from aflow_grpo.workbench.doctor.showing import gpu_lines, gpu_table
from aflow_grpo.workbench.doctor.visible import visible_gpus

__all__ = ["MonitorSettings", "monitor"]

_SHORTEST_S = 0.1


@dataclass(frozen=True)
class MonitorSettings:
    """What is watched, and how often."""

    every_s: float = 2.0
    """Between two looks."""
    times: int | None = None
    """Looks; None: until Ctrl-C."""
    gpus: tuple[int, ...] | None = None
    """By nvidia-smi's index; None: what `CUDA_VISIBLE_DEVICES` leaves."""
    protected_pids: tuple[int, ...] = ()
    """Shown as protected."""

    def __post_init__(self) -> None:
        if not self.every_s >= _SHORTEST_S:
            raise ConfigError(f"--monitor {self.every_s}: expected at least {_SHORTEST_S} seconds")
        if self.times is not None and self.times < 1:
            raise ConfigError(f"--times {self.times}: expected at least 1")


def monitor(settings: MonitorSettings, console: Console, *, as_json: bool = False) -> bool:
    """Show the GPUs until `times` is over or Ctrl-C comes; False when the last look failed.

    Args:
        settings: What and how often.
        console: Where to; a live picture if it is a terminal.
        as_json: One JSON document per look and line instead.
    """
    if not has_nvidia_smi():
        raise ConfigError(
            "--monitor: nvidia-smi is not installed or not on the PATH, so that there is no GPU "
            "to watch."
        )
    if as_json or not console.is_terminal:
        return _plain(settings, console, as_json=as_json)
    well = True
    # No thread of its own: what Ctrl-C interrupts is the wait or the question, never a drawing.
    with Live(console=console, auto_refresh=False) as live:
        for number in range(settings.times or 1 << 62):
            _wait(settings, number)
            try:
                gpus, snapshot = _look(settings)
            except NvidiaTrouble as trouble:
                well = False
                live.update(Text(f"{trouble.found}\nfix: {trouble.remedy}"), refresh=True)
            else:
                well = True
                live.update(gpu_table(gpus, snapshot, _moment()), refresh=True)
    return well


def _plain(settings: MonitorSettings, console: Console, *, as_json: bool) -> bool:
    well = True
    for number in range(settings.times or 1 << 62):
        _wait(settings, number)
        try:
            gpus, snapshot = _look(settings)
        except NvidiaTrouble as trouble:
            well = False
            found = {"time": _moment(), "trouble": trouble.found, "remedy": trouble.remedy}
            lines = [json.dumps(found)] if as_json else [f"{trouble.found}. {trouble.remedy}"]
        else:
            well = True
            lines = [_json(gpus, snapshot)] if as_json else list(gpu_lines(gpus, snapshot))
        for line in lines:
            text = line if as_json else f"{_moment()}  {line}"
            console.print(text, soft_wrap=True)
        console.file.flush()
    return well


def _look(settings: MonitorSettings) -> tuple[list[Gpu], Snapshot]:
    snapshot = look(settings.protected_pids)
    chosen, missing = chosen_gpus(snapshot, visible_gpus(snapshot, os.environ), settings.gpus)
    if missing:
        there = ", ".join(str(gpu.index) for gpu in snapshot.gpus) or "none"
        raise ConfigError(f"--gpus {' '.join(map(str, missing))}: no such GPU; there are: {there}")
    return chosen, snapshot


def _json(gpus: Sequence[Gpu], snapshot: Snapshot) -> str:
    shown = [
        {
            **asdict(gpu),
            "in_use": is_in_use(gpu, snapshot),
            "processes": [asdict(process) for process in snapshot.users_of(gpu)],
        }
        for gpu in gpus
    ]
    return json.dumps({"time": _moment(), "gpus": shown})


def _wait(settings: MonitorSettings, number: int) -> None:
    if number:
        time.sleep(settings.every_s)


def _moment() -> str:
    return datetime.now().isoformat(sep=" ", timespec="seconds")
