"""Tiny runs of the trainer verbs in this process, and what they leave behind.

Everything is real (policy, simulator, sandbox, MLflow on SQLite), only small: two problems and
eight workflows a step, six problems to validate on.
"""

import atexit
import functools
import hashlib
import json
import multiprocessing
import multiprocessing.process
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
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
    "assert_equal_checkpoints",
    "checkpoint_of",
    "digest",
    "journaled_calls",
    "metrics_of",
    "new_root",
    "paid_calls",
    "run_ids",
    "run_verb",
    "spent_usd",
    "start_verb",
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


def start_verb(*arguments: str | Path) -> multiprocessing.process.BaseProcess:
    """`run_verb` in a process of its own, forked from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer_runs", "aflow_grpo.cli"])
    process = context.Process(target=_run_and_exit, args=(arguments,))
    process.start()
    return process


def _run_and_exit(arguments: tuple[str | Path, ...]) -> None:
    raise SystemExit(run_verb(*arguments))


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


def assert_equal_checkpoints(one: Path, other: Path) -> None:
    """The last checkpoints of two runs: weights, optimiser, schedule, our own state; to the bit."""
    first, second = checkpoint_of(one), checkpoint_of(other)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    for part in ("aflow_grpo", "global_step"):
        assert first[part] == second[part]


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
    """(name, step) -> last value logged by the newest run of `verb`; no times, no system."""
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute(
            "select key, step, value from metrics where run_uuid = ? order by timestamp, rowid",
            (run_ids(root, verb)[-1],),
        ).fetchall()
    measured = ("time/", "system/")
    return {(key, step): value for key, step, value in rows if not key.startswith(measured)}


class Spending(L.Callback):
    """Keeps what a run was billed, and for how many calls, in a file of its run directory."""

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it down; this callback comes before the one that closes the client."""
        client = rollout_callback_of(trainer).client
        calls = sum(tier.answered for tier in client.counters.values())
        path = Path(trainer.default_root_dir) / "spent.json"
        earlier = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*earlier, [client.usage.billed_usd, calls]]))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Lightning skips teardown after an exception."""
        self.teardown(trainer, pl_module, "fit")


def spent_usd(root: Path) -> list[float]:
    """What each run in `root` that had a `Spending` callback was billed."""
    return [usd for usd, _ in json.loads((root / "spent.json").read_text())]


def paid_calls(root: Path) -> list[int]:
    """How many calls each of these runs paid for."""
    return [calls for _, calls in json.loads((root / "spent.json").read_text())]


def journaled_calls(root: Path) -> int:
    """How many answers the journal of `root` holds."""
    with sqlite3.connect(root / "journal.db") as database:
        return int(database.execute("select count(*) from calls").fetchone()[0])


class _Bomb:
    """Kills the process that pickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


class Interrupt(L.Callback):
    """Sends this process a signal, once, at a chosen moment.

    Args:
        iteration: Completed iterations before it.
        moment: ``between`` two steps, while the policy is ``writing`` (when a workflow has been
            written), while workflows are ``executing`` (when a call has been answered), while the
            policy is ``updating`` (before a backward pass) or ``stepping`` (between two optimiser
            steps of one update), while it is ``validating``, in the last evaluation (``judging``,
            when a call has been answered), or in the middle of ``saving`` a checkpoint (SIGKILL
            only).
        name: The signal.
        count: At the so-manyth such occasion of the iteration.
    """

    def __init__(self, iteration: int, moment: str, name: str = "SIGINT", count: int = 1) -> None:
        self._iteration = iteration
        self._moment = moment
        self._signal = signal.Signals[name]
        self._left = count

    def _at(self, pl_module: Any, moment: str) -> None:
        if self._is(pl_module, moment):
            self._tick()

    def _is(self, pl_module: Any, moment: str) -> bool:
        due = moment == self._moment and pl_module.iteration == self._iteration
        return due and self._left > 0

    def _tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps; and the start of a watch for workflows and executor calls."""
        self._at(pl_module, "between")
        if self._is(pl_module, "writing"):
            self._watch_writing(pl_module)
        self._watch_calls(trainer, pl_module, "executing")

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The module's last evaluation comes next."""
        self._watch_calls(trainer, pl_module, "judging")

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """And here, when it is made up for; the checkpoint is loaded by now."""
        self._watch_calls(trainer, pl_module, "judging")

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Any) -> None:
        """In an update, before a micro-batch adds its gradient."""
        self._at(pl_module, "updating")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        """In an update that has made a step and has one to make."""
        if not pl_module.at_boundary:
            self._at(pl_module, "stepping")

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """In the middle of a validation."""
        self._at(pl_module, "validating")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Let the writing of the file be the end."""
        if self._is(pl_module, "saving"):
            checkpoint["bomb"] = _Bomb()

    def _watch_writing(self, pl_module: Any) -> None:
        write = pl_module.policy.write

        def watched(*arguments: Any, on_written: Any, **options: Any) -> Any:
            def seen(b: int, completion: Any) -> None:
                on_written(b, completion)
                self._at(pl_module, "writing")

            return write(*arguments, on_written=seen, **options)

        vars(pl_module.policy)["write"] = watched

    def _watch_calls(self, trainer: L.Trainer, pl_module: Any, moment: str) -> None:
        if not self._is(pl_module, moment):
            return
        client = rollout_callback_of(trainer).client
        ask = client.ask

        async def watched(request: Any) -> Any:
            reply = await ask(request)
            self._at(pl_module, moment)
            return reply

        vars(client)["ask"] = watched
