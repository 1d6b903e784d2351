"""What a run has to tell its lab book: a file that outlasts the process, sent by a thread.

Everything is on the disk before `put` returns, so training never waits for a store, and nothing is
lost when the store is away, or when the process is killed: whoever opens the same folder next sends
the rest. Records are sent in their order. A store that does not answer is asked again and again,
with one warning when it goes and one line when it is back. A record that it refuses is dropped,
since what comes after it must get through.

Not here: what a record means and how it is sent (`sending`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from aflow_grpo.training.tracking_address import plain_reason

__all__ = ["FILE", "METRICS", "STORE_FILE", "Outbox", "Record"]

Record = Mapping[str, Any]
METRICS = "metrics"
"""The kind of record that is sent together with others of its kind."""
FILE = "file"
"""Key of a record's own file, a path on this machine while it is being sent."""
STORE_FILE = "store.txt"
"""Says in the folder where its records belong."""
_RECORDS = "records.jsonl"
_AT_ONCE = 1000
"""Most metrics of one request, as MLflow has it."""
_LONGEST_PAUSE_S = 15.0
_LAST_TRIES = 3
"""Failures after which a thread that is to end gives up; it pauses between them."""
_LOG = logging.getLogger(__name__)


class Outbox:
    """The unsent records of one run.

    Args:
        folder: Where they lie; its owner's alone, and gone when all is sent and it is closed.
        send: Sends records to the store; raises when it could not. May be given again what it has
            sent before.
        is_refusal: Whether an exception of `send` means that trying again is in vain.
        store: The store's address as a person may see it.
    """

    def __init__(
        self,
        folder: Path,
        send: Callable[[Sequence[Record]], None],
        is_refusal: Callable[[Exception], bool],
        store: str,
    ) -> None:
        self.folder = folder
        self._send = send
        self._is_refusal = is_refusal
        self._store = store
        self._changed = threading.Condition()
        self._file: IO[bytes] | None = None
        self._sent_bytes = 0
        self._waiting = 0
        self._files = 0
        self._thread: threading.Thread | None = None
        self._closing = False
        self._away_since: float | None = None
        self._told = False
        self._refused: set[str] = set()

    @property
    def waiting(self) -> int:
        """Records that have not been sent."""
        return self._waiting

    @property
    def store_is_away(self) -> bool:
        """Whether the last attempt failed."""
        return self._away_since is not None

    def put(self, record: Record, content: bytes | Path | None = None) -> None:
        """Keep a record on the disk; it is sent as soon as the store takes it.

        Args:
            record: With a ``kind``; JSON values.
            content: A file that belongs to it, called ``record["name"]``; a path is moved.

        Raises:
            OSError: The disk does not take it.
        """
        with self._changed:
            file = self._opened()
            if content is not None:
                record = {**record, FILE: self._keep(record["name"], content)}
            _append(file, json.dumps(record).encode() + b"\n")
            self._waiting += 1
            self._start()
            self._changed.notify_all()

    def send_what_is_left(self) -> int:
        """Take up what an earlier process left in the folder; how many records that is.

        None where another process, or another part of this one, is at it.
        """
        with self._changed:
            try:
                self._opened()
            except BlockingIOError:
                return 0
            if self._waiting:
                self._start()
            return self._waiting

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is sent; False after `timeout_s`, or when the store is away."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self.store_is_away, timeout_s)
            return not self._waiting

    def close(self, patience_s: float, total_s: float | None = None) -> int:
        """Send what is left and end the thread; how many records had to stay.

        Args:
            patience_s: Longest wait for one request.
            total_s: Longest wait in all; None waits for as long as records get through.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            until = None if total_s is None else time.monotonic() + total_s
            while self._thread is not None and self._moves(patience_s, until):
                pass
            left = self._waiting
            if self._thread is None:
                self._shut()
            return left

    # With the lock held

    def _moves(self, patience_s: float, until: float | None) -> bool:
        """Wait for a record to get through, or for the thread's end; False when it takes long."""
        wait_s = patience_s if until is None else min(patience_s, until - time.monotonic())
        before = self._waiting
        return wait_s > 0 and self._changed.wait_for(
            lambda: self._thread is None or self._waiting != before, wait_s
        )

    def _shut(self) -> None:
        """Let go of the folder, so that whoever opens it next may send what is left."""
        if self._file is not None:
            if not self._waiting:
                self._tidy()
            self._file.close()
            self._file, self._sent_bytes = None, 0

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / STORE_FILE).write_text(self._store)
            # Unbuffered: what a full disk did not take must not be written later all the same.
            file = (self.folder / _RECORDS).open("a+b", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise
            self._file = file
            file.seek(0)
            content = file.read()
            # A kill may have cut the last line; it was never promised.
            file.truncate(content.rfind(b"\n") + 1)
            self._waiting = content.count(b"\n")
            numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdigit()]
            self._files = max(numbers, default=0)
        return self._file

    def _keep(self, name: str, content: bytes | Path) -> str:
        """The file in a folder of its own, so that it can keep its name."""
        self._files += 1
        path = self.folder / str(self._files) / name
        path.parent.mkdir()
        if isinstance(content, Path):
            shutil.move(content, path)
        else:
            path.write_bytes(content)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return f"{self._files}/{name}"

    def _start(self) -> None:
        self._closing = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="lab book", daemon=True)
            self._thread.start()

    def _tidy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs have something there
            self.folder.parent.rmdir()

    # In the thread

    def _work(self) -> None:
        failures = last_tries = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return self._leave()
                lines = self._next()
            try:
                self._deliver([self._located(line) for line in lines])
            except Exception as error:  # a store's client raises whatever its library does
                failures += 1
                with self._changed:
                    self._note_absence(error, tell=failures > 1)
                    self._changed.notify_all()
                    if self._closing:
                        # A store that is only busy has a few tries; one that is away, no more.
                        last_tries += 1
                        if last_tries > _LAST_TRIES:
                            return self._leave()
                        self._changed.wait(0.5 * last_tries)
                    else:
                        pause_s = min(_LONGEST_PAUSE_S, 0.5 * 2**failures)
                        self._changed.wait_for(lambda: self._closing, pause_s)
            else:
                failures = 0
                self._done(lines)

    def _leave(self) -> None:
        self._thread = None
        if self._closing:
            self._shut()  # `close` may have given up waiting
        self._changed.notify_all()

    def _next(self) -> list[bytes]:
        """The next record's line; or several, of metrics, for one request."""
        lines: list[bytes] = []
        total = 0
        with (self.folder / _RECORDS).open("rb") as file:
            file.seek(self._sent_bytes)
            for line in file:
                record = _parse(line)
                together = record.get("kind") == METRICS
                total += len(record.get("values", ()))
                if lines and (not together or total > _AT_ONCE):
                    break
                lines.append(line)
                if not together:
                    break
        return lines

    def _located(self, line: bytes) -> Record:
        record = _parse(line)
        if FILE in record:
            return {**record, FILE: str(self.folder / record[FILE])}
        return record

    def _deliver(self, records: Sequence[Record]) -> None:
        """Send them; one that is refused must not take others with it."""
        try:
            self._send([record for record in records if record])
        except Exception as error:
            if not self._is_refusal(error):
                raise
            if len(records) > 1:
                for record in records:
                    self._deliver([record])
                return
            kind = str(records[0].get("kind"))
            if kind not in self._refused:
                self._refused.add(kind)
                _LOG.warning(
                    "MLflow at %s refuses %s of this run: %s. They are left out, and so are "
                    "others like it; the run goes on.",
                    self._store, _KINDS.get(kind, kind), plain_reason(error),
                )  # fmt: skip

    def _done(self, lines: Sequence[bytes]) -> None:
        with self._changed:
            for line in lines:
                if FILE in (record := _parse(line)):
                    shutil.rmtree((self.folder / record[FILE]).parent, ignore_errors=True)
            self._sent_bytes += sum(map(len, lines))
            self._waiting -= len(lines)
            self._note_presence()
            if not self._waiting and self._file is not None:
                self._file.truncate(0)
                self._sent_bytes = 0
            self._changed.notify_all()

    def _note_absence(self, error: Exception, *, tell: bool) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
        if tell and not self._told:
            self._told = True
            _LOG.warning(
                "MLflow at %s does not answer (%s). The run goes on; what it logs is kept in %s "
                "and sent when MLflow is back.",
                self._store, plain_reason(error), self.folder,
            )  # fmt: skip

    def _note_presence(self) -> None:
        if self._away_since is not None and self._told:
            _LOG.warning(
                "MLflow at %s answers again, after %.0f s; %s records are being sent.",
                self._store, time.monotonic() - self._away_since, f"{self._waiting:,}",
            )  # fmt: skip
        self._away_since, self._told = None, False


def _append(file: IO[bytes], line: bytes) -> None:
    """The whole line, or nothing of it: half of one would be joined by the next."""
    before = os.fstat(file.fileno()).st_size
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except BaseException:
        file.truncate(before)
        raise


_KINDS = {
    METRICS: "metrics",
    "params": "parameters",
    "tags": "tags",
    "artifact": "an artifact",
    "end": "the end",
}


def _parse(line: bytes) -> Record:
    """A record; empty where a power cut has left something else."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
