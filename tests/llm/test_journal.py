"""The journal: on disk before it is used, one writer, equal keys for equal requests only."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import ENTRY, key

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.journal import Entry, Journal, journal_path, journal_paths, request_key
from aflow_grpo.llm.journal_files import billed_by_run, rank_of

FAILED = replace(
    ENTRY, answered=False, reply="", finish_reason="", cost_usd=0.0, fault="HTTP 503: busy"
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "j.db")
    yield journal
    journal.close()


async def write_all(journal: Journal, *entries: Entry) -> None:
    await asyncio.gather(*(journal.write(entry) for entry in entries))


def rows(path: Path, columns: str = "*") -> list[tuple[object, ...]]:
    """What another reader finds in the file now."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {columns} FROM calls ORDER BY rowid").fetchall()


def test_a_row_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    journal = Journal(path)
    asyncio.run(journal.write(ENTRY))
    columns = "hex(key), run, execution, place, attempts, billed_usd, started_s, reply"
    found = rows(path, columns)
    assert found == [
        (key(1).hex().upper(), "r", 7, "3.0", 2, 2.5e-6, 1_700_000_000.25, ENTRY.reply)
    ]
    assert journal.get(key(1)) == ENTRY
    assert journal.get(key(2)) is None
    journal.close()
    reopened = Journal(path)
    assert reopened.get(key(1)) == ENTRY
    assert len(reopened) == 1
    reopened.close()


def test_the_first_answer_of_a_key_is_given_and_no_row_is_lost(journal: Journal) -> None:
    later = replace(ENTRY, reply="other", run="s")
    asyncio.run(write_all(journal, FAILED, ENTRY, later))
    assert journal.get(key(1)) == ENTRY
    assert journal.get(key(1), run="s") == later
    assert journal.get(key(1), run="t") is None
    assert len(journal) == 3


def test_a_failed_attempt_answers_nothing_and_costs_what_it_cost(journal: Journal) -> None:
    asyncio.run(write_all(journal, FAILED, replace(FAILED, key=key(2), billed_usd=1e-6)))
    assert journal.get(key(1)) is None
    assert journal.billed_usd("r") == pytest.approx(3.5e-6)
    assert journal.billed_usd("s") == 0.0
    assert [fault for (fault,) in rows(journal.path, "fault")] == ["HTTP 503: busy"] * 2


def test_another_ranks_journal_answers_what_this_one_cannot(tmp_path: Path) -> None:
    """Also while that rank writes it; its rows stay its own, and so does what it paid."""
    other, mine = Journal(journal_path(tmp_path, 1)), Journal(journal_path(tmp_path))
    mine.consult([other.path])
    assert mine.get(key(1)) is None
    asyncio.run(write_all(other, FAILED, ENTRY))
    assert mine.get(key(1)) == ENTRY
    assert mine.get(key(1), run="r") == ENTRY and mine.get(key(1), run="s") is None
    nearer = replace(ENTRY, reply="mine")
    asyncio.run(mine.write(nearer))
    assert mine.get(key(1)) == nearer
    assert len(mine) == 1 and mine.billed_by_run() == {"r": ENTRY.billed_usd}
    assert billed_by_run(other.path) == {"r": pytest.approx(2 * ENTRY.billed_usd)}
    other.close()
    assert (tmp_path / "journal-rank1.db-wal").stat().st_size == 0, "the file alone is whole"
    mine.close()


def test_a_journal_of_an_older_version_has_billed_nothing_yet(tmp_path: Path) -> None:
    path = journal_path(tmp_path, 2)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE calls (key BLOB, run TEXT)")
        database.execute("PRAGMA user_version=3")
    assert billed_by_run(path) == {} and rank_of(path) == 2


def test_what_a_run_paid_is_known_after_reopening(journal: Journal) -> None:
    entries = [replace(ENTRY, key=key(n), run="ab"[n % 2], billed_usd=n) for n in range(10)]
    asyncio.run(write_all(journal, *entries))
    journal.close()
    again = Journal(journal.path)
    asyncio.run(again.write(replace(ENTRY, run="a", billed_usd=0.5)))
    assert (again.billed_usd("a"), again.billed_usd("b")) == (20.5, 25.0)
    again.close()


def test_a_run_takes_over_the_calls_of_its_preflight(journal: Journal) -> None:
    before, other = replace(ENTRY, run="fit"), replace(ENTRY, run="test", key=key(2))
    asyncio.run(write_all(journal, before, other, replace(ENTRY, key=key(3))))
    journal.adopt("fit", "r")
    assert journal.get(key(1), run="fit") is None
    assert journal.get(key(1), run="r") == replace(before, run="r")
    assert journal.get(key(2), run="r") is None
    assert (journal.billed_usd("r"), journal.billed_usd("fit")) == (5e-6, 0.0)
    journal.adopt("nobody", "r")
    journal._reader.execute("PRAGMA query_only=1")
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.adopt("test", "r")
    assert journal.billed_usd("test") == 2.5e-6


def held(path: Path) -> sqlite3.Connection:
    """Another program that keeps the file locked for writing."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_slow_disk_holds_up_the_caller_and_not_the_event_loop(journal: Journal) -> None:
    async def scenario() -> None:
        other = held(journal.path)
        writing = asyncio.create_task(journal.write(ENTRY))
        for _ in range(1000):
            await asyncio.sleep(0)
            assert journal.get(key(1)) in (None, ENTRY)
        assert not writing.done() and rows(journal.path) == []
        assert journal.get(key(1)) == ENTRY, "known before it is on disk"
        assert journal.get(key(1), run="s") is None
        assert journal.billed_usd("r") == ENTRY.billed_usd
        other.close()
        await writing
        assert len(rows(journal.path)) == 1

    asyncio.run(scenario())


def test_rows_that_gather_share_a_commit_and_a_statement(journal: Journal) -> None:
    statements: list[str] = []
    journal._connection.set_trace_callback(lambda text: statements.append(text.split()[0]))
    entries = [replace(ENTRY, key=key(n), reply=str(n)) for n in range(1000)]

    async def scenario() -> None:
        other = held(journal.path)
        writing = asyncio.gather(*(journal.write(entry) for entry in entries))
        await asyncio.sleep(0)
        other.close()
        await writing

    asyncio.run(scenario())
    # The first takes what is there when the writer wakes up, the second the rest.
    assert statements.count("COMMIT") <= 2
    assert statements.count("INSERT") <= 1000 / 64 + 2
    assert [reply for (reply,) in rows(journal.path, "reply")] == [str(n) for n in range(1000)]


def test_a_cancelled_caller_leaves_its_row(journal: Journal) -> None:
    async def scenario() -> None:
        other = held(journal.path)
        writing = asyncio.create_task(journal.write(ENTRY))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        other.close()
        await journal.write(replace(ENTRY, key=key(2)))

    asyncio.run(scenario())
    assert journal.get(key(1)) == ENTRY
    assert len(rows(journal.path)) == 2


def test_an_event_loop_that_ended_loses_no_row_and_harms_no_later_one(journal: Journal) -> None:
    other = held(journal.path)

    async def leave() -> None:
        asyncio.get_running_loop().create_task(journal.write(ENTRY))
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    other.close()
    asyncio.run(journal.write(replace(ENTRY, key=key(2))))
    assert len(journal) == 2


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.close()
    journal.close()
    with pytest.raises(RuntimeError, match="is closed"):
        asyncio.run(journal.write(ENTRY))


_PARTS = st.text(max_size=8) | st.sampled_from(["\ud83d", "\udc00\ud800", "\x00"])
_ANY_TEXT = st.lists(_PARTS, max_size=4).map("".join)


@settings(max_examples=25, deadline=None)
@given(reply=_ANY_TEXT, finish_reason=_ANY_TEXT, fault=_ANY_TEXT)
def test_what_an_endpoint_said_comes_back_to_the_character(
    tmp_path_factory: pytest.TempPathFactory, reply: str, finish_reason: str, fault: str
) -> None:
    journal = Journal(tmp_path_factory.mktemp("text") / "j.db")
    entry = replace(ENTRY, reply=reply, finish_reason=finish_reason, fault=fault)
    asyncio.run(journal.write(entry))
    assert journal.get(key(1)) == entry
    journal.close()


def test_lone_surrogates_are_kept_in_a_row_of_their_own_type(journal: Journal) -> None:
    entry = replace(ENTRY, reply="half \ud83d of a pair")
    asyncio.run(journal.write(entry))
    assert journal.get(key(1)) == entry
    assert rows(journal.path, "typeof(reply), typeof(fault)") == [("blob", "text")]


def test_a_huge_reply_is_kept_whole(journal: Journal) -> None:
    entry = replace(ENTRY, reply="häh" * 10_000_000)
    asyncio.run(write_all(journal, entry, replace(ENTRY, key=key(2))))
    assert journal.get(key(1)) == entry
    assert journal.get(key(2)) == replace(ENTRY, key=key(2))


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


def test_a_row_that_sqlite_refuses_is_told_to_its_caller(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    with pytest.raises(ExecutorError, match=r"cannot be written.*NOT NULL"):
        asyncio.run(journal.write(replace(ENTRY, model=None)))  # type: ignore[arg-type]
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.flush()
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.close()


def test_every_rank_has_a_file_and_they_are_found_in_order(tmp_path: Path) -> None:
    assert journal_path(tmp_path) == tmp_path / "journal.db"
    expected = [journal_path(tmp_path, rank) for rank in (0, 1, 2, 10)]
    assert expected[-1] == tmp_path / "journal-rank10.db"
    for path in reversed(expected):
        Journal(path).close()
    for name in ("journal.db-wal", "journal-rank0.db", "journal-old.db", "my-journal.db"):
        (tmp_path / name).touch()
    assert journal_paths(tmp_path) == expected
    assert journal_paths(tmp_path / "nowhere") == []


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
