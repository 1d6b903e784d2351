"""Kills at any moment and disks that refuse: what was acknowledged is in the file."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from journal_world import ENTRY, key

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.journal import Journal

KILLS = 15
_WRITER = """
import asyncio, itertools, os, resource, sys
from dataclasses import replace
from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.journal import Journal
from journal_world import ENTRY, key

async def main(path, first, limit):
    journal = Journal(path)
    numbers = itertools.count(first)
    async def caller():
        for number in numbers:
            reply = "x" * (number * 7919 % 3000 if number % 4 else 100_000)
            await journal.write(replace(ENTRY, key=key(number), reply=reply, billed_usd=1.0))
            os.write(1, number.to_bytes(8, "big"))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    await asyncio.gather(*(caller() for _ in range(8)))

try:
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
except ExecutorError as error:
    sys.exit(str(error))
"""


def writer(path: Path, first: int, limit: int = 0) -> subprocess.Popen[bytes]:
    """A process that writes rows and tells the number of each as soon as it is acknowledged."""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-c", _WRITER, str(path), str(first), str(limit)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment)


def acknowledged(told: bytes) -> set[int]:
    """The numbers that were told, whole ones only."""
    whole = range(0, len(told) - len(told) % 8, 8)
    return {int.from_bytes(told[at : at + 8], "big") for at in whole}


def stored_keys(path: Path) -> set[bytes]:
    """Read as it was left, with its write-ahead log, before a writer tidies up."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        return {found for (found,) in database.execute("SELECT key FROM calls")}


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    draw = random.Random(6)
    acks: set[int] = set()
    for round_ in range(KILLS):
        with writer(path, round_ * 10**6) as process:
            assert process.stdout is not None
            wanted = draw.choice([1, draw.randrange(10), draw.randrange(100)])
            told = process.stdout.read(8 * wanted)
            for _ in range(draw.choice([0, draw.randrange(20_000)])):  # between two replies
                pass
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read()
        assert len(told) // 8 >= wanted
        acks |= acknowledged(told)
        found = stored_keys(path)
        assert all(key(number) in found for number in acks)
    journal = Journal(path)
    assert journal.billed_usd("r") == len(journal) >= len(acks)
    asyncio.run(journal.write(ENTRY))
    journal.close()
    assert stored_keys(path) > {key(number) for number in acks}


def test_a_full_disk_is_told_and_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with writer(path, 0, limit=6_000_000) as process:
        told, error = process.communicate(timeout=60)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    assert process.returncode == 1
    assert b"cannot be written" in error and str(path).encode() in error
    acks = acknowledged(told)
    assert len(acks) > 50
    assert {key(number) for number in acks} <= stored_keys(path)
    journal = Journal(path)
    asyncio.run(journal.write(ENTRY))
    journal.close()


def test_rows_that_a_full_disk_refused_are_written_when_there_is_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    asyncio.run(journal.write(ENTRY))
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    big = replace(ENTRY, key=key(2), reply="x" * 100_000)
    with pytest.raises(ExecutorError, match=r"cannot be written \(database or disk is full\)"):
        asyncio.run(journal.write(big))
    with pytest.raises(ExecutorError, match="Free some disk space"):
        asyncio.run(journal.write(replace(ENTRY, key=key(3))))
    with pytest.raises(ExecutorError, match="then resume the run"):
        journal.flush()
    assert journal.get(key(2)) == big, "it was paid for"
    journal._connection.execute("PRAGMA max_page_count=1000000")
    asyncio.run(journal.write(replace(ENTRY, key=key(4))))
    journal.flush()
    assert len(journal) == 4
    journal.close()
    assert stored_keys(journal.path) == {key(number) for number in (1, 2, 3, 4)}
