"""The journal's rollouts: which tables hold them, how they are written and how they are read.

A rollout is two byte strings here, its problem (stored once per content) and everything else. Its
key says where it belongs: run, part, step, group, problem, member. The same key again replaces the
row, so a resumed run that repeats an iteration leaves the rows of an uninterrupted one. Each batch
names the settings that its rewards were computed under, stored once per content too.

Not here: what the bytes mean (`stored`), and who may write the file (`journal`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import merge
from pathlib import Path

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal_files import open_to_read

__all__ = [
    "ROLLOUT_SCHEMA",
    "RolloutBatch",
    "RolloutRow",
    "RolloutStore",
    "unique_rows",
    "write_batch",
]

ROLLOUT_SCHEMA = (
    "CREATE TABLE problems (hash BLOB PRIMARY KEY, content BLOB NOT NULL)",
    "CREATE TABLE settings (hash BLOB PRIMARY KEY, content TEXT NOT NULL)",
    """CREATE TABLE rollouts (
    run TEXT NOT NULL, part TEXT NOT NULL, step INTEGER NOT NULL, "group" INTEGER NOT NULL,
    problem_id TEXT NOT NULL, member INTEGER NOT NULL, problem BLOB NOT NULL,
    settings BLOB NOT NULL, content BLOB NOT NULL,
    UNIQUE (run, part, step, "group", problem_id, member))""",
)
"""What makes a journal of version 2 one of version 3."""
_VERSIONS = (3, 4)
"""Of the journal: these hold the tables as they are here."""
_SHARED = "INSERT INTO {} VALUES (?, ?) ON CONFLICT(hash) DO NOTHING"
_INSERT = "INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = """SELECT r.step, r."group", r.problem_id, r.member, p.content, r.content
    FROM rollouts r JOIN problems p ON p.hash = r.problem
    WHERE r.run = ? AND r.part = ? AND r.settings = ?
    ORDER BY r.step, r."group", r.problem_id, r.member"""


@dataclass(frozen=True)
class RolloutRow:
    """One rollout as bytes, and where it belongs within its batch's run and part."""

    step: int
    """The step under which its metrics are logged."""
    group: int
    problem_id: str
    member: int
    problem: bytes
    """The problem and the prompt's token ids."""
    content: bytes
    """Everything else."""


@dataclass(frozen=True)
class RolloutBatch:
    """Rollouts that arrived together."""

    run: str
    """The MLflow run, or the verb where there is none."""
    part: str
    """E.g. ``train``, ``val``, ``val/greedy``, ``val/quick``."""
    settings: str
    """The settings that they were scored and rewarded under, as JSON."""
    rows: Sequence[RolloutRow]


def write_batch(connection: sqlite3.Connection, batch: RolloutBatch) -> None:
    """Insert or replace the rows of `batch`, inside the caller's transaction."""
    settings = _hash(batch.settings.encode())
    problems = {row.problem: _hash(row.problem) for row in batch.rows}
    connection.execute(_SHARED.format("settings"), (settings, batch.settings))
    connection.executemany(
        _SHARED.format("problems"), [(digest, text) for text, digest in problems.items()]
    )
    connection.executemany(
        _INSERT,
        [
            (
                *(batch.run, batch.part, row.step, row.group, row.problem_id, row.member),
                *(problems[row.problem], settings, row.content),
            )
            for row in batch.rows
        ],
    )


class RolloutStore:
    """The rollouts of a journal, for reading only; a run may be writing it meanwhile.

    A context manager.

    Args:
        path: The journal file.

    Raises:
        ConfigError: There is none, it is of a version without rollouts, or no journal at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_to_read(path)
        try:
            self._check_version()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> RolloutStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def parts(self) -> list[tuple[str, str, str, int]]:
        """(run, part, settings as JSON, rollouts), in the order in which the runs began.

        A part whose settings changed when its run was resumed comes once for each of them.
        """
        rows = self._connection.execute(
            """SELECT r.run, r.part, s.content, count(*) FROM rollouts r
            JOIN settings s ON s.hash = r.settings
            GROUP BY r.run, r.part, r.settings
            ORDER BY (SELECT min(f.rowid) FROM rollouts f WHERE f.run = r.run), r.part, min(r.step)
            """
        )
        return [(str(run), str(part), str(content), int(n)) for run, part, content, n in rows]

    def rows(self, run: str, part: str, settings: str) -> Iterator[RolloutRow]:
        """The rollouts of one entry of `parts`, by step, group, problem and member."""
        key = (run, part, _hash(settings.encode()))
        with closing(self._connection.execute(_SELECT, key)) as cursor:
            for row in cursor:
                yield RolloutRow(*row)

    def _check_version(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version < _VERSIONS[0]:
            raise ConfigError(
                f"{self.path}: schema version {version}, which holds no rollouts (expected "
                f"{_VERSIONS[0]} or later). Rollouts are stored from this version of the program "
                "on; the journal is migrated when the run is resumed."
            )
        if version > _VERSIONS[-1]:
            raise ConfigError(
                f"{self.path}: schema version {version}, not {_VERSIONS[-1]}. Read it with the "
                "version of the program that wrote it."
            )


def unique_rows(stores_rows: Iterable[Iterator[RolloutRow]]) -> Iterator[RolloutRow]:
    """The rows of several ranks' stores, each in its order, in the order that one would have.

    A rollout is in two of them when a run was resumed on another number of ranks and repeated its
    step: they are equal then, and the first is taken.
    """
    last = None
    for row in merge(*stores_rows, key=_place):
        if _place(row) != last:
            yield row
        last = _place(row)


def _place(row: RolloutRow) -> tuple[int, int, str, int]:
    return row.step, row.group, row.problem_id, row.member


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]
