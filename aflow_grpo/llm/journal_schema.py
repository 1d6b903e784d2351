"""What a journal holds: the table of the calls, and how older files become newer ones.

docs/journal.md describes every table and column for whoever reads the file. Not here: who may
write it and when (`journal`), where it lies (`journal_files`), the rollouts (`rollout_store`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from aflow_grpo.llm.rollout_store import ROLLOUT_SCHEMA

__all__ = [
    "SCHEMA_VERSION",
    "SELECT_ENTRY",
    "SELECT_ENTRY_OF_RUN",
    "Entry",
    "entry_of",
    "insert_entries",
    "make_tables",
    "stored_text",
]

SCHEMA_VERSION = 4
_CALLS = """CREATE TABLE calls (
    key BLOB NOT NULL, run TEXT NOT NULL, execution INTEGER NOT NULL, place TEXT NOT NULL,
    operator TEXT NOT NULL, model TEXT NOT NULL, tier TEXT NOT NULL, attempts INTEGER NOT NULL,
    answered INTEGER NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL,
    billed_usd REAL NOT NULL, started_s REAL NOT NULL, seconds REAL NOT NULL,
    fault TEXT NOT NULL, reply TEXT NOT NULL)"""
"""The longest column is the last, so that sums over the others need not read it."""
_CALLS_BY_KEY = "CREATE INDEX calls_by_key ON calls (key)"
_MIGRATIONS = {
    1: ("ALTER TABLE calls ADD COLUMN finish_reason TEXT NOT NULL DEFAULT ''",),
    2: ROLLOUT_SCHEMA,
    3: (
        "ALTER TABLE calls RENAME TO calls_of_version_3",
        _CALLS,
        """INSERT INTO calls SELECT key, '', 0, '', '', model, tier, 1, 1, finish_reason,
            prompt_tokens, completion_tokens, 0, cost_usd, 0.0, created, 0.0, '', reply
            FROM calls_of_version_3 ORDER BY created""",
        "DROP TABLE calls_of_version_3",
        _CALLS_BY_KEY,
    ),
}
"""Version -> what makes a file of it one of the next version."""
_COLUMNS = (
    "key, run, execution, place, operator, model, tier, attempts, answered, reply, finish_reason,"
    "prompt_tokens, completion_tokens, cached_tokens, cost_usd, billed_usd, started_s, seconds,"
    "fault"
)
_ANSWERS = f"SELECT {_COLUMNS} FROM calls WHERE key = ? AND answered = 1"
SELECT_ENTRY = f"{_ANSWERS} ORDER BY rowid LIMIT 1"
SELECT_ENTRY_OF_RUN = f"{_ANSWERS} AND run = ? ORDER BY rowid LIMIT 1"
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Entry:
    """What one tier made of one call: a row of the table `calls`."""

    key: bytes
    """SHA-256 of the request; see `journal.request_key`."""
    run: str
    """The MLflow run, or the verb where there is none; empty in rows of older versions."""
    execution: int
    """Which execution of a workflow asked."""
    place: str
    """Number of the operator call in the execution, a point, number of the call inside it."""
    operator: str
    """The operator that asked."""
    model: str
    tier: str
    attempts: int
    """HTTP attempts in this tier."""
    answered: bool
    """False when the tier gave no reply."""
    reply: str
    """Empty when there is none."""
    finish_reason: str
    """Why the reply ended, as the endpoint said; empty when it did not."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Those of the prompt that the endpoint took from its cache."""
    cost_usd: float
    """List cost of the answer."""
    billed_usd: float
    """What was really paid, failed attempts included."""
    started_s: float
    """Unix time."""
    seconds: float
    """From the first attempt to the reply, waiting between attempts included."""
    fault: str = ""
    """Why there is no reply; empty when there is one."""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file, or those of an older one into today's; all or nothing.

    Raises:
        sqlite3.Error: The file is no journal, or of a later version.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version not in _MIGRATIONS and (version or tables):
        raise sqlite3.DatabaseError(f"schema version {version}, not {SCHEMA_VERSION}")
    steps: list[Sequence[str]] = [(_CALLS, _CALLS_BY_KEY), ROLLOUT_SCHEMA]
    if version:
        steps = [_MIGRATIONS[v] for v in range(version, SCHEMA_VERSION)]
    connection.execute("BEGIN IMMEDIATE")
    for step in steps:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def insert_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Append rows, inside the caller's transaction."""
    for first in range(0, len(entries), _ROWS_AT_ONCE):
        part = entries[first : first + _ROWS_AT_ONCE]
        connection.execute(_insert(len(part)), [value for e in part for value in _row(e)])


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry of a row of `SELECT_ENTRY`."""
    values = dict(zip((f.name for f in fields(Entry)), row, strict=True))
    for name in ("reply", "finish_reason", "fault"):
        values[name] = stored_text(values[name])
    return Entry(**{**values, "answered": bool(values["answered"])})


def stored_text(value: str | bytes) -> str:
    """A text column's value; bytes where the text holds lone surrogates."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


@cache
def _insert(rows: int) -> str:
    # One statement for many rows: a statement gives up the interpreter's lock, and where the event
    # loop is busy the writer waits for it each time.
    marks = ", ".join(["(" + ", ".join("?" * len(fields(Entry))) + ")"] * rows)
    return f"INSERT INTO calls ({_COLUMNS}) VALUES {marks}"


def _row(entry: Entry) -> list[Any]:
    values = dict(vars(entry))
    for name in ("reply", "finish_reason", "fault"):
        values[name] = _sqlite_text(values[name])
    return list(values.values())


def _sqlite_text(text: str) -> str | bytes:
    """What an endpoint said, as SQLite takes it: lone surrogates only in bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text
