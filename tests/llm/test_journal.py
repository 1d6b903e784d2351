"""The journal: durable, honest about who holds it, and equal keys for equal requests only."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.journal import Entry, Journal, request_key

ENTRY = Entry("gpt-4o-mini", "main", "Grüße \x00 😀", 12, 3, 1.5e-6)


def key(number: int) -> bytes:
    return request_key({"number": number})


def test_a_reply_is_found_at_once_and_after_reopening(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.db", linger_s=5)
    journal.put(key(1), ENTRY)
    assert journal.get(key(1)) == ENTRY
    assert journal.get(key(2)) is None
    journal.close()
    reopened = Journal(tmp_path / "new" / "journal.db")
    assert reopened.get(key(1)) == ENTRY
    assert len(reopened) == 1
    reopened.close()


def test_the_first_reply_of_a_key_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.put(key(1), ENTRY)
    journal.flush()
    journal.put(key(1), Entry("m", "t", "other", 1, 1, 1.0))
    journal.flush()
    assert journal.get(key(1)) == ENTRY
    journal.close()
    journal.close()


_WRITER = """
import sys
from aflow_grpo.llm.journal import Entry, Journal, request_key
journal = Journal(sys.argv[1], linger_s=0.001)
number = 0
while True:
    for _ in range(20):
        journal.put(request_key({"number": number}), Entry("m", "t", "x" * 500, 1, 1, 0.1))
        number += 1
    journal.flush()
    print(number, flush=True)
"""


def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        flushed = [int(writer.stdout.readline()) for _ in range(15)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    journal = Journal(path)
    assert flushed == 300
    assert all(journal.get(key(number)) is not None for number in range(flushed))
    journal.put(key(10**9), ENTRY)
    journal.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_second_writer_is_refused_in_this_and_another_process(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    with pytest.raises(ConfigError, match="open for writing in another run"):
        Journal(path)
    code = f"from aflow_grpo.llm.journal import Journal; Journal({str(path)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode == 1
    assert "ConfigError" in other.stderr and str(path) in other.stderr
    journal.close()
    Journal(path).close()


def test_a_symlink_to_an_open_journal_is_the_same_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    (tmp_path / "alias.db").symlink_to(tmp_path / "j.db")
    with pytest.raises(ConfigError, match="open for writing"):
        Journal(tmp_path / "alias.db")
    journal.close()


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("dear diary " * 500)
    with pytest.raises(ConfigError, match="not a journal"):
        Journal(text)
    assert text.read_text() == "dear diary " * 500
    other = tmp_path / "mlflow.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE runs (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match="not a journal of this version"):
        Journal(other)


def test_a_failed_write_is_raised_to_the_caller(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", linger_s=0)
    journal.put(key(1), Entry("m", "t", None, 1, 1, 0.1))  # type: ignore[arg-type]
    with pytest.raises(ExecutorError, match=r"cannot be written.*NOT NULL"):
        journal.flush()
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.put(key(2), ENTRY)
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.close()


_VERSION_1 = """CREATE TABLE IF NOT EXISTS calls (
    key BLOB PRIMARY KEY, model TEXT NOT NULL, tier TEXT NOT NULL, reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL, created REAL NOT NULL) WITHOUT ROWID"""


def test_a_journal_of_version_1_is_migrated_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(_VERSION_1)
    row = (key(1), "gpt-4o-mini", "main", "Grüße \x00 😀", 12, 3, 1.5e-6, 1_700_000_000.5)
    connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("PRAGMA user_version=1")
    connection.commit()
    connection.close()
    cut = replace(ENTRY, finish_reason="length")
    for _ in range(2):
        journal = Journal(path)
        assert journal.get(key(1)) == ENTRY, "nobody knows how it ended"
        journal.put(key(2), cut)
        assert journal.get(key(2)) == cut
        journal.flush()
        assert journal.get(key(2)) == cut
        assert len(journal) == 2
        journal.close()
    new = tmp_path / "new.db"
    Journal(new).close()
    assert _columns(path) == _columns(new)


def _columns(path: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    columns = connection.execute("PRAGMA table_info(calls)").fetchall()
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()
    return columns


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=4")
    connection.close()
    with pytest.raises(ConfigError, match="schema version 4, not 3"):
        Journal(path)


def test_equal_requests_of_two_scopes_have_two_keys() -> None:
    body = {"model": "m"}
    keys = {request_key(body), request_key(body, "one world"), request_key(body, "another")}
    assert len(keys) == 3
    # What journals on disk were written with.
    expected = hashlib.sha256(b"one world" + request_key(body)).digest()
    assert request_key(body, "one world") == expected


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_a_key_depends_on_content_and_not_on_order(body: dict[str, int | str]) -> None:
    turned = dict(reversed(list(body.items())))
    assert request_key(body) == request_key(turned)
    assert request_key(body) != request_key({**body, "one more": 1})
