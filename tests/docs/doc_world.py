"""A temporary checkout for each page, in which its blocks run; what cannot run is checked.

The folder has what a reader has after the first command of the README: configs, data, and a
finished run in `runs/quickstart`, short as it is here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from doc_blocks import ROOT, Block
from doc_commands import FEW, PROGRAMS, PYTHON, STANDS_FOR
from doc_zygote import free_port

from aflow_grpo.data.sources import DataSource, read_source
from aflow_grpo.records import DOMAINS
from aflow_grpo.workbench.executor_settings import nested
from aflow_grpo.workbench.experiments.plan import Experiment, read_experiment
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.validate import is_valid, validate

__all__ = ["Failed", "World", "Zygote"]

HERE = Path(__file__).resolve().parent
SHIMS = ("aflow-grpo", "mlflow", "nox", "overlay", "pip", *PROGRAMS)
"""Programs of the pages; `overlay FILE` gives a YAML file to the parser of `fit`."""
LINKED = ("configs", "docs", "experiments", "noxfile.py", "pyproject.toml", "README.md", "tests")
SECRETS = ("AFLOW_GRPO_DATA", "OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONPATH")
LIMIT_S = 300
"""For one block, on a machine that is busy."""


class Failed(AssertionError):
    """A block that does not do what the page says."""


class Zygote:
    """`doc_zygote` in a process of its own; one for all pages of a test process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder / "zygote")
        home = folder / "home"
        home.mkdir()
        self.environment = {k: v for k, v in os.environ.items() if k not in SECRETS} | {
            "DOC_ZYGOTE": self.address,
            "HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }
        for part, first in FEW.items():
            rows = (ROOT / "data" / "sample" / f"{part}.jsonl").read_text().splitlines()
            rows.sort(key=lambda row: first not in row)
            few = [next(r for r in rows if json.loads(r)["domain"] == d) for d in DOMAINS]
            (folder / f"few-{part}.jsonl").write_text("\n".join(few) + "\n")
        self._log = (folder / "zygote.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "doc_zygote.py"), self.address],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise Failed((folder / "zygote.log").read_text())
        self.shims = folder / "bin"
        self.shims.mkdir()
        for name in SHIMS:
            self._shim(name)

    def _shim(self, name: str) -> None:
        path = self.shims / name
        client = f"{sys.executable} -I -S {HERE / 'doc_shim.py'}"
        path.write_text(f'#!/bin/sh\nexec {client} {name} "$@"\n')
        path.chmod(0o755)

    def close(self) -> None:
        """End it, and whatever it still has running."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


class World:
    """One page's checkout.

    Args:
        zygote: What runs the commands.
        folder: Empty.
        run: The run of the first command; None where it is to be made.
        blocks: The page's blocks; their ports are replaced by free ones.
        fresh: The page begins with that command. Otherwise `runs/quickstart` is there.
    """

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        run: Path | None,
        blocks: Sequence[Block],
        *,
        fresh: bool = False,
    ) -> None:
        self._zygote, self.folder = zygote, folder
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "data" / "sample", folder / "data" / "sample")
        (folder / "data" / "tiny-policy").symlink_to(ROOT / "data" / "tiny-policy")
        if run is not None and not fresh:
            shutil.copytree(run, folder / "runs" / "quickstart")
        if run is not None and any("runs/other" in block.text for block in blocks):
            shutil.copytree(run, folder / "runs" / "other")
        self._servers = folder / ".servers"
        found = {port for b in blocks for port in re.findall(r"--port[ =](\d+)", b.text)}
        self._ports = {port: str(free_port()) for port in sorted(found)}
        self._notebook: Notebook | None = None
        path = f"{zygote.shims}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = zygote.environment | {"PATH": path, "DOC_SERVERS": str(self._servers)}
        if run is not None:
            self._environment["DOC_FIRST_RUN"] = str(run)

    def run(self, block: Block) -> None:
        """Do with a block what a reader would do.

        Raises:
            Failed: It does not work.
        """
        text = self._rewired(block.text)
        for name, one in STANDS_FOR.items():
            text = text.replace(name, one)
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        try:
            self._kinds[block.language](self, block, text)
        except Exception as failure:
            raise Failed(f"{block.where} ({block.language}):\n{block.text}\n{failure}") from None

    def _rewired(self, text: str) -> str:
        """With free ports for those of the page, which another page has, too."""
        for port, free in self._ports.items():
            text = re.sub(rf"(--port[ =]|localhost:|127\.0\.0\.1:){port}\b", rf"\g<1>{free}", text)
        return text

    def _bash(self, block: Block, text: str) -> None:
        # A file, not a pipe: a server that goes on would keep a pipe open.
        with (self.folder / ".said").open("w+") as said:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | str = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = f"killed after {process.wait() and LIMIT_S} s"
            said.seek(0)
            if code != 0:
                raise Failed(f"exit code {code}\n{said.read()[-4000:]}")

    def _python(self, block: Block, text: str) -> None:
        for long, short in PYTHON.items():
            text = text.replace(long, short)
        if self._notebook is None:
            environment = self._environment | {"DOC_NOTEBOOK": "1"}
            self._notebook = Notebook(self._zygote.address, self.folder, environment)
        self._notebook.run(text, block.where)

    def _yaml(self, block: Block, text: str) -> None:
        if block.file is not None and Path(block.file).name == "experiment.yaml":
            self._experiment(block, read_experiment(self.folder / block.file))
            return
        path = self.folder / ".overlay.yaml"
        path.write_text(text, encoding="utf-8")
        self._bash(block, f"overlay {path.name}")

    def _experiment(self, block: Block, experiment: Experiment) -> None:
        """Every arm's settings on every set, whole and short."""
        path = self.folder / ".overlay.yaml"
        for version in (experiment, experiment.shortened()):
            replicate = version.replicates_in("development")[0]
            for arm in version.arms:
                for told in version.judged_in("development").values():
                    settings = replicate.fill({**version.settings, **arm.settings, **told})
                    path.write_text(json.dumps(nested(settings)), encoding="utf-8")
                    files = (*version.configs, *arm.configs, path.name)
                    self._bash(block, f"overlay {' --config '.join(files)}")

    def _json(self, block: Block, text: str) -> None:
        lines = text.strip().splitlines()
        try:
            values = [json.loads(text)]
        except ValueError:
            try:
                values = [json.loads(line) for line in lines]
            except ValueError as error:
                raise Failed(f"neither JSON nor JSON lines: {error}") from None
        for value in values:
            if isinstance(value, dict) and "graph_code" in value:
                _check_workflow(text)
            if isinstance(value, dict) and {"id", "dataset", "domain", "question"} <= value.keys():
                self._check_row(value)

    def _check_row(self, row: dict[str, Any]) -> None:
        path = self.folder / ".row.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        (problem,) = read_source(DataSource("jsonl", path=str(path))).problems
        assert problem.id == row["id"]

    def _sql(self, block: Block, text: str) -> None:
        import sqlite3

        path = self.folder / "runs" / "quickstart" / "journal.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            if not database.execute(text).fetchall():
                raise Failed("no rows")

    def _text(self, block: Block, text: str) -> None:
        """What a command printed: with its own numbers, so that there is nothing to compare."""

    _kinds: ClassVar = {
        "bash": _bash,
        "python": _python,
        "yaml": _yaml,
        "json": _json,
        "sql": _sql,
        "text": _text,
        "mermaid": _text,
    }

    def close(self) -> None:
        """Stop what the page has started."""
        if self._notebook is not None:
            self._notebook.close()
        if self._servers.exists():
            for pid in self._servers.read_text().split():
                with suppress(ProcessLookupError):
                    os.killpg(int(pid), signal.SIGTERM)


class Notebook:
    """The Python blocks of a page, one after the other in one process."""

    def __init__(self, address: str, folder: Path, environment: dict[str, str]) -> None:
        self._said = (folder / ".said-python").open("w+")
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(address)
        call = {"words": [], "environment": environment, "directory": str(folder)}
        body = json.dumps(call).encode()
        streams = [0, self._said.fileno(), self._said.fileno()]
        socket.send_fds(self._line, [len(body).to_bytes(8, "big")], streams)
        self._line.sendall(body)
        self._line.settimeout(LIMIT_S)
        self._answers = self._line.makefile("r", encoding="utf-8")
        self.pid = int(self._answers.readline())

    def run(self, code: str, where: str) -> None:
        """Run a block.

        Raises:
            Failed: It raises.
        """
        self._line.sendall(json.dumps({"code": code, "where": where}).encode() + b"\n")
        answer = self._answers.readline()
        trouble = json.loads(answer)["trouble"] if answer.startswith("{") else f"died: {answer}"
        if trouble:
            self._said.seek(0)
            raise Failed(f"{trouble}\n{self._said.read()[-2000:]}")

    def close(self) -> None:
        """End the process."""
        self._line.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            self._answers.read()
        self._answers.close()
        self._line.close()
        self._said.close()


def _check_workflow(text: str) -> None:
    parsed = parse_completion(text)
    assert parsed.source is not None, parsed
    findings = {domain: validate(parsed.source, domain) for domain in DOMAINS}
    if not any(map(is_valid, findings.values())):
        raise Failed(f"valid in no domain: {findings}")
