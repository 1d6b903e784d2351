"""A run's directory: one process at a time, writable or explained, and what it remembers."""

import errno
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.run_directory import RunDirectory, read_run_id, storage_trouble

HOLDER = """
import sys
from pathlib import Path
from aflow_grpo.training.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def hold(root: Path) -> "subprocess.Popen[str]":
    """A process that is inside `root` until it is told to go."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "inside\n"
    return process


def test_a_second_process_is_told_who_is_there_and_changes_nothing(tmp_path: Path) -> None:
    """And a process that is killed leaves nothing that would keep the next one out."""
    root = tmp_path / "run"
    holder = hold(root)
    try:
        before = sorted((path.name, path.read_bytes()) for path in root.iterdir())
        with pytest.raises(ConfigError) as caught:
            RunDirectory(root).__enter__()
        said = str(caught.value)
        assert said.startswith(f"trainer.default_root_dir={root}: process {holder.pid} on ")
        assert "give another --trainer.default_root_dir" in said and len(said.splitlines()) == 1
        assert sorted((path.name, path.read_bytes()) for path in root.iterdir()) == before
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with RunDirectory(root):
            assert f"process {os.getpid()} on " in (root / "run.lock").read_text()
    finally:
        holder.kill()
        holder.communicate()


def _try(root: Path) -> None:
    try:
        RunDirectory(root).__enter__()
    except ConfigError:
        os._exit(7)
    os._exit(0)


def test_a_forked_child_holds_nothing_and_the_way_is_free_afterwards(tmp_path: Path) -> None:
    """The lock is this process's: a child that it forks is another one, in and out of it."""
    context = multiprocessing.get_context("fork")
    codes = []
    with RunDirectory(tmp_path):
        child = context.Process(target=_try, args=(tmp_path,))
        child.start()
        child.join()
        codes.append(child.exitcode)
    child = context.Process(target=_try, args=(tmp_path,))
    child.start()
    child.join()
    assert [*codes, child.exitcode] == [7, 0]


def test_a_directory_is_made_with_its_parents_and_nothing_but_the_lock_is_left(
    tmp_path: Path,
) -> None:
    root = tmp_path / "a" / "b" / "c"
    with RunDirectory(root) as directory:
        assert not directory.can_restart and directory.run_id is None
    assert [path.name for path in root.iterdir()] == ["run.lock"]


@pytest.mark.parametrize("place", ["{tmp}/file/run", "{tmp}/file", "/proc/run"])
def test_a_place_that_cannot_be_written_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    root = Path(place.format(tmp=tmp_path))
    if place.startswith("/proc") and not root.parent.is_dir():
        pytest.skip("there is no /proc here")
    with pytest.raises(ConfigError) as caught:
        RunDirectory(root).__enter__()
    said = str(caught.value)
    assert said.startswith(f"trainer.default_root_dir={root}: cannot be written (")
    assert "e.g. --trainer.default_root_dir runs/NAME" in said
    assert (tmp_path / "file").read_text() == "in the way"


# Memory


def test_a_run_is_announced_before_it_is_made_and_the_mark_survives_a_kill(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path)
    mark = first.announce_run()
    assert RunDirectory(tmp_path).announce_run() == mark, "as after a kill"
    assert first.can_restart and first.was_announced and first.run_id is None
    first.belongs_to("run-1", "sqlite:///x")
    assert (first.was_announced, first.run_id) == (False, "run-1")
    assert first.announce_run() != mark, "another run"
    assert first.run_id == read_run_id(tmp_path) == "run-1", "until the other one is made"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_only_a_run_without_a_checkpoint_can_restart(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.belongs_to("run-1", "sqlite:///x")
    assert directory.can_restart
    directory.last_checkpoint.parent.mkdir()
    directory.last_checkpoint.write_bytes(b"weights")
    assert not directory.can_restart


def test_a_checkpoint_that_is_set_aside_overwrites_none(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.set_checkpoint_aside() is None
    directory.belongs_to("0123456789abcdef", "sqlite:///x")
    directory.last_checkpoint.parent.mkdir()
    kept = []
    for number in range(3):
        directory.last_checkpoint.write_text(str(number))
        path = directory.set_checkpoint_aside()
        assert path is not None and not directory.last_checkpoint.exists()
        kept.append((path.name, path.read_text()))
    names = ["last-01234567.ckpt", "last-01234567-2.ckpt", "last-01234567-3.ckpt"]
    assert kept == list(zip(names, "012", strict=True))


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"'])
def test_a_memory_that_is_not_ours_is_not_guessed_at(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json: not readable as JSON.*remove it"):
        read_run_id(tmp_path)


# Storage


def chained(outer: Exception, inner: Exception) -> Exception:
    """`outer`, raised because of `inner`."""
    outer.__cause__ = inner
    return outer


FULL = OSError(errno.ENOSPC, "No space left on device", "/x/last.ckpt")
TROUBLE = [
    (FULL, "/x/last.ckpt: No space left on device"),
    (OSError(errno.EFBIG, "File too large"), "a file: File too large"),
    (chained(RuntimeError("torch"), chained(ValueError(), FULL)), "/x/last.ckpt: No space left"),
    (sqlite3.OperationalError("database or disk is full"), "a database: database or disk is full"),
    (FileNotFoundError(errno.ENOENT, "No such file"), None),
    (sqlite3.OperationalError("no such table: x"), None),
    (ValueError("disk is full"), None),
]


@pytest.mark.parametrize(("error", "said"), TROUBLE, ids=lambda value: repr(value)[:40])
def test_only_the_storages_own_trouble_is_called_so(error: Exception, said: str | None) -> None:
    found = storage_trouble(error)
    assert found == said if said is None else found is not None and found.startswith(said)


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert storage_trouble(first) is None


def test_the_memory_is_json_that_others_can_read(tmp_path: Path) -> None:
    RunDirectory(tmp_path).belongs_to("run-1", "sqlite:///x")
    memory = json.loads((tmp_path / "run.json").read_text())
    assert memory == {"mlflow_run_id": "run-1", "tracking_uri": "sqlite:///x"}
