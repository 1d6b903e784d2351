"""The durable store of a run: what every executor call cost and answered, and every rollout.

One SQLite file. A call's row is on the disk before its reply is used, so a process that is killed
loses at most the calls still in flight, and a resumed run that asks the same again gets the stored
reply, free of charge. A writer thread commits at once what gathered while its last commit ran:
callers wait for the disk without holding up their event loop. A file of an older version is
migrated when it is opened. Not here: the tables (`journal_schema`, `rollout_store`), when a reply
may be used again (`client`). Not stored: keys, and the requests' texts.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.journal_files import (
    BILLED_BY_RUN,
    journal_path,
    journal_paths,
    open_to_read,
)
from aflow_grpo.llm.journal_schema import (
    SELECT_ENTRY,
    SELECT_ENTRY_OF_RUN,
    Entry,
    entry_of,
    insert_entries,
    make_tables,
)
from aflow_grpo.llm.rollout_store import RolloutBatch, write_batch

__all__ = ["Entry", "Journal", "journal_path", "journal_paths", "request_key"]

# A POSIX lock does not keep the own process out, so the paths it holds are kept here.
_held: set[Path] = set()


@dataclass(frozen=True, eq=False)
class _Call:
    """A row on its way to the disk, and who waits for it."""

    entry: Entry
    written: asyncio.Future[None]


_Item = _Call | RolloutBatch | threading.Event | None
"""For the writer: a call, rollouts, a flush to confirm, or the end."""


@dataclass
class _Unwritten:
    """What the disk has not taken yet."""

    entries: list[Entry] = field(default_factory=list)
    batches: list[RolloutBatch] = field(default_factory=list)


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

    Raises:
        ConfigError: Another process has it open, or the file is no journal.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = self._lock()
        try:
            self._connection = self._open()
            self._reader = self._connect()
        except BaseException:
            self._unlock()
            raise
        sums = self._reader.execute(BILLED_BY_RUN)
        self._billed_usd: defaultdict[str, float] = defaultdict(float, sums)
        self._others: list[sqlite3.Connection] = []
        self._pending: dict[bytes, list[Entry]] = {}
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._closed = False
        self._mutex = threading.Lock()
        self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._writer.start()

    def consult(self, paths: Iterable[Path]) -> None:
        """Let the journals of other ranks answer too what this one cannot.

        Who asks what changes with the number of ranks, and with the part of the problems that is
        evaluated; what one of them has paid for, none pays for again.

        Args:
            paths: Journals on this machine, or of ranks that are no more; one may be being written.

        Raises:
            ConfigError: One cannot be read.
        """
        with self._mutex:
            self._others += [open_to_read(path) for path in paths]

    def get(self, key: bytes, run: str | None = None) -> Entry | None:
        """The first answer with this key, also one that is not on disk yet; None if there is none.

        Args:
            key: See `request_key`.
            run: Only an answer to this run; None takes any run's.
        """
        select, values = (SELECT_ENTRY, [key]) if run is None else (SELECT_ENTRY_OF_RUN, [key, run])
        with self._mutex:
            row = self._reader.execute(select, values).fetchone()
            if row is not None:
                return entry_of(row)
            pending = self._pending.get(key, ())
            found = next((e for e in pending if e.answered and run in (None, e.run)), None)
            for other in self._others if found is None else ():
                if (row := other.execute(select, values).fetchone()) is not None:
                    return entry_of(row)
            return found

    async def write(self, entry: Entry) -> None:
        """Append a row; returns when it is on disk. A caller that is cancelled leaves the row.

        Raises:
            ExecutorError: The disk does not take it. It is tried again with the next row, and when
                the journal is closed.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._mutex:
            if self._closed:
                raise RuntimeError(f"the journal {self.path} is closed")
            self._pending.setdefault(entry.key, []).append(entry)
            self._billed_usd[entry.run] += entry.billed_usd
            self._queue.put(_Call(entry, written))
        await written

    def billed_usd(self, run: str) -> float:
        """What this run paid so far, failed attempts and earlier sessions of it included."""
        with self._mutex:
            return self._billed_usd.get(run, 0.0)

    def billed_by_run(self) -> dict[str, float]:
        """`billed_usd` of every run in the file."""
        with self._mutex:
            return dict(self._billed_usd)

    def adopt(self, rows_of: str, run: str) -> None:
        """Let the calls of `rows_of` be the calls of `run`, e.g. those of its preflight.

        Raises:
            ExecutorError: The disk does not take it.
        """
        self.flush()
        with self._mutex:
            try:
                self._reader.execute("UPDATE calls SET run = ? WHERE run = ?", (run, rows_of))
            except sqlite3.Error as error:
                raise self._refusal(error) from error
            self._billed_usd[run] += self._billed_usd.pop(rows_of, 0.0)

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
        done.wait()
        self._check()

    def close(self) -> None:
        """Flush and close; a second call does nothing.

        Raises:
            ExecutorError: A write failed, and once more now.
        """
        if self._lock_file is None:
            return
        with self._mutex:
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        for connection in (self._reader, *self._others):
            connection.close()
        self._unlock()
        self._check()

    def __len__(self) -> int:
        """Rows of calls."""
        self.flush()
        with self._mutex:
            return int(self._reader.execute("SELECT count(*) FROM calls").fetchone()[0])

    def _check(self) -> None:
        if self._failure is not None:
            raise self._refusal(self._failure)

    def _refusal(self, failure: Exception) -> ExecutorError:
        return ExecutorError(
            f"The journal {self.path} cannot be written ({failure}). Free some disk space or make "
            "it writable, then resume the run."
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
            make_tables(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise ConfigError(
                f"{self.path} is not a journal of this version ({error}). Move it away, or give "
                "this run another trainer.default_root_dir."
            ) from error
        return connection

    def _write_all(self) -> None:
        unwritten = _Unwritten()
        closing = False
        while not closing:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            calls = [item for item in items if isinstance(item, _Call)]
            unwritten.entries += [call.entry for call in calls]
            unwritten.batches += [item for item in items if isinstance(item, RolloutBatch)]
            self._failure = self._commit(unwritten)
            if self._failure is None:
                unwritten = _Unwritten()
            _tell(calls, None if self._failure is None else self._refusal(self._failure))
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            closing = None in items
        with suppress(sqlite3.Error):  # another rank's reader would keep it from being done
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _commit(self, rows: _Unwritten) -> Exception | None:
        """All of it in one transaction, or nothing and why."""
        if not rows.entries and not rows.batches:
            return None
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            insert_entries(connection, rows.entries)
            for batch in rows.batches:
                write_batch(connection, batch)
            connection.execute("COMMIT")
        except Exception as error:  # in a thread: told to whoever waits, now and later
            with suppress(sqlite3.Error):  # where SQLite has rolled back by itself
                connection.execute("ROLLBACK")
            return error
        with self._mutex:
            for entry in rows.entries:
                queued = self._pending[entry.key]
                queued.pop(0)  # in the order in which they came
                if not queued:
                    del self._pending[entry.key]
        return None


def _tell(calls: Iterable[_Call], failure: ExecutorError | None) -> None:
    """Let the waiting go on, with one wake-up for each of their event loops."""
    waiting: defaultdict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for call in calls:
        waiting[call.written.get_loop()].append(call.written)
    for loop, futures in waiting.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, futures, failure)


def _resolve(futures: Sequence[asyncio.Future[None]], failure: ExecutorError | None) -> None:
    for future in futures:
        if future.done():  # its caller was cancelled
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(ExecutorError(str(failure)))
