"""Benchmarks from the hub: the real client, against a server that imitates the routes it uses."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from aflow_grpo.data.jsonl import read_problems

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(ThreadingHTTPServer):
    """Data sets with their files; `refuse` answers everything with that status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.files: dict[str, dict[str, bytes]] = {}
        self.refuse = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Routes(BaseHTTPRequestHandler):
    server: _Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if self.server.refuse:
            return self._send(self.server.refuse, b'{"error": "no"}')
        for repo, files in self.server.files.items():
            if path.startswith(f"/api/datasets/{repo}/tree/"):
                return self._send(
                    200, json.dumps([_entry(*item) for item in files.items()]).encode()
                )
            if path.startswith(f"/api/datasets/{repo}"):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repo, "sha": _COMMIT, "siblings": siblings}
                return self._send(200, json.dumps(info).encode())
            start = f"/datasets/{repo}/resolve/{_COMMIT}/"
            if path.startswith(start) and path.removeprefix(start) in files:
                return self._send(200, files[path.removeprefix(start)])
        return self._send(404, b'{"error": "Repository not found"}', "RepoNotFound")

    def _send(self, status: int, body: bytes, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _entry(name: str, content: bytes) -> Mapping[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}


@pytest.fixture
def hub() -> Iterator[_Hub]:
    server = _Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def _data(
    hub_url: str, home: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """`aflow-grpo data …` with the hub there, and a cache of its own."""
    left_out = ("HF_HUB_OFFLINE", "AFLOW_GRPO_DATA", "HF_TOKEN")
    environ = {name: value for name, value in os.environ.items() if name not in left_out}
    environ |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    command = [sys.executable, "-m", "aflow_grpo", "data", *arguments]
    return subprocess.run(
        command, env=environ, cwd=home.parent, capture_output=True, text=True, check=False
    )


def _gsm8k(first: int, count: int) -> bytes:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return _parquet([
        {
            "question": " ".join(f"{names[int(d)]}{names[int(d)]}" for d in f"{n:05d}") + "?",
            "answer": f"#### {n}",
        }
        for n in range(first, first + count)
    ])  # fmt: skip


def test_a_benchmark_from_the_hub(hub: _Hub, tmp_path: Path) -> None:
    train = _gsm8k(0, 50)
    hub.files["openai/gsm8k"] = {
        "README.md": b"# GSM8K",
        "main/test-00000-of-00001.parquet": _gsm8k(48, 10),
        "main/train-00000-of-00001.parquet": train,
        "socratic/train-00000-of-00001.parquet": b"not asked for",
    }
    arguments = ("prepare", "openai/gsm8k", "--source", "hub", "--threshold", "1", "--output_dir")
    done = _data(hub.url, tmp_path / "home", *arguments, "out")
    assert done.returncode == 0, done.stderr
    target = tmp_path / "out/gsm8k"
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["origin"] == {
        "kind": "hub", "repository": "openai/gsm8k", "config": "main", "commit": _COMMIT
    }  # fmt: skip
    assert manifest["inputs"][0]["sha256"] == hashlib.sha256(train).hexdigest()
    assert manifest["counts"]["rows"] == 50
    # Problems 48 and 49 are in the official test set too.
    removed = {leak["problem"] for leak in manifest["leaks"]["removed"]}
    assert removed >= {"gsm8k/train/48", "gsm8k/train/49"}
    assert len(read_problems(target / "val.jsonl")) == 5
    assert not any("socratic" in path for path in hub.asked)
    # What the client has in its cache is not fetched again, and gives the same bytes.
    asked = len([path for path in hub.asked if "resolve" in path])
    again = _data(hub.url, tmp_path / "home", *arguments, "again")
    assert again.returncode == 0, again.stderr
    for path in target.iterdir():
        assert path.read_bytes() == (tmp_path / "again/gsm8k" / path.name).read_bytes()
    assert len([path for path in hub.asked if "resolve" in path]) <= 2 * asked


def test_subjects_in_several_files_keep_their_rows_apart(hub: _Hub, tmp_path: Path) -> None:
    def subject(name: str) -> bytes:
        return _parquet([
            {"problem": f"{name} {'abcdefghij'[n] * 5} {name}", "level": "Level 5",
             "type": name, "solution": f"\\boxed{{{n}}}"}
            for n in range(10)
        ])  # fmt: skip

    hub.files["EleutherAI/hendrycks_math"] = {
        f"{name}/{split}-00000-of-00001.parquet": subject(f"{name} {split}")
        for name in ("algebra", "geometry")
        for split in ("train", "test")
    }
    done = _data(hub.url, tmp_path / "home", "prepare", "math", "--source", "hub")
    assert done.returncode == 0, done.stderr
    found = [
        problem.id
        for split in ("train", "val", "test")
        for problem in read_problems(tmp_path / f"data/prepared/math/{split}.jsonl")
    ]
    assert len(set(found)) == 20
    assert "math/train/geometry-train-00000-of-00001/9" in found


def test_offline_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = _data("http://127.0.0.1:9", tmp_path / "home", "prepare", "drop", "--source", "hub")
    assert done.returncode == 2
    assert "ucinlp/drop: the hub cannot be reached" in done.stderr
    assert "give --source DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_users_own_offline_setting_wins(hub: _Hub, tmp_path: Path) -> None:
    arguments = ("prepare", "gsm8k", "--source", "hub")
    done = _data(hub.url, tmp_path / "home", *arguments, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set: unset it" in done.stderr
    assert hub.asked == []


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_said(hub: _Hub, tmp_path: Path, status: int) -> None:
    hub.refuse = status
    done = _data(hub.url, tmp_path / "home", "prepare", "mbpp", "--source", "hub")
    assert done.returncode == 2
    assert "google-research-datasets/mbpp: the hub answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_files_than_expected(hub: _Hub, tmp_path: Path) -> None:
    hub.files["openai/gsm8k"] = {"main/rows.csv": b"a,b"}
    done = _data(hub.url, tmp_path / "home", "prepare", "gsm8k", "--source", "hub")
    assert done.returncode == 2
    assert "found no file main/train-*.parquet on the hub (it has main/rows.csv)" in done.stderr
