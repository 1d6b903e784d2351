"""Reading runs: real MLflow stores and journals, and everything that may be wrong with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from run_world import judged, make_run, solved, store, track

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal import Journal
from aflow_grpo.workbench.lab_book import ServedLabBook, open_lab_book
from aflow_grpo.workbench.runs import read_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with its evaluations, and a test that belongs to it."""
    root = tmp_path_factory.mktemp("runs") / "whole"
    fit = make_run(root)
    test = track(root, verb="test", name="test-seed0", parent=fit,
                 metrics={"test/reward": [(3, 4.5)]})  # fmt: skip
    greedy, sampled = judged(10, 12)
    store(root, test, {("test/greedy", 3): greedy, ("test", 3): sampled}, rank=1)
    return root


def test_everything_of_a_run(whole: Path) -> None:
    run = read_run(whole)
    assert run.tracked is not None
    assert (run.name, run.tracked.name, run.tracked.status) == ("whole", "fit-seed0", "FINISHED")
    assert not run.running and run.tracked.ended_s is not None
    assert run.params["model.grpo.loss.preset"] == "default"
    assert run.metrics["train/reward"] == ((1, -3.0), (2, -2.0), (3, -1.0))
    assert [child.verb for child in run.evaluations] == ["test"]
    assert run.last_metrics("test") == {"test/reward": (3, 4.5)}
    assert run.last_metrics("val")["val/reward"] == (3, 5.0)
    assert [path.name for path in run.journals] == ["journal.db", "journal-rank1.db"]
    first, last = run.evaluations_of("val")
    assert (first.step, last.step, len(last.greedy), len(last.sampled)) == (0, 3, 30, 60)
    (test,) = run.evaluations_of("test")
    assert test.run_id == run.evaluations[0].id and len(test.greedy) == 12
    assert sum(1 for _ in run.rollouts(("train",))) == 30
    assert sum(figures.total.api_calls for figures in run.figures("tier")) == 2


def test_the_last_value_of_a_step_counts(tmp_path: Path) -> None:
    root = tmp_path / "run"
    track(root, metrics={"train/reward": [(2, 1.0), (1, 5.0), (2, 7.0)], "x": [(1, float("nan"))]})
    run = read_run(root)
    assert run.metrics["train/reward"] == ((1, 5.0), (2, 7.0))
    assert str(run.metrics["x"]) == "((1, nan),)"


def test_the_same_as_mlflows_own_client(whole: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{whole / 'mlflow.db'}")
    run = read_run(whole)
    theirs = client.get_run(run.id)
    assert run.tracked is not None
    assert run.params == theirs.data.params and run.tags == theirs.data.tags
    assert (run.tracked.status, run.tracked.name) == (theirs.info.status, theirs.info.run_name)
    assert run.tracked.started_s == theirs.info.start_time / 1000
    for name, points in run.metrics.items():
        assert points == tuple((m.step, m.value) for m in client.get_metric_history(run.id, name))
    assert run.metrics.keys() == theirs.data.metrics.keys()


def test_reading_changes_nothing(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "copy")
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}
    run = read_run(root)
    assert sum(1 for _ in run.rollouts())
    after = {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}
    assert after == before


def test_a_directory_that_has_moved(whole: Path, tmp_path: Path) -> None:
    """Its run.json names the store at the old place."""
    moved = shutil.copytree(whole, tmp_path / "moved")
    (moved / "run.json").write_text(
        (moved / "run.json").read_text().replace(str(whole), "/nowhere/at/all")
    )
    assert read_run(moved).id == read_run(whole).id


def test_by_id_prefix_and_name(whole: Path) -> None:
    test = read_run(whole).evaluations[0].id
    assert read_run(f"{whole}:{test}").id == test
    assert read_run(f"{whole}:{test[:10]}").id == test
    assert read_run(f"{whole}:test-seed0").id == test
    uri = f"sqlite:///{whole / 'mlflow.db'}"
    by_id = read_run(test, tracking_uri=uri)
    assert by_id.id == test and by_id.directory == whole
    assert len(by_id.evaluations_of("test")) == 1


def test_an_unknown_id_names_the_nearest(whole: Path) -> None:
    fit = read_run(whole).id
    wrong = ("0" if fit[0] != "0" else "1") + fit[1:]
    with pytest.raises(ConfigError, match=rf"no such run\. The nearest is {fit} \(fit-seed0\)"):
        read_run(f"{whole}:{wrong}")


def test_a_running_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run = track(root, status="RUNNING", metrics={"train/reward": [(1, 1.0)]})
    journal = Journal(root / "journal.db")  # held open, as the run that writes it does
    store(root, run, {("train", 1): [solved(0)]}, rank=1)
    found = read_run(root)
    journal.close()
    assert found.running and found.tracked is not None and found.tracked.ended_s is None
    assert [s.step for s in found.rollouts()] == [1]


def test_an_empty_run_and_an_empty_store(tmp_path: Path) -> None:
    root = tmp_path / "run"
    track(root)
    run = read_run(root)
    assert run.metrics == {} and run.evaluations_of("val") == [] and list(run.rollouts()) == []
    other = tmp_path / "other"
    track(other)
    with sqlite3.connect(other / "mlflow.db") as database:
        for table in ("metrics", "tags", "params", "runs"):
            database.execute(f"DELETE FROM {table}")
    (other / "run.json").unlink()
    with pytest.raises(ConfigError, match="holds no run, and there is no journal"):
        read_run(other)


def test_without_a_lab_book(tmp_path: Path) -> None:
    """Another logger: the journal calls the run by its verb."""
    store(tmp_path, "fit", {("train", 1): [solved(0)], ("val/greedy", 2): [solved(1)]})
    run = read_run(tmp_path)
    assert run.tracked is None and run.id == "fit" and run.params == {}
    assert [e.step for e in run.evaluations_of("val")] == [2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wholly", r"no such directory.* Did you mean .*/whole\?"),
        ("nothing-like-it", r"no such directory\. Expected that of a run \(its trainer"),
        ("whole/mlflow.db", r"a file\. Expected the directory of a run .*perhaps .*/whole\."),
        ("whole/artifacts-of-old", "no such directory"),
    ],
)
def test_no_such_directory(whole: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_run(whole.parent / name)


def test_a_directory_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds neither a lab book .* nor a journal"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_lab_book(whole: Path, tmp_path: Path, content: bytes) -> None:
    root = shutil.copytree(whole, tmp_path / "copy")
    (root / "mlflow.db").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"mlflow\.db: cannot be read as MLflow's store .*recover"
    ):
        read_run(root)


def test_a_broken_journal(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "copy")
    path = root / "journal.db"
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\xee" * (40960 - 8192)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"journal.*(recover|cannot be read)"):
        list(read_run(root).rollouts())


def test_a_run_json_that_is_none(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "copy")
    (root / "run.json").write_text("[1, 2")
    with pytest.raises(ConfigError, match=r"run\.json: not readable as JSON"):
        read_run(root)
    (root / "run.json").unlink()
    assert read_run(root).evaluations, "the newest fit of its store"


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")  # so that pages go to the disk before the end
for i in range(3000):
    database.execute("INSERT INTO params SELECT ?, ?, run_uuid FROM runs", (f"k{i}", "v" * 200))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_store_whose_writer_was_killed_in_the_middle(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "copy")
    store = root / "mlflow.db"
    process = subprocess.run([sys.executable, "-c", KILLED, str(store)])
    assert process.returncode == -signal.SIGKILL
    assert (root / "mlflow.db-journal").stat().st_size
    before = store.read_bytes()
    assert before != (whole / "mlflow.db").read_bytes()
    assert read_run(root).params == read_run(whole).params
    assert store.read_bytes() == before and (root / "mlflow.db-journal").exists()


# Behind a server


def test_mlflows_client_gives_the_same_record(whole: Path) -> None:
    """What is asked over HTTP, here on the same store."""
    uri = f"sqlite:///{whole / 'mlflow.db'}"
    stored, asked = open_lab_book(uri), ServedLabBook(uri, uri)
    assert {h.id: h for h in asked.heads} == {
        h.id: replace(h, artifacts=asked.find(h.id).artifacts)  # type: ignore[union-attr]
        for h in stored.heads
    }
    fit = read_run(whole).id
    assert asked.metrics(fit) == stored.metrics(fit)
    assert [c.name for c in asked.children(fit)] == ["test-seed0"]


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match=f"http://{address}: MLflow cannot be read there") as told:
        read_run("0123456789abcdef", tracking_uri=f"http://ann:pass9word@{address}")
    assert "pass9word" not in str(told.value)
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_one_servers_password_is_not_sent_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    sent: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for user in ("me:secret@", ""):
            with pytest.raises(ConfigError, match="holds no run"):
                read_run("x", tracking_uri=f"http://{user}127.0.0.1:{server.server_port}")
        server.shutdown()
    assert sent[0] is not None
    assert sent[-1] is None
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
