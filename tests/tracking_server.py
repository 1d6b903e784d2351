"""A real `mlflow server` on loopback, with SQLite and an artifact proxy, that can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from trainer_runs import new_root

__all__ = ["KillGroup", "Outage", "TrackingServer", "free_port", "metrics_in", "runs_in"]

_STARTS_WITHIN_S = 120.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TrackingServer:
    """Starts on construction; its store and its port outlast a kill.

    Args:
        folder: Where store, artifacts and log lie; must not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = new_root(folder)
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def store(self) -> Path:
        """The SQLite file behind it."""
        return self.folder / "mlflow.db"

    @property
    def group(self) -> int:
        """The process group of server and workers."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers; one that somebody else has killed starts again."""
        if self._process is not None:
            self._process.wait()
        arguments = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.store}",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "1"}
        environment = os.environ | settings
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until = time.monotonic() + _STARTS_WITHIN_S
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL to the server and its workers; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """Kill it and remove what it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Outage(L.Callback):
    """Kills the server of a fit in this process, and starts it again some iterations later.

    Args:
        gone_after: Completed iterations before it is killed.
        back_after: And before it is there again.
    """

    server: ClassVar[TrackingServer]
    """Which one; set by the test."""

    def __init__(self, gone_after: int, back_after: int) -> None:
        self._gone_after = gone_after
        self._back_after = back_after

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two iterations."""
        if pl_module.iteration == self._gone_after:
            self.server.kill()
        if pl_module.iteration == self._back_after:
            self.server.start()


class KillGroup(L.Callback):
    """Kills a group of processes, such as a server, once.

    Args:
        group: Its number.
        after: Completed iterations before.
    """

    def __init__(self, group: int, after: int) -> None:
        self._group = group
        self._after = after

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two iterations."""
        if pl_module.iteration == self._after:
            os.killpg(self._group, signal.SIGKILL)


def runs_in(store: Path) -> dict[str, dict[str, str]]:
    """Run id -> its tags, oldest run first; read past MLflow."""
    tags = "select key, value from tags where run_uuid = ?"
    with sqlite3.connect(store) as database:
        runs = database.execute("select run_uuid from runs order by start_time, rowid").fetchall()
        return {run: dict(database.execute(tags, (run,)).fetchall()) for (run,) in runs}


def metrics_in(store: Path, run: str) -> dict[tuple[str, int], list[float]]:
    """(name, step) -> every value that is there; no times, no system."""
    found: dict[tuple[str, int], list[float]] = {}
    with sqlite3.connect(store) as database:
        rows = database.execute("select key, step, value from metrics where run_uuid = ?", (run,))
        for key, step, value in rows:
            if not key.startswith(("time/", "system/")):
                found.setdefault((key, step), []).append(value)
    return found
