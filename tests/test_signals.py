"""Real signals to real processes: code, time, what is left behind, and what is not.

As from a terminal, where Ctrl-C reaches the whole process group, and from a scheduler.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from trainer_runs import INTERRUPTED, TERMINATED, checkpoint_of, new_root, write_settings

from aflow_grpo.training.interrupts import SHUTDOWN_S

PATIENCE_S = 120
"""For a process to import everything on a busy machine."""
CHILDREN = 3
"""Simulator, sandbox, interpreter."""


@dataclass(frozen=True)
class Ended:
    """What is left of a run that was sent a signal."""

    root: Path
    code: int
    errors: str
    """What was written after the signal."""
    seconds: float
    family: int
    """Child processes at the time of the signal."""
    orphans: Sequence[psutil.Process]

    @property
    def statuses(self) -> list[str]:
        """Of the MLflow runs."""
        with sqlite3.connect(self.root / "mlflow.db") as database:
            return [status for (status,) in database.execute("select status from runs")]

    @property
    def checkpointed(self) -> int | None:
        """The checkpoint's iteration; None when there is none."""
        if not (self.root / "checkpoints" / "last.ckpt").exists():
            return None
        return int(checkpoint_of(self.root)["aflow_grpo"]["iteration"])


def stop(folder: Path, line: str, send: Callable[[subprocess.Popen[str]], None]) -> Ended:
    """Start a fit, wait for a line of its output, send it something, and see how it ends."""
    root = new_root(folder / "run")
    settings = write_settings(
        folder,
        trainer__max_steps=10_000,
        progress__quiet=False,
        model__evaluation__at_start=line == "Judging",
        # Slow answers: the signal comes while workflows are executing.
        llm__simulator__latency_ms=200,
    )
    command = [sys.executable, "-m", "aflow_grpo", "fit", f"--config={settings}"]
    process = subprocess.Popen(
        [*command, f"--trainer.default_root_dir={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert any(re.match(line, said) for said in process.stdout), process.communicate()
        family = psutil.Process(process.pid).children(recursive=True)
        started = time.monotonic()
        send(process)
        errors, _ = process.communicate()
        seconds = time.monotonic() - started
    finally:
        watchdog.cancel()
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=SHUTDOWN_S)
    orphans = [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    return Ended(root, process.returncode, errors, seconds, len(family), orphans)


def terminate(process: "subprocess.Popen[str]") -> None:
    process.terminate()


def press(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGINT)


def press_and_press(process: "subprocess.Popen[str]") -> None:
    """As somebody does who sees nothing happen."""
    for name in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        os.killpg(process.pid, name)


@pytest.mark.parametrize(
    ("line", "send", "code", "said"),
    [
        (r"training: 1/", terminate, TERMINATED, "terminated"),
        (r"training: 1/", press, INTERRUPTED, "interrupted"),
        (r"Judging", terminate, TERMINATED, "terminated"),
        (r"Judging", press_and_press, INTERRUPTED, "interrupted"),
    ],
    ids=["TERM-rollout", "INT-rollout", "TERM-evaluation", "INT-impatient"],
)
def test_a_signal_ends_the_run_soon_cleanly_and_resumably(
    line: str,
    send: Callable[["subprocess.Popen[str]"], None],
    code: int,
    said: str,
    tmp_path: Path,
) -> None:
    ended = stop(tmp_path, line, send)
    assert (ended.code, "Traceback" in ended.errors) == (code, False), ended.errors
    assert f"aflow-grpo fit: {said}." in ended.errors and "--ckpt_path last" in ended.errors
    assert ended.seconds < SHUTDOWN_S
    assert ended.family >= CHILDREN and not ended.orphans
    assert ended.statuses == ["KILLED"]
    if line.startswith("training"):
        assert ended.checkpointed is not None and ended.checkpointed >= 1


@pytest.mark.parametrize(
    ("line", "send", "code"),
    [("aflow-grpo fit: loading", terminate, TERMINATED), ("Run  ", press, INTERRUPTED)],
    ids=["TERM-import", "INT-before-the-run"],
)
def test_a_signal_while_loading_leaves_nothing(
    line: str, send: Callable[["subprocess.Popen[str]"], None], code: int, tmp_path: Path
) -> None:
    """There is no run yet, or one that has just begun and says how it ended."""
    ended = stop(tmp_path, line, send)
    assert (ended.code, "Traceback" in ended.errors) == (code, False), ended.errors
    assert ended.seconds < SHUTDOWN_S and not ended.orphans
    assert ended.checkpointed in (None, 0)
    assert ended.statuses in ([], ["KILLED"])


def test_kill_leaves_no_orphan_and_the_way_free(tmp_path: Path) -> None:
    """kill -9: nothing of ours runs any more, so the children have to notice by themselves."""
    ended = stop(tmp_path, r"training: 1/", lambda process: process.kill())
    assert ended.code == -signal.SIGKILL
    assert ended.family >= CHILDREN and not ended.orphans
    assert ended.statuses == ["RUNNING"], "nobody could tell MLflow"
    assert json.loads((ended.root / "run.json").read_text())["mlflow_run_id"]
