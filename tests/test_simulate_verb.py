"""`aflow-grpo simulate` as a process of its own, asked by the real openai client."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from aflow_grpo.data.jsonl import read_problems, write_problems

PATIENCE_S = 30.0
INTERRUPTED, TERMINATED = 130, 143
LIGHT = """
import os, sys
def refuse(event, arguments):
    if event == "import" and arguments[0] in ("torch", "openai", "mlflow", "lightning"):
        os._exit(98)
sys.addaudithook(refuse)
from aflow_grpo.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    greeting: str

    @property
    def base_url(self) -> str:
        found = re.search(r"^base_url: (\S+)$", self.greeting, re.MULTILINE)
        assert found is not None
        return found[1]

    @property
    def curl(self) -> str:
        return self.greeting.splitlines()[-1]

    def ended_by(self, number: int) -> tuple[int, str]:
        """Exit code after a signal, and what was said on standard error."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, told


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", LIGHT, "simulate", *arguments]


@contextmanager
def simulate(*arguments: str) -> Iterator[Running]:
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("curl ")):
            line = process.stdout.readline()
            assert line, f"it ended with code {process.wait()} after {lines}"
            lines.append(line.rstrip("\n"))
        try:
            yield Running(process, "\n".join(lines))
        finally:
            process.kill()


def refused(*arguments: str, data: str = "") -> str:
    """What it says when it does not start."""
    environment = {k: v for k, v in os.environ.items() if k != "AFLOW_GRPO_DATA"}
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment | ({"AFLOW_GRPO_DATA": data} if data else {}),
    )
    assert done.returncode == 2 and not done.stdout
    return done.stderr


def chat(base_url: str, text: str, key: str = "x") -> str:
    with openai.OpenAI(api_key=key, base_url=base_url, max_retries=0) as client:
        reply = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], seed=1
        )
        return reply.choices[0].message.content or ""


def test_it_serves_the_shipped_sample_and_ctrl_c_ends_it() -> None:
    with simulate() as running:
        assert running.greeting.startswith("simulating on 1,200 problems (math 480, code 360, qa")
        assert "models: simulated/gpt-4o-mini, gpt-4o-mini, gpt-4o-mini-2024-07-18" in (
            running.greeting.splitlines()
        )
        assert "boxed" in chat(running.base_url, "What is 1/6 of 48?")
        code, told = running.ended_by(signal.SIGINT)
    assert (code, told) == (INTERRUPTED, "\naflow-grpo simulate: interrupted.\n")


def test_sigterm_ends_it_within_its_grace_though_a_request_hangs() -> None:
    with simulate("--simulator.faults.rate_hang", "1") as running:
        host, port = running.base_url.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
            )
            with openai.OpenAI(api_key="x", base_url=running.base_url) as client:
                assert len(list(client.models.list())) == 3  # so the other one has arrived
            code, told = running.ended_by(signal.SIGTERM)
    assert (code, told) == (TERMINATED, "\naflow-grpo simulate: terminated.\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_line_for_curl_works_as_it_stands() -> None:
    with simulate("--data", "sample", "--split", "val") as running:
        words = [*shlex.split(running.curl), "--silent", "--noproxy", "*"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_files_ports_keys_and_faults_can_be_chosen(tmp_path: Path) -> None:
    sample = read_problems(Path("data/sample/val.jsonl"))[:5]
    write_problems(tmp_path / "mine.jsonl", sample)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--simulator.api_key=secret", "--simulator.faults.rate_500=1"]
    with simulate("--data", str(tmp_path / "mine.jsonl"), *options) as running:
        assert running.base_url == f"http://127.0.0.1:{port}/v1"
        assert "simulating on 5 problems" in running.greeting
        assert "secret" not in running.greeting and "Bearer KEY" in running.curl
        with pytest.raises(openai.AuthenticationError):
            chat(running.base_url, "hi", key="wrong")
        with pytest.raises(openai.InternalServerError):
            chat(running.base_url, "hi", key="secret")
        told = refused("--port", str(port))
    assert told == (
        f"aflow-grpo simulate: port {port} on 127.0.0.1: Address already in use. Give another "
        "one, or 0 for one that is free.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--simulator.faults.rate_429", "1.1"], "--simulator.faults.rate_429=1.1: expected"),
        (["--simulator.visibility", "3"], "--simulator.visibility=3.0: expected 0 to 2"),
        (["--data", "gsm8"], "did you mean gsm8k?"),
        (["--data", "gsm8k"], "--data gsm8k: AFLOW_GRPO_DATA is not set"),
        (["--data", "nothere.jsonl"], "'nothere.jsonl': no such file"),
        (["--port", "70000"], "port 70000 on 127.0.0.1: "),
        (["--split", "half"], "split"),
    ],
)
def test_what_is_wrong_is_said(arguments: Sequence[str], told: str) -> None:
    assert told in refused(*arguments)


def test_a_benchmark_in_the_folder_of_data_is_known_by_its_name(tmp_path: Path) -> None:
    row = {"question": "Ann has 3 pens and buys 4. How many has she now?", "answer": "7\n#### 7"}
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text(json.dumps(row) + "\n")
    missing = refused("--data", "gsm8k", "--split", "test", data=str(tmp_path))
    assert f"--data gsm8k --split test: {tmp_path} holds no such file" in missing
    command_line = command("--data", "gsm8k", "--split", "train")
    with subprocess.Popen(
        command_line,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"AFLOW_GRPO_DATA": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("simulating on 1 problem (math 1)")
        process.kill()
