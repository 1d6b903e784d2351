"""One run's directory: made and proven writable, held by one process, and its memory of the run.

Everything a run keeps lies in it, so nothing else is touched before it is entered. The lock is the
kernel's and belongs to the process: `kill -9` releases it, forked children do not inherit it.
`run.json` says which MLflow run the directory belongs to. It also announces a run before MLflow
makes it, so that a kill between the two leaves a run that is found again and not a second one.

Not here: what the other files hold (`checkpoint`, `tracking`, the journal).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.checkpoint import checkpoint_directory

__all__ = ["RunDirectory", "read_run_id", "recorded_store", "storage_trouble"]

_KEY = "trainer.default_root_dir"
_LOCK_FILE = "run.lock"
_RUN_FILE = "run.json"
_PROBE_BYTES = 1 << 16
_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_STORAGE_WORDS = ("disk is full", "disk I/O error", "readonly database")


def read_run_id(root: str | Path) -> str | None:
    """The MLflow run that `fit` last logged to under `root`, or None."""
    run_id = _read(Path(root) / _RUN_FILE).get("mlflow_run_id")
    return str(run_id) if run_id else None


def recorded_store(root: str | Path) -> str | None:
    """Where that run is tracked: MLflow's tracking URI, or None."""
    uri = _read(Path(root) / _RUN_FILE).get("tracking_uri")
    return str(uri) if uri else None


@dataclass
class RunDirectory:
    """A run's directory, entered by one run at a time; a context manager.

    Raises on entering:
        ConfigError: It cannot be made or written, or another process is in it.
    """

    root: Path
    """`trainer.default_root_dir`."""
    guest: bool = False
    """Another rank of the run whose first process holds the directory: it only looks."""
    _lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.guest:
                return self
            # Not truncated: until the lock is ours it names its holder.
            self._lock = (self.root / _LOCK_FILE).open("a+")
            self._take(self._lock)
            self._probe()
        except OSError as error:
            self.close()
            raise ConfigError(
                f"{_KEY}={self.root}: cannot be written ({error.strerror or error}). Make room or "
                f"give a directory that you may write to, e.g. --{_KEY} runs/NAME."
            ) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process enter; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    @property
    def last_checkpoint(self) -> Path:
        """What ``--ckpt_path last`` means here, whether it exists or not."""
        return checkpoint_directory(self.root) / "last.ckpt"

    @property
    def run_id(self) -> str | None:
        """The MLflow run that the directory belongs to."""
        return read_run_id(self.root)

    @property
    def can_restart(self) -> bool:
        """Whether a run was begun here and stopped before it wrote a checkpoint."""
        begun = self.run_id is not None or self._announced is not None
        return begun and not self.last_checkpoint.exists()

    @property
    def _announced(self) -> str | None:
        token = _read(self.root / _RUN_FILE).get("announced")
        return str(token) if token else None

    def announce_run(self) -> str:
        """The mark of the run that is about to be made; the same again after a kill."""
        token = self._announced
        if token is None:
            token = uuid.uuid4().hex
            self._write(_read(self.root / _RUN_FILE) | {"announced": token})
        return token

    @property
    def was_announced(self) -> bool:
        """Whether a run was announced and perhaps made, and the directory not yet given to it."""
        return self._announced is not None

    def belongs_to(self, run_id: str, tracking_uri: str) -> None:
        """Note which MLflow run the directory now belongs to."""
        self._write({"mlflow_run_id": run_id, "tracking_uri": tracking_uri})

    def set_checkpoint_aside(self) -> Path | None:
        """Give `last.ckpt` of the earlier run a name of its own; None when there is none."""
        last = self.last_checkpoint
        if not last.exists():
            return None
        owner = (self.run_id or "earlier")[:8]
        names = (f"last-{owner}{end}.ckpt" for end in ("", *(f"-{n}" for n in range(2, 1000))))
        kept = next(path for path in map(last.with_name, names) if not path.exists())
        return last.rename(kept)

    def _take(self, lock: IO[str]) -> None:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            lock.seek(0)
            raise ConfigError(
                f"{_KEY}={self.root}: {lock.read().strip() or 'another process'} is working in "
                "this directory, and only one may. Wait for its end, stop it, or give another "
                f"--{_KEY}."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()

    def _probe(self) -> None:
        """Write and remove a file: on a full disk the smallest one may still fit."""
        probe = self.root / ".probe"
        try:
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)

    def _write(self, memory: dict[str, Any]) -> None:
        """Replace `run.json` in one step that outlasts a power cut."""
        part = self.root / f".{_RUN_FILE}.part"
        with part.open("w") as file:
            file.write(json.dumps(memory) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.root / _RUN_FILE)


def storage_trouble(error: BaseException) -> str | None:
    """The storage's own words when it is what `error` comes from: full, read-only, broken."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _STORAGE_ERRORS:
            return f"{cause.filename or 'a file'}: {cause.strerror}"
        database = isinstance(cause, sqlite3.OperationalError)
        if database and any(words in str(cause) for words in _STORAGE_WORDS):
            return f"a database: {cause}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause in seen:
            continue
        seen.append(cause)
        yield cause
        waiting += [next_ for next_ in (cause.__cause__, cause.__context__) if next_ is not None]


def _read(path: Path) -> dict[str, Any]:
    """What `run.json` says; nothing when it is not there.

    Raises:
        ConfigError: It is not what was written.
    """
    try:
        memory = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        memory = None
    if not isinstance(memory, dict):
        raise ConfigError(
            f"{path}: not readable as JSON. It names the directory's MLflow run; remove it to "
            "begin a new one."
        )
    return memory
