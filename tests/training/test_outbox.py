"""The file of what is unsent: stores that go and come back, refuse, hang; processes that die."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.training.outbox import FILE, Outbox, Record

WAIT_S = 30.0


class Store:
    """Keeps what it is sent; may be away, and may refuse."""

    def __init__(self) -> None:
        self.away = False
        self.refused: set[int] = set()
        self.got: list[Any] = []
        self.requests: list[int] = []
        self.files: dict[str, bytes] = {}

    def __call__(self, records: Sequence[Record]) -> None:
        if self.away:
            raise ConnectionError("http://me:secret@host/ is not there")
        if any(record["n"] in self.refused for record in records):
            raise ValueError("it says no")
        self.requests.append(len(records))
        for record in records:
            self.got.append(record["n"])
            if FILE in record:
                self.files[record["name"]] = Path(record[FILE]).read_bytes()


def is_refusal(error: Exception) -> bool:
    return isinstance(error, ValueError)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def box(tmp_path: Path, store: Store) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "unsent" / "run.1", store, is_refusal, "the store")
    yield box
    box.close(WAIT_S)


def note(n: int, kind: str = "note", **more: Any) -> Record:
    return {"kind": kind, "n": n, **more}


def test_records_arrive_in_their_order_and_leave_nothing_behind(
    tmp_path: Path, store: Store, box: Outbox
) -> None:
    others = set(threading.enumerate())
    for n in range(50):
        box.put(note(n))
    assert box.flush(WAIT_S)
    assert store.got == list(range(50))
    assert box.close(WAIT_S) == 0
    assert list(tmp_path.iterdir()) == []
    assert [t for t in threading.enumerate() if t not in others] == []


def test_a_record_is_on_the_disk_before_it_is_sent(store: Store, box: Outbox) -> None:
    store.away = True
    box.put(note(1))
    box.put(note(2, name="text.txt"), b"content")
    lines = (box.folder / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2]
    assert (box.folder / json.loads(lines[1])[FILE]).read_bytes() == b"content"


def test_a_store_that_comes_back_gets_everything_and_is_announced_once(
    store: Store, box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    for n in range(3):
        box.put(note(n, name=f"{n}.txt"), str(n).encode())
    assert not box.flush(WAIT_S), "it is away, and waiting would be in vain"
    wait_for(lambda: len(caplog.messages) == 1)
    store.away = False
    box.put(note(3))
    wait_for(lambda: box.waiting == 0)
    assert store.got == [0, 1, 2, 3]
    assert store.files == {"0.txt": b"0", "1.txt": b"1", "2.txt": b"2"}
    assert not list(box.folder.glob("[0-9]*")), "files that were sent are removed"
    gone, back = caplog.messages
    assert "the store does not answer" in gone and "goes on" in gone and "secret" not in gone
    assert "answers again" in back


def test_one_failure_is_no_outage(
    store: Store, box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    box.put(note(1))
    assert not box.flush(WAIT_S)
    store.away = False
    wait_for(lambda: box.waiting == 0)
    assert caplog.messages == []


def test_what_is_refused_is_left_out_and_the_rest_gets_through(
    store: Store, box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics travel together, and one that is refused must not take the others with it."""
    store.away = True
    store.refused = {2, 4}
    for n in range(6):
        box.put(note(n, kind="metrics", values={"reward": 1.0}))
    assert not box.flush(WAIT_S)
    store.away = False
    wait_for(lambda: box.waiting == 0)
    assert store.got == [0, 1, 3, 5]
    assert [m for m in caplog.messages if "refuses metrics" in m] != []
    assert len([m for m in caplog.messages if "refuses" in m]) == 1, "told once, not each time"


def test_waiting_metrics_share_requests_up_to_mlflows_limit(store: Store, box: Outbox) -> None:
    store.away = True
    values = {f"m{k}": 1.0 for k in range(300)}
    for n in range(7):
        box.put(note(n, kind="metrics", values=values))
    box.put(note(7, kind="tags", values={}))
    assert not box.flush(WAIT_S)
    store.away = False
    wait_for(lambda: box.waiting == 0)
    assert store.got == list(range(8))
    assert store.requests == [3, 3, 1, 1], "at most 1,000 metrics; a tag goes by itself"


def test_a_store_that_hangs_delays_the_end_by_no_more_than_is_granted(tmp_path: Path) -> None:
    released, asked = threading.Event(), threading.Event()

    def hang(records: Sequence[Record]) -> None:
        asked.set()
        released.wait(WAIT_S)

    box = Outbox(tmp_path / "unsent" / "run.1", hang, is_refusal, "the store")
    box.put(note(1))
    assert asked.wait(WAIT_S)
    assert box.close(patience_s=WAIT_S, total_s=0.05) == 1
    assert (box.folder / "records.jsonl").exists(), "it is kept for the next process"
    released.set()
    wait_for(lambda: box.waiting == 0)
    assert box.close(WAIT_S) == 0


def test_it_can_be_used_again_after_it_was_closed(store: Store, box: Outbox) -> None:
    box.put(note(1))
    assert box.close(WAIT_S) == 0
    box.put(note(2))
    assert box.close(WAIT_S) == 0
    assert store.got == [1, 2]


# Processes that die


def killed_while_away(folder: Path, ready: Any) -> None:
    store = Store()
    store.away = True
    box = Outbox(folder, store, is_refusal, "the store")
    for n in range(20):
        box.put(note(n, name=f"{n}.txt"), str(n).encode())
    ready.set()
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_sent_by_the_next(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "unsent" / "run.1"
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=killed_while_away, args=(folder, ready))
    process.start()
    process.join(WAIT_S)
    assert ready.is_set() and process.exitcode == -signal.SIGKILL
    box = Outbox(folder, store, is_refusal, "the store")
    assert box.send_what_is_left() == 20
    assert box.close(WAIT_S) == 0
    assert store.got == list(range(20)) and len(store.files) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_kill_cut_short_is_dropped_and_the_rest_is_sent(
    tmp_path: Path, store: Store
) -> None:
    folder = tmp_path / "unsent" / "run.1"
    folder.mkdir(parents=True)
    whole = "".join(json.dumps(note(n)) + "\n" for n in (1, 2))
    (folder / "records.jsonl").write_text(whole + '{"kind": "note", "n"')
    box = Outbox(folder, store, is_refusal, "the store")
    assert box.send_what_is_left() == 2
    box.put(note(3))
    assert box.close(WAIT_S) == 0
    assert store.got == [1, 2, 3]


def test_a_line_of_nonsense_is_passed_over(tmp_path: Path, store: Store) -> None:
    """What a power cut may leave."""
    folder = tmp_path / "unsent" / "run.1"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_bytes(b"\0\0\0\n" + json.dumps(note(2)).encode() + b"\n")
    box = Outbox(folder, store, is_refusal, "the store")
    assert box.send_what_is_left() == 2
    assert box.close(WAIT_S) == 0
    assert store.got == [2]


def test_a_box_in_use_is_not_emptied_by_another(tmp_path: Path, store: Store, box: Outbox) -> None:
    store.away = True
    box.put(note(1))
    other = Outbox(box.folder, Store(), is_refusal, "the store")
    assert other.send_what_is_left() == 0
    assert other.close(WAIT_S) == 0
    assert box.folder.exists()
    store.away = False
    wait_for(lambda: box.waiting == 0)
    assert store.got == [1]


def wait_for(met: Any) -> None:
    """Until it is so; the thread polls by itself, with growing pauses."""
    pause = threading.Event()
    for _ in range(600):
        if met():
            return
        pause.wait(0.05)
    raise AssertionError("not in 30 s")


def test_a_record_that_a_full_disk_did_not_take_is_not_kept_in_part(
    store: Store, box: Outbox
) -> None:
    store.away = True
    box.put(note(1))
    held = (box.folder / "records.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (held + 5, hard))  # Python ignores its signal
    try:
        with pytest.raises(OSError, match="too large"):
            box.put(note(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    box.put(note(3))
    store.away = False
    assert box.close(WAIT_S) == 0
    assert store.got == [1, 3]
    assert not box.folder.exists()


def test_who_gave_up_waiting_lets_go_of_the_folder_when_the_store_lets_go(tmp_path: Path) -> None:
    answer = threading.Event()

    def hang(_: Sequence[Record]) -> None:
        answer.wait(WAIT_S)
        raise ConnectionError

    box = Outbox(tmp_path / "run.1", hang, is_refusal, "the store")
    others = {*threading.enumerate()}
    box.put(note(1))
    (thread,) = {*threading.enumerate()} - others
    assert box.close(0.05) == 1
    answer.set()
    thread.join(WAIT_S)
    store = Store()
    after = Outbox(tmp_path / "run.1", store, is_refusal, "the store")
    assert after.send_what_is_left() == 1
    assert after.close(WAIT_S) == 0
    assert store.got == [1]
