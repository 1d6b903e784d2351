"""What an attack could reach or change, and whether it did: a secret, a folder, two sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["World", "descendants", "world"]

_ROOT = Path(__file__).resolve().parents[1]
_VARIABLE = "AFLOW_GRPO_ABUSE_SECRET"


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, whichever of its threads started it."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):  # it ended while it was looked at
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children += map(int, listed.read_text().split())
    return [found for child in children for found in (child, *descendants(child))]


def _peak_mb(pid: int) -> float:
    """Most memory that a process ever held, in MiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _command(pid: int) -> bytes:
    """How a process was started; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class World:
    """The host as seen by an attack: what it must not read, and what it must not touch.

    Args:
        folder: An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = f"secret-{os.urandom(8).hex()}"
        self._file = folder / "secret.txt"
        self._file.write_text(self.secret)
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._tcp.setblocking(False)
        self._port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self._port))
        self._udp.setblocking(False)
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._sample)
        self.peak_mb = 0.0
        """Most memory of one process below this one, in MiB, while the world exists."""

    def _sample(self) -> None:
        own = _command(os.getpid())
        while not self._ended.wait(0.02):
            for pid in descendants(os.getpid()):
                # Between fork and exec a child still counts as much as this process.
                if _command(pid) != own:
                    self.peak_mb = max(self.peak_mb, _peak_mb(pid))

    def open(self) -> None:
        """Put the secret into the environment and begin to watch."""
        os.environ[_VARIABLE] = self.secret
        self._watch.start()

    def close(self) -> None:
        """End it; may not be opened again."""
        self._ended.set()
        self._watch.join()
        os.environ.pop(_VARIABLE, None)
        self._tcp.close()
        self._udp.close()

    def arm(self, code: str) -> str:
        """`code` with the marks for things of this world replaced by their names."""
        names = {"FILE": self._file, "FOLDER": self.folder, "VARIABLE": _VARIABLE}
        names |= {"PORT": self._port, "PID": os.getpid()}
        for mark, name in names.items():
            code = code.replace(f"@{mark}@", str(name))
        return code

    def leaks(self, text: str) -> list[str]:
        """Which secrets of the host are in `text`: the marker, or where things lie."""
        known = (self.secret, str(_ROOT), sys.prefix, sys.base_prefix)
        return [found for found in known if found in text]

    def changes(self) -> list[str]:
        """What has been done to the host since the start."""
        names = sorted(entry.name for entry in self.folder.iterdir())
        found = [] if names == ["secret.txt"] else [f"files: {names}"]
        if not self._file.exists() or self._file.read_text() != self.secret:
            found.append("the file has changed")
        with contextlib.suppress(BlockingIOError):
            self._tcp.accept()[0].close()
            found.append("a connection")
        with contextlib.suppress(BlockingIOError):
            found.append(f"a datagram: {self._udp.recv(100)!r}")
        return found


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world in `folder` while the block lasts."""
    made = World(folder)
    made.open()
    try:
        yield made
    finally:
        made.close()
