"""The journal's rollouts: durable, replaced by key, read beside a writer."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from journal_world import ENTRY

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.rollout_store import RolloutBatch, RolloutRow, RolloutStore


def row(step: int, member: int, content: bytes = b"c", problem: bytes = b"p") -> RolloutRow:
    return RolloutRow(step, 0, "sample/1 'Grüße' \x00", member, problem, content)


def batch(*rows: RolloutRow, run: str = "r", part: str = "train", text: str = "{}") -> RolloutBatch:
    return RolloutBatch(run, part, text, rows)


def rows(path: Path, run: str = "r", part: str = "train", text: str = "{}") -> list[RolloutRow]:
    with RolloutStore(path) as store:
        return list(store.rows(run, part, text))


def test_rollouts_come_back_by_step_and_member(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.put_rollouts(batch(row(2, 1), row(2, 0)))
    journal.put_rollouts(batch(row(1, 0, b"\x00\xff")))
    journal.close()
    expected = [row(1, 0, b"\x00\xff"), row(2, 0), row(2, 1)]
    assert rows(tmp_path / "j.db") == expected


def test_the_same_key_again_replaces_the_row_and_a_problem_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.put_rollouts(batch(row(1, 0, b"old"), row(1, 1, b"stays")))
    journal.flush()
    journal.put_rollouts(batch(row(1, 0, b"new"), text='{"other": 1}'))
    journal.close()
    assert rows(path) == [row(1, 1, b"stays")]
    assert rows(path, text='{"other": 1}') == [row(1, 0, b"new")]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM problems").fetchone() == (1,)


def test_runs_and_parts_are_kept_apart_and_listed_in_order(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.put_rollouts(batch(row(1, 0), run="zz"))
    journal.put_rollouts(batch(row(1, 0), row(1, 1), run="aa"))
    journal.put_rollouts(batch(row(0, 0), run="aa", part="val/greedy"))
    journal.flush()
    with RolloutStore(path) as store:  # beside the writer
        assert store.parts() == [
            ("zz", "train", "{}", 1), ("aa", "train", "{}", 2), ("aa", "val/greedy", "{}", 1),
        ]  # fmt: skip
    journal.close()


def test_a_reader_cannot_write_and_leaves_a_finished_journal_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.put_rollouts(batch(row(1, 0)))
    journal.close()
    content = path.read_bytes()
    with (
        RolloutStore(path) as store,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        store._connection.execute("DELETE FROM rollouts")
    assert path.read_bytes() == content
    Journal(path).close()


_WRITER = """
import sys
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.rollout_store import RolloutBatch, RolloutRow
journal = Journal(sys.argv[1])
step = 0
while True:
    step += 1
    rows = [RolloutRow(step, 0, "p", member, b"p", b"x" * 3000) for member in range(8)]
    journal.put_rollouts(RolloutBatch("r", "train", "{}", rows))
    journal.flush()
    print(step, flush=True)
"""


def test_kill_9_in_the_middle_of_writing_leaves_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        flushed = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    # Read as it was left, with its write-ahead log, before a writer tidies up.
    members: dict[int, list[int]] = {}
    for found in rows(path):
        members.setdefault(found.step, []).append(found.member)
    assert len(members) >= flushed == 20
    assert all(found == list(range(8)) for found in members.values())
    journal = Journal(path)
    journal.put_rollouts(batch(row(10**6, 0)))
    journal.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_failed_write_is_raised_to_the_caller_and_loses_no_earlier_row(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.put_rollouts(batch(row(1, 0)))
    journal.flush()
    journal.put_rollouts(batch(row(2, 0), row(2, 1, None)))  # type: ignore[arg-type]
    with pytest.raises(ExecutorError, match=r"cannot be written.*NOT NULL"):
        journal.flush()
    with pytest.raises(ExecutorError, match="cannot be written"):
        journal.put_rollouts(batch(row(3, 0)))
    with pytest.raises(ExecutorError):
        journal.close()
    assert rows(path) == [row(1, 0)]


def test_calls_and_rollouts_share_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.put_rollouts(batch(row(1, 0)))
    asyncio.run(journal.write(ENTRY))
    assert len(journal) == 1
    journal.close()
    assert rows(tmp_path / "j.db") == [row(1, 0)]
