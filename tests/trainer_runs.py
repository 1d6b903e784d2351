"""Tiny runs of the trainer verbs in this process, and what they leave behind.

Everything is real (policy, simulator, sandbox, MLflow on SQLite), only small: two problems and
eight workflows a step, six problems to validate on.
"""

import atexit
import functools
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml

from aflow_grpo.__main__ import main
from aflow_grpo.assets import shipped_path
from aflow_grpo.records import DOMAINS
from aflow_grpo.training.collect import rollout_callback_of

__all__ = [
    "INTERRUPTED",
    "TERMINATED",
    "Interrupt",
    "Spending",
    "checkpoint_of",
    "digest",
    "metrics_of",
    "new_root",
    "run_ids",
    "run_verb",
    "spent_usd",
    "write_settings",
]

INTERRUPTED, TERMINATED = 130, 143
PER_DOMAIN = 2


def run_verb(*arguments: str | Path) -> int:
    """What `aflow-grpo ARGUMENTS` returns, run here; sys.argv and signal handlers are put back."""
    argv, handlers = sys.argv[:], [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        with _libraries_among_themselves():
            return main([str(argument) for argument in arguments])
    finally:
        sys.argv = argv
        for name, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(name, handler)


@contextmanager
def _libraries_among_themselves() -> Iterator[None]:
    """Ignore deprecations, which Lightning, MLflow and SQLAlchemy report of one another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def new_root(root: Path) -> Path:
    """A run directory with MLflow's empty tables, which take seconds to make from nothing."""
    root.mkdir(parents=True)
    shutil.copy(_empty_store(), root / "mlflow.db")
    return root


@functools.cache
def _empty_store() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aflow-grpo-empty-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with _libraries_among_themselves():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # warns on import

        SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", folder.as_uri()).engine.dispose()
    return folder / "mlflow.db"


def write_settings(folder: Path, **changes: Any) -> Path:
    """A YAML overlay of a tiny run; `changes` are merged in, ``__`` in a name stands for a dot."""
    problems = folder / "problems.jsonl"
    rows = shipped_path("data/sample/val.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [
        row
        for domain in DOMAINS
        for row in [r for r in rows if json.loads(r)["domain"] == domain][:PER_DOMAIN]
    ]
    problems.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    source = [{"dataset": "jsonl", "path": str(problems)}]
    settings: dict[str, Any] = {
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 2,
        "model.policy.init_args.sampling.max_new_tokens": 90,
        "model.grpo.group_size": 4,
        "model.evaluation.samples": 1,
        "model.evaluation.at_start": False,
        "model.evaluation.execute_every": 2,
        "data.val": source,
        "data.test": source,
        "data.batch_size": 2,
        # Every workflow calls the executor, so that there is something to pay for and to replay.
        "rollout.rollout.fallback": "always",
        "checkpoint.every_n_iterations": 100,
        "progress.quiet": True,
    }
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(_nested(settings)), encoding="utf-8")
    return path


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree


def checkpoint_of(root: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint of a run, read as untrusted data."""
    path = root / "checkpoints" / f"{name}.ckpt"
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def digest(state: dict[str, torch.Tensor]) -> str:
    """sha256 over names and bits of a state dict."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def run_ids(root: Path, verb: str = "fit") -> list[str]:
    """MLflow runs of a verb, oldest first."""
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute(
            "select runs.run_uuid from runs join tags on tags.run_uuid = runs.run_uuid "
            "where tags.key = 'aflow_grpo.verb' and tags.value = ? order by start_time",
            (verb,),
        ).fetchall()
    return [run for (run,) in rows]


def metrics_of(root: Path, verb: str = "fit") -> dict[tuple[str, int], float]:
    """(name, step) -> last value logged by the newest run of `verb`, times aside."""
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute(
            "select key, step, value from metrics where run_uuid = ? order by timestamp, rowid",
            (run_ids(root, verb)[-1],),
        ).fetchall()
    return {(key, step): value for key, step, value in rows if not key.startswith("time/")}


class Spending(L.Callback):
    """Keeps what a run was billed in a file of its run directory."""

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it down; this callback comes before the one that closes the client."""
        billed = rollout_callback_of(trainer).client.usage.billed_usd
        path = Path(trainer.default_root_dir) / "spent.json"
        earlier = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*earlier, billed]))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Lightning skips teardown after an exception."""
        self.teardown(trainer, pl_module, "fit")


def spent_usd(root: Path) -> list[float]:
    """What each run in `root` that had a `Spending` callback was billed."""
    spent: list[float] = json.loads((root / "spent.json").read_text())
    return spent


class Interrupt(L.Callback):
    """Presses Ctrl-C once, at a chosen moment.

    Args:
        iteration: Completed iterations before it.
        moment: ``between`` two steps, while workflows are ``executing``, while the policy is
            ``updating``, or while it is ``validating``.
    """

    def __init__(self, iteration: int, moment: str) -> None:
        self._iteration = iteration
        self._moment = moment
        self._over = threading.Event()

    def _now(self, pl_module: Any, moment: str) -> bool:
        due = moment == self._moment and pl_module.iteration == self._iteration
        return due and not self._over.is_set()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps; and the start of a watch for executor calls."""
        if self._now(pl_module, "between"):
            raise KeyboardInterrupt
        if self._now(pl_module, "executing"):
            client = rollout_callback_of(trainer).client
            threading.Thread(target=self._press_when_paying, args=(client,), daemon=True).start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Too late for a watch."""
        if pl_module.iteration > self._iteration:
            self._over.set()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        """In the middle of an update."""
        if self._now(pl_module, "updating"):
            self._over.set()
            os.kill(os.getpid(), signal.SIGINT)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """In the middle of a validation."""
        if self._now(pl_module, "validating"):
            raise KeyboardInterrupt

    def _press_when_paying(self, client: Any) -> None:
        before = client.usage.calls
        while not self._over.wait(0.001):
            if client.usage.calls > before:
                self._over.set()
                os.kill(os.getpid(), signal.SIGINT)
