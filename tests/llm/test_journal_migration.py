"""Journals of older versions, made by the SQL of their time: migrated where they are."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from journal_world import ENTRY, key

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal import Entry, Journal
from aflow_grpo.llm.rollout_store import RolloutBatch, RolloutRow, RolloutStore

_CALLS = """CREATE TABLE IF NOT EXISTS calls (
    key BLOB PRIMARY KEY, model TEXT NOT NULL, tier TEXT NOT NULL, reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL, created REAL NOT NULL{}) WITHOUT ROWID"""
_FINISH = ",\n    finish_reason TEXT NOT NULL DEFAULT ''"
_ROLLOUTS = (
    "CREATE TABLE problems (hash BLOB PRIMARY KEY, content BLOB NOT NULL)",
    "CREATE TABLE settings (hash BLOB PRIMARY KEY, content TEXT NOT NULL)",
    """CREATE TABLE rollouts (
    run TEXT NOT NULL, part TEXT NOT NULL, step INTEGER NOT NULL, "group" INTEGER NOT NULL,
    problem_id TEXT NOT NULL, member INTEGER NOT NULL, problem BLOB NOT NULL,
    settings BLOB NOT NULL, content BLOB NOT NULL,
    UNIQUE (run, part, step, "group", problem_id, member))""",
)
ROW = RolloutRow(1, 0, "sample/1", 0, b"p", b"c")
REPLIES = {2: "second", 1: "Grüße \x00 😀"}


def old_journal(path: Path, version: int) -> Path:
    """A journal as version `version` of the program left it, with two calls."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(_CALLS.format("" if version == 1 else _FINISH))
        for statement in _ROLLOUTS if version == 3 else ():
            database.execute(statement)
        for number, reply in REPLIES.items():
            values = [key(number), "gpt-4o-mini", "main", reply, 12, 3, 1.5e-6, 100.5 + number]
            values += [] if version == 1 else ["stop"]
            marks = ", ".join("?" * len(values))
            database.execute(f"INSERT INTO calls VALUES ({marks})", values)
        if version == 3:
            database.execute("INSERT INTO problems VALUES (x'00', x'70')")
            database.execute("INSERT INTO settings VALUES (x'00', '{}')")
            database.execute(
                "INSERT INTO rollouts VALUES "
                "('r', 'train', 1, 0, 'sample/1', 0, x'00', x'00', x'63')"
            )
        database.execute(f"PRAGMA user_version={version}")
        database.commit()
    return path


def schema(path: Path) -> list[tuple[object, ...]]:
    """Every table, index and column of a file, and its version."""
    with closing(sqlite3.connect(path)) as database:
        names = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY name"
        tables = database.execute(names).fetchall()
        columns = [
            (name, *column)
            for kind, name, _ in tables
            if kind == "table"
            for column in database.execute(f"PRAGMA table_info({name})")
        ]
        return [*tables, *columns, database.execute("PRAGMA user_version").fetchone()]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_journal_is_migrated_where_it_is(tmp_path: Path, version: int) -> None:
    path = old_journal(tmp_path / "j.db", version)
    Journal(tmp_path / "new.db").close()
    for opened in range(2):
        journal = Journal(path)
        assert len(journal) == 2 + opened
        for number, reply in REPLIES.items():
            assert journal.get(key(number)) == Entry(
                key=key(number), run="", execution=0, place="", operator="", model="gpt-4o-mini",
                tier="main", attempts=1, answered=True, reply=reply,
                finish_reason="" if version == 1 else "stop", prompt_tokens=12,
                completion_tokens=3, cached_tokens=0, cost_usd=1.5e-6, billed_usd=0.0,
                started_s=100.5 + number, seconds=0.0,
            )  # fmt: skip
        assert (journal.get(key(1), run="r") is None) == (not opened), "nobody knows which run"
        asyncio.run(journal.write(ENTRY))
        assert journal.get(key(1), run="r") == ENTRY
        journal.close()
    assert schema(path) == schema(tmp_path / "new.db")
    with closing(sqlite3.connect(path)) as database:
        started = database.execute("SELECT started_s FROM calls ORDER BY rowid LIMIT 2").fetchall()
    assert started == [(101.5,), (102.5,)], "in the order in which they were made"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_rollouts_of_older_journals(tmp_path: Path, version: int) -> None:
    path = old_journal(tmp_path / "j.db", version)
    if version < 3:
        with pytest.raises(ConfigError, match=f"schema version {version}, which holds no rollouts"):
            RolloutStore(path)
    else:
        with RolloutStore(path) as store:
            assert store.parts() == [("r", "train", "{}", 1)], "read before it is migrated"
    journal = Journal(path)
    journal.put_rollouts(RolloutBatch("r", "train", "{}", [ROW]))
    journal.close()
    with RolloutStore(path) as store:
        assert list(store.rows("r", "train", "{}")) == [ROW]


def test_a_migration_that_is_interrupted_leaves_the_old_file(tmp_path: Path) -> None:
    path = old_journal(tmp_path / "j.db", 3)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE calls_of_version_3 (in_the_way INTEGER)")
    before = schema(path)
    with pytest.raises(ConfigError, match="not a journal of this version"):
        Journal(path)
    assert schema(path) == before
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE calls_of_version_3")
    Journal(path).close()


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("dear diary " * 500)
    with pytest.raises(ConfigError, match="not a journal"):
        Journal(text)
    assert text.read_text() == "dear diary " * 500
    other = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    with pytest.raises(ConfigError, match="not a journal of this version"):
        Journal(other)


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    Journal(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=5")
    with pytest.raises(ConfigError, match="schema version 5, not 4"):
        Journal(path)
    with pytest.raises(ConfigError, match="schema version 5, not 4"):
        RolloutStore(path)
