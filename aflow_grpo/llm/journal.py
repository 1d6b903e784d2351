"""The durable store of a run: every answered call, so that none is paid twice, and every rollout.

One SQLite file. The key of a call is a hash of the request (model, messages, sampling parameters,
seed), so a resumed run that asks the same again gets the stored reply, free of charge. The tables
of the rollouts are those of `rollout_store`. A writer thread commits whatever has gathered in one
transaction, so a caller never waits for the disk; `flush` waits until all is on it. A process that
is killed loses at most the last `linger_s`, and never the file. A file of an older version is
migrated when it is opened. Not stored: keys, and the requests' texts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.rollout_store import ROLLOUT_SCHEMA, RolloutBatch, write_batch

__all__ = ["Entry", "Journal", "request_key"]

_SCHEMA_VERSION = 3
_SCHEMA = """CREATE TABLE IF NOT EXISTS calls (
    key BLOB PRIMARY KEY, model TEXT NOT NULL, tier TEXT NOT NULL, reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL, created REAL NOT NULL,
    finish_reason TEXT NOT NULL DEFAULT '') WITHOUT ROWID"""
_MIGRATIONS = {
    1: ("ALTER TABLE calls ADD COLUMN finish_reason TEXT NOT NULL DEFAULT ''",),
    2: ROLLOUT_SCHEMA,
}
"""Version -> what makes a file of it one of the next version."""
_INSERT = "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(key) DO NOTHING"
_SELECT = """SELECT model, tier, reply, prompt_tokens, completion_tokens, cost_usd, finish_reason
    FROM calls WHERE key = ?"""
# A POSIX lock does not keep the own process out, so the paths it holds are kept here.
_held: set[Path] = set()


@dataclass(frozen=True)
class Entry:
    """One answered call."""

    model: str
    tier: str
    reply: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    """List cost."""
    finish_reason: str = ""
    """Why the reply ended, as the endpoint said; empty when it did not, or in version 1."""


_Item = tuple[bytes, Entry] | RolloutBatch | threading.Event | None
"""For the writer: a reply, rollouts, a flush to confirm, or the end."""


def request_key(body: Mapping[str, Any], scope: str = "") -> bytes:
    """SHA-256 of a request body as canonical JSON: 32 bytes.

    Args:
        body: The request.
        scope: What the replies are from, when that is not the model alone; equal requests of two
            scopes have two keys. A simulator's world is one.
    """
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    key = hashlib.sha256(text.encode()).digest()
    return hashlib.sha256(scope.encode() + key).digest() if scope else key


class Journal:
    """A journal file, opened for writing by this process alone.

    Args:
        path: The SQLite file; created with its folder if missing.
        linger_s: How long the writer gathers replies before it commits them.

    Raises:
        ConfigError: Another process has it open, or the file is no journal.
    """

    def __init__(self, path: Path | str, *, linger_s: float = 0.05) -> None:
        self.path = Path(path).resolve()
        self._linger_s = linger_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = self._lock()
        try:
            self._reader = self._open()
        except BaseException:
            self._unlock()
            raise
        self._pending: dict[bytes, Entry] = {}
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._failure: Exception | None = None
        self._mutex = threading.Lock()
        self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._writer.start()

    def get(self, key: bytes) -> Entry | None:
        """The stored reply, also one that is not on disk yet; None when there is none."""
        with self._mutex:
            entry = self._pending.get(key)
            if entry is not None:
                return entry
            row = self._reader.execute(_SELECT, (key,)).fetchone()
        return Entry(*row) if row else None

    def put(self, key: bytes, entry: Entry) -> None:
        """Store a reply; returns at once. The first reply of a key stays.

        Raises:
            ExecutorError: An earlier write failed, e.g. because the disk is full.
        """
        self._check()
        with self._mutex:
            self._pending[key] = entry
        self._queue.put((key, entry))

    def put_rollouts(self, batch: RolloutBatch) -> None:
        """Store rollouts; returns at once. The last content of a key stays.

        Raises:
            ExecutorError: An earlier write failed.
        """
        self._check()
        self._queue.put(batch)

    def flush(self) -> None:
        """Return when everything put so far is on disk; blocks for a few milliseconds.

        Raises:
            ExecutorError: A write failed.
        """
        if not self._writer.is_alive():
            return
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        done.wait()
        self._check()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._lock_file is None:
            return
        self._queue.put(None)
        self._hurry.set()
        self._writer.join()
        self._reader.close()
        self._unlock()
        self._check()

    def __len__(self) -> int:
        self.flush()
        with self._mutex:
            return int(self._reader.execute("SELECT count(*) FROM calls").fetchone()[0])

    def _check(self) -> None:
        if self._failure is not None:
            raise ExecutorError(
                f"The journal {self.path} cannot be written ({self._failure}). Free some disk "
                "space or make it writable, then resume the run."
            )

    def _lock(self) -> IO[bytes] | None:
        lock_path = self.path.with_name(self.path.name + ".lock")
        in_use = (
            f"The journal {self.path} is open for writing in another run. Wait for that run to "
            "end, or give this one another trainer.default_root_dir."
        )
        if lock_path in _held:  # closing a second handle would give up the lock of the first
            raise ConfigError(in_use)
        file = lock_path.open("ab")
        try:
            # Not flock: a forked child would inherit that and keep it when this process is gone.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ConfigError(in_use) from error
        _held.add(lock_path)
        return file

    def _unlock(self) -> None:
        if self._lock_file is not None:
            _held.discard(Path(self._lock_file.name))
            self._lock_file.close()
            self._lock_file = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: a commit is on the disk, also when the power fails.
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _open(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version not in (*_MIGRATIONS, _SCHEMA_VERSION) and (version or tables):
                raise sqlite3.DatabaseError(f"schema version {version}, not {_SCHEMA_VERSION}")
            if version != _SCHEMA_VERSION:
                steps = [_MIGRATIONS[v] for v in range(version, _SCHEMA_VERSION)] if version else []
                connection.execute("BEGIN IMMEDIATE")
                for step in steps or [(_SCHEMA, *ROLLOUT_SCHEMA)]:
                    for statement in step:
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise ConfigError(
                f"{self.path} is not a journal of this version ({error}). Move it away, or give "
                "this run another trainer.default_root_dir."
            ) from error
        return connection

    def _write_all(self) -> None:
        connection = self._connect()
        closing = False
        while not closing:
            items = [self._queue.get()]
            if isinstance(items[0], tuple | RolloutBatch):
                self._hurry.wait(self._linger_s)
            self._hurry.clear()
            while not self._queue.empty():
                items.append(self._queue.get())
            self._commit(
                connection,
                [item for item in items if isinstance(item, tuple)],
                [item for item in items if isinstance(item, RolloutBatch)],
            )
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            closing = None in items
        connection.close()

    def _commit(
        self,
        connection: sqlite3.Connection,
        batch: list[tuple[bytes, Entry]],
        rollouts: list[RolloutBatch],
    ) -> None:
        now = time.time()
        rows = [
            (
                *(key, e.model, e.tier, e.reply, e.prompt_tokens, e.completion_tokens),
                *(e.cost_usd, now, e.finish_reason),
            )
            for key, e in batch
        ]
        if not rows and not rollouts:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            for arrived in rollouts:
                write_batch(connection, arrived)
            connection.execute("COMMIT")
        except Exception as error:  # in a thread: kept, and raised by the next put or flush
            self._failure = error
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return
        with self._mutex:
            for key, _ in batch:
                self._pending.pop(key, None)
