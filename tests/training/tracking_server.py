"""A real `mlflow server` on loopback, with SQLite and an artifact proxy, that can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from trainer_runs import new_root

__all__ = ["TrackingServer", "free_port"]

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

    def start(self) -> None:
        """Start, and wait until it answers."""
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
