"""The runs of an experiment, made by the command line in processes of their own, as by a user.

Each cell (an arm in a replicate) has a folder: `fit/` holds the training run, `judge-SET/` one
evaluation each. What is done is kept and not done again, so an experiment that was stopped goes on.
The settings of a cell are in its `cell.yaml`. Not here: what is compared (`plan`), the tables.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aflow_grpo.errors import AFlowError, ConfigError
from aflow_grpo.llm.journal_files import journal_path
from aflow_grpo.whole_file import WholeFile
from aflow_grpo.workbench.executor_settings import config_path, nested
from aflow_grpo.workbench.experiments.plan import REPLICATES, Arm, Experiment, Replicate
from aflow_grpo.workbench.experiments.rows import Row, evaluation_rows, read_rows, write_rows

__all__ = ["Cell", "ExperimentFailed", "Workshop", "cells_of", "keep_settings", "make_cell"]

_POLL_S = 0.2
_DONE = "done.json"
_ROWS = "rows.jsonl"
_TAIL = 2000


class ExperimentFailed(AFlowError):
    """A run of an experiment ended with an error."""


@dataclass(frozen=True)
class Cell:
    """An arm in a replicate, from one warm start."""

    arm: Arm
    replicate: Replicate
    policy: str = ""
    """Folder of the warm start; empty for the settings' own model."""
    policy_at: int = 0

    @property
    def repetition(self) -> int:
        """Names the replicate and the warm start in rows."""
        return self.policy_at * REPLICATES + self.replicate.number

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm.folder}-{self.repetition}"

    def trained_by(self, arm: Arm) -> Cell:
        """The same repetition of another arm."""
        return Cell(arm, self.replicate, self.policy, self.policy_at)


def cells_of(experiment: Experiment, replicates: Sequence[Replicate]) -> list[Cell]:
    """Every cell; an arm that judges another's policies comes after it, at the end.

    Such an arm has the repetitions of the one that trained them.
    """
    cells = []
    for replicate in replicates:
        for arm in experiment.arms:
            trained = experiment.arm(arm.of) if arm.of else arm
            most = [n for n in (arm.replicates, trained.replicates) if n is not None]
            if all(replicate.number < n for n in most):
                starts = enumerate(trained.policies or ("",))
                cells += [Cell(arm, replicate, policy, at) for at, policy in starts]
    return sorted(cells, key=lambda cell: bool(cell.arm.of))


@dataclass
class Workshop:
    """Where an experiment's cells are made.

    Attributes:
        experiment: What is made.
        root: Folder of all cells.
        tell: Is told what begins and ends.
    """

    experiment: Experiment
    root: Path
    tell: Any = print
    _processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def make(self, cells: Sequence[Cell], workers: int) -> list[Row]:
        """Make all cells, so many at a time, and return their rows in the cells' order.

        Raises:
            ExperimentFailed: A run ended with an error; what is done is kept.
        """
        rows: list[Row] = []
        with ThreadPoolExecutor(max_workers=workers) as pool:
            try:
                for cell in cells:
                    self.prepare(cell)
                for later in (False, True):  # arms that judge others' policies need these
                    made = [
                        pool.submit(self.rows_of, cell)
                        for cell in cells
                        if bool(cell.arm.of) is later
                    ]
                    ended, _ = wait(made, return_when=FIRST_EXCEPTION)
                    for each in ended:
                        each.result()
                    for each in made:
                        rows += each.result()
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return rows

    def prepare(self, cell: Cell) -> None:
        """Make the cell's warm start, where its folder is missing."""
        arm = cell.arm
        folder = Path(cell.policy) if cell.policy else None
        if folder is None or (folder / "model.safetensors").is_file():
            return
        options = [
            f"--recipe.{key}={str(value).replace('{seed}', str(cell.policy_at))}"
            for key, value in arm.warm_start.items()
        ]
        self.run(["warmstart", f"--output_dir={folder}", *options], folder, f"warm start {folder}")

    def rows_of(self, cell: Cell) -> list[Row]:
        """The rows of a cell, which is made where it is not there yet."""
        return make_cell(self, cell)

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> float:
        """Run a verb to its end; returns its CPU seconds, children included.

        Raises:
            ExperimentFailed: It ended with an error.
        """
        process, log = self.start(arguments, folder)
        cpu_s = self._end_of(process)
        code = process.returncode
        if code != 0:
            how = f"with code {code}"
            if code < 0:
                how = f"by signal {-code} ({signal.strsignal(-code)})"
            tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
            raise ExperimentFailed(
                f"{what}: `aflow-grpo {shlex.join(arguments)}` ended {how}. The end of {log}:\n"
                f"{tail}"
            )
        return cpu_s

    def start(self, arguments: Sequence[str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a verb, its output in `log.txt` of `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        with self._lock:
            if self._stopped:
                raise ExperimentFailed("the experiment was stopped")
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "aflow_grpo", *arguments, "--quiet"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self._processes.add(process)
        return process, log

    def stop(self) -> None:
        """End what runs; nothing more is started."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                # Not `send_signal`, which would reap it before `_end_of` does.
                os.kill(process.pid, signal.SIGTERM)

    def _end_of(self, process: subprocess.Popen[bytes]) -> float:
        """Wait for the end of a verb; returns its CPU seconds, children included.

        It is reaped under the lock: until then nothing else can have its number.
        """
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self._processes.discard(process)
        return used.ru_utime + used.ru_stime

    def kill_at(self, process: subprocess.Popen[bytes], folder: Path, iteration: int) -> float:
        """`kill -9` once the run in `folder` has stored so many iterations; its CPU seconds."""
        runs = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, process.pid, runs) is None:
            if _stored_iterations(folder) >= iteration:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(_POLL_S)
        return self._end_of(process)


def make_cell(workshop: Workshop, cell: Cell) -> list[Row]:
    """Train and judge one cell, as far as that is not done, and return its rows."""
    folder = workshop.root / cell.name
    experiment = workshop.experiment
    configs = [str(config_path(p)) for p in (*experiment.configs, *cell.arm.configs)]
    checkpoint: list[str] = []
    settings = _settings(workshop, cell)
    if cell.arm.of:
        trained = cell.trained_by(experiment.arm(cell.arm.of))
        path = workshop.root / trained.name / "fit" / "checkpoints" / "last.ckpt"
        checkpoint = [f"--ckpt_path={path}"]
    elif cell.arm.train:
        fit = folder / "fit"
        _once(workshop, cell, "fit", configs, settings, [], fit)
        checkpoint = [f"--ckpt_path={fit / 'checkpoints' / 'last.ckpt'}"]
    rows: list[Row] = []
    for name, told in experiment.judged_in(cell.replicate.kind).items():
        judge = folder / f"judge-{name}"
        on_set = {**settings, **cell.replicate.fill(dict(told))}
        _once(workshop, cell, "validate", configs, on_set, checkpoint, judge)
        kept = judge / _ROWS
        if not kept.is_file():
            write_rows(kept, evaluation_rows(judge, cell.arm.name, cell.repetition, name))
        rows += read_rows([kept])
    return rows


def _settings(workshop: Workshop, cell: Cell) -> dict[str, Any]:
    experiment = workshop.experiment
    settings = {**experiment.settings, **cell.arm.settings}
    if cell.policy:
        settings["model.policy.init_args.model"] = str(Path(cell.policy).resolve())
    settings.setdefault("seed_everything", "{seed}")
    settings.setdefault("mlflow.experiment", f"experiment/{experiment.name}")
    filled: dict[str, Any] = cell.replicate.fill(settings)
    return filled


def _once(
    workshop: Workshop,
    cell: Cell,
    verb: str,
    configs: Sequence[str],
    settings: Mapping[str, Any],
    more: Sequence[str],
    folder: Path,
) -> None:
    """Run a verb in `folder` unless it is done; a run that was stopped is continued."""
    told = {**settings, "trainer.default_root_dir": str(folder.resolve())}
    told["mlflow.run_name"] = f"{cell.name} {folder.name}"
    file = keep_settings(folder, nested(told))
    done = folder / _DONE
    if done.is_file():
        return
    layers = [f"--config={path}" for path in (*configs, file)]
    arguments = [verb, *layers, *more]
    what = f"{cell.name}: {folder.name}"
    workshop.tell(f"{what} begins")
    last = folder / "checkpoints" / "last.ckpt"
    resumed = last.is_file()
    started, cpu_s = time.monotonic(), 0.0
    resume = ["--ckpt_path=last"] if verb == "fit" else []
    if verb == "fit":
        for iteration in cell.arm.kills:
            if _stored_iterations(folder) < iteration:
                begun = resume if last.is_file() else []
                process, _ = workshop.start([*arguments, *begun], folder)
                cpu_s += workshop.kill_at(process, folder, iteration)
    if last.is_file():
        arguments += resume
    cpu_s += workshop.run(arguments, folder, what)
    seconds = time.monotonic() - started
    # Of a run that was stopped and goes on, these are the figures since.
    facts = {"seconds": round(seconds, 1), "cpu_s": round(cpu_s, 1), "resumed": resumed}
    _write_whole(done, json.dumps(facts))
    workshop.tell(f"{what} ended after {seconds:.0f} s")


def keep_settings(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Say in `cell.yaml` of `folder` what it is made with; returns that file.

    Raises:
        ConfigError: It was made with others.
    """
    text = yaml.safe_dump(dict(settings), sort_keys=True)
    file = folder / "cell.yaml"
    if not file.is_file():
        _write_whole(file, text)
    elif file.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{folder}: made with other settings than the experiment has now. Give another "
            "--output, or remove that folder."
        )
    return file


def _write_whole(path: Path, text: str) -> None:
    whole = WholeFile.at(path)
    whole.part.write_text(text, encoding="utf-8")
    whole.keep()


def _stored_iterations(folder: Path) -> int:
    """The last training iteration in the journal; 0 where there is none."""
    path = journal_path(folder)
    if not path.is_file():
        return 0
    try:
        uri = f"file:{path}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as journal:
            (last,) = journal.execute(
                "SELECT max(step) FROM rollouts WHERE part = 'train'"
            ).fetchone()
    except sqlite3.Error:  # it is being made
        return 0
    return int(last or 0)
