"""MLflow as the lab book: on SQLite under the run's directory, in another database, on a server.

`RunLogger` is Lightning's MLFlowLogger with the defaults that a laptop needs (no server, everything
under one directory), an end that says how the run ended, and parameters that may change when a run
is resumed. What it logs goes to the disk first and is sent by a thread (`outbox`), so that neither
a slow store nor one that is away holds training up. What has to be known before a run can begin is
asked directly, and fails at once.

Not here: which run a command logs to (`tracking`), what is logged when (`lab_book`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, MLFlowLogger

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.following import RunFollower
from aflow_grpo.training.interrupts import SHUTDOWN_S
from aflow_grpo.training.outbox import METRICS, STORE_FILE, Outbox, Record
from aflow_grpo.training.plain_settings import flattened, without_keys
from aflow_grpo.training.repeated import RepeatedMetrics
from aflow_grpo.training.sending import Sender, is_refusal
from aflow_grpo.training.system_metrics import SYSTEM, SystemMetrics
from aflow_grpo.training.tracking_address import plain_reason, resolve_address

__all__ = ["MARK", "RunLogger", "never_fatal", "run_of"]

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # An attempt is short: who comes in vain tries again (`outbox`).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)

MARK = "aflow_grpo.mark"
"""Tag of a run that was announced before it was made."""
_UNSENT = "unsent"
"""Folder of a run's directory with what no store has taken yet."""
_TABLES = "mlflow.loggedArtifacts"
_MOST_TABLES = 60
"""A tag holds 5,000 characters."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The page that MLflow opens an experiment with: runs, not traces."""
_PATIENCE_S = 20.0
"""Longest wait for one request at the end of a run."""
_LOG = logging.getLogger(__name__)


class RunLogger(MLFlowLogger):
    """MLflow for one run directory.

    Args:
        root: The run's directory; without `tracking_uri` it holds `mlflow.db` and `artifacts/`.
        experiment_name: MLflow experiment.
        run_name: Shown in the MLflow UI.
        tracking_uri: Another store or a server; null takes MLFLOW_TRACKING_URI, else SQLite under
            `root`.
        run_id: Continue this run instead of starting one.
        tags: Tags of a new run.
    """

    def __init__(
        self,
        root: str | Path,
        experiment_name: str = "aflow-grpo",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.address = resolve_address(self.root, tracking_uri)
        self.root.mkdir(parents=True, exist_ok=True)
        own = self.address.is_own
        store = self.root.resolve() / "mlflow.db"
        if own and not store.exists():
            _make_store(store)
        with self._reaching():
            super().__init__(
                experiment_name=experiment_name,
                run_name=run_name,
                tracking_uri=self.address.uri,
                artifact_location=(self.root.resolve() / "artifacts").as_uri() if own else None,
                run_id=run_id,
                tags=dict(tags or {}),
            )
        self.pictures = 4
        """How many workflows of a table of samples are drawn."""
        self.series: dict[str, dict[int, float]] = {}
        """Step -> value of the metrics that are watched."""
        self._system: SystemMetrics | None = None

    @property
    def tracking_uri(self) -> str:
        """Where the run is tracked; for MLflow's client, not to be shown."""
        return self._tracking_uri

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the run exists from the first use on.

        The process's own tracking address stays what it was: another run may have another.
        """
        if not self._initialized:
            with self._reaching():
                if self._run_id is not None:
                    run = self._mlflow_client.get_run(self._run_id)
                    self._experiment_id = run.info.experiment_id
                else:
                    self._make_run()
            self._initialized = True
        return self._mlflow_client

    def _make_run(self) -> None:
        from mlflow.tracking.context.registry import resolve_tags

        client = self._mlflow_client
        found = client.get_experiment_by_name(self._experiment_name)
        if found is not None and found.lifecycle_stage != "deleted":
            self._experiment_id = found.experiment_id
        else:
            self._experiment_id = client.create_experiment(
                self._experiment_name, self._artifact_location, tags=_KIND
            )
        run = client.create_run(
            self._experiment_id, tags=resolve_tags(self.tags), run_name=self._run_name
        )
        self._run_id = run.info.run_id
        vars(self)["_known"] = ({}, dict(self.tags or {}))

    # Before a run begins: asked directly

    def status_of(self, run_id: str) -> str | None:
        """A run's MLflow status, e.g. ``FINISHED``; None when the store has no such run."""
        from mlflow.exceptions import MlflowException  # seconds, and `--help` needs none of it

        with self._reaching():
            try:
                return str(self._mlflow_client.get_run(run_id).info.status)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

    def find_run(self, mark: str) -> str | None:
        """The run that was made with `mark` as its tag, or None."""
        with self._reaching():
            experiment = self._mlflow_client.get_experiment_by_name(self._experiment_name)
            if experiment is None:
                return None
            runs = self._mlflow_client.search_runs(
                [experiment.experiment_id], f"tags.`{MARK}` = '{mark}'", max_results=1
            )
        return str(runs[0].info.run_id) if runs else None

    def continue_run(self, run_id: str) -> None:
        """Log to an earlier run, which is then running again."""
        self._run_id = run_id
        with self._reaching():
            self.experiment.update_run(run_id, status="RUNNING")
            self._sender.repeated = self._repeated(run_id)

    def watch(self, names: Iterable[str]) -> None:
        """Keep the values of these metrics in `series`, those of earlier processes included."""
        earlier = self._sender.repeated is not None
        with self._reaching():
            self.series = {name: self.history(name) if earlier else {} for name in names}

    def history(self, name: str) -> dict[int, float]:
        """Step -> value of what the run has logged of a metric so far, asked of the store."""
        return {each.step: each.value for each in self._history(str(self.run_id), name)}

    def send_leftovers(self) -> None:
        """Send what earlier processes left unsent in this directory for this store.

        Raises:
            ConfigError: The store does not take it.
        """
        for folder in sorted(self.root.glob(f"{_UNSENT}/*")):
            store = folder / STORE_FILE
            shown = store.read_text() if store.exists() else self.address.shown
            run_id = folder.name.partition(".")[0]
            if shown != self.address.shown and not self._has_moved(shown, run_id):
                print(
                    f"{folder} holds what could not be sent to MLflow at {shown}. A command in "
                    f"this directory with --mlflow.tracking_uri {shown} sends it."
                )
                continue
            sender = Sender(self._mlflow_client, run_id)
            sender.repeated = self._repeated(run_id)
            box = Outbox(folder, sender, is_refusal, self.address.shown)
            if count := box.send_what_is_left():
                print(f"Sending what MLflow has not got of run {run_id}: {count:,} records.")
            if left := box.close(_PATIENCE_S):
                raise ConfigError(self._cannot_be_reached(f"{left:,} records could not be sent"))

    def _has_moved(self, shown: str, run_id: str) -> bool:
        """Whether that address was this directory's own store, before somebody moved it."""
        was_own = shown.startswith("sqlite:///") and shown.endswith("/mlflow.db")
        return self.address.is_own and was_own and self.status_of(run_id) is not None

    # While it runs: kept on the disk, sent by a thread

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers under their own time; what an earlier process logged is not logged again."""
        if metrics:
            for name in metrics.keys() & self.series.keys():
                self.series[name][step or 0] = float(metrics[name])
            values = {name: float(value) for name, value in metrics.items()}
            now = {"time_ms": time.time_ns() // 1_000_000, "step": step or 0}
            self._put({"kind": METRICS, **now, "values": values})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """As `log_settings`."""
        self.log_settings(params if isinstance(params, Mapping) else vars(params))

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Flattened settings as parameters; one that changed on resume is kept as a tag."""
        flat = {key: str(value)[:250] for key, value in flattened(without_keys(settings)).items()}
        self._log_once("params", flat, self._known[0])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Tags; one that changed on resume is kept as ``resumed_with.<tag>`` beside the old one."""
        texts = {key: str(value)[:5000] for key, value in tags.items()}
        self._log_once("tags", texts, self._known[1])

    def log_text(self, text: str, artifact: str) -> None:
        """A text file among the run's artifacts."""
        self.log_bytes(text.encode(), artifact)

    def log_bytes(self, content: bytes | Path, artifact: str) -> None:
        """A file among the run's artifacts; one that is given by its path is moved there."""
        folder, _, name = artifact.rpartition("/")
        self._put({"kind": "artifact", "folder": folder, "name": name}, content)

    def log_table(self, columns: Mapping[str, list[Any]], artifact: str) -> None:
        """A table among the artifacts, which MLflow shows as one; replaces an equal name."""
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.log_text(json.dumps({"columns": list(columns), "data": rows}), artifact)
        tables = json.loads(self._known[1].get(_TABLES, "[]"))
        entry = {"path": artifact, "type": "table"}
        if entry not in tables:
            known = json.dumps([*tables, entry][-_MOST_TABLES:])
            self._known[1][_TABLES] = known
            self._put({"kind": "tags", "values": {_TABLES: known}})

    def start_system_metrics(self) -> None:
        """Log processor, memory, disk, network and GPUs now and then, until the run ends."""
        if self._system is None:
            with self._reaching():
                known = self.history(f"{SYSTEM}cpu_utilization_percentage")
            first = max(known, default=-1) + 1
            self._system = SystemMetrics(self.log_metrics, first)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything is in the store; False when it is away or slower than that."""
        return self._outbox.flush(timeout_s)

    def finalize(self, status: str = "success") -> None:
        """End the run: FINISHED, after Ctrl-C or SIGTERM KILLED, after an error FAILED."""
        if not self._initialized:
            return
        if self._system is not None:
            self._system.close()
            self._system = None
        cause = sys.exception()
        stopped = isinstance(cause, KeyboardInterrupt | SystemExit)
        words = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}
        status = "KILLED" if status == "failed" and stopped else words.get(status, status)
        try:
            self._put({"kind": "end", "status": status, "time_ms": time.time_ns() // 1_000_000})
        except OSError as error:
            if cause is None:
                raise
            # What ended the run matters more, and its message would be lost.
            _LOG.warning("The MLflow run could not be ended: %s", error)
        if left := self._outbox.close(_PATIENCE_S, SHUTDOWN_S / 2 if stopped else None):
            _LOG.warning(
                "MLflow at %s has not taken %s records of this run. They are kept in %s; the next "
                "fit, validate or test in this directory sends them.",
                self.address.shown, f"{left:,}", self._outbox.folder,
            )  # fmt: skip

    def _put(self, record: Record, content: bytes | Path | None = None) -> None:
        self._outbox.put(record, content)

    def _log_once(self, kind: str, new: Mapping[str, str], known: dict[str, str]) -> None:
        fresh = {key: text for key, text in new.items() if key not in known}
        changed = {
            f"resumed_with.{key}": text
            for key, text in new.items()
            if key in known and known[key] != text
        }
        known |= fresh
        if fresh:
            self._put({"kind": kind, "values": fresh})
        if changed:
            self._put({"kind": "tags", "values": changed})

    @cached_property
    def _known(self) -> tuple[dict[str, str], dict[str, str]]:
        """Parameters and tags that the run has."""
        data = self.experiment.get_run(self.run_id).data
        return dict(data.params), dict(data.tags)

    @property
    def _sender(self) -> Sender:
        return self._sending[0]

    @property
    def _outbox(self) -> Outbox:
        return self._sending[1]

    @cached_property
    def _sending(self) -> tuple[Sender, Outbox]:
        run_id = self.run_id
        assert run_id is not None
        sender = Sender(self._mlflow_client, run_id)
        folder = self.root / _UNSENT / f"{run_id}.{uuid.uuid4().hex[:6]}"
        return sender, Outbox(folder, sender, is_refusal, self.address.shown)

    def _repeated(self, run_id: str) -> RepeatedMetrics:
        return RepeatedMetrics(partial(self._history, run_id))

    def _history(self, run_id: str, name: str) -> list[Any]:
        return list(self._mlflow_client.get_metric_history(run_id, name))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """What has to work before a run can begin; of another store than the own it may not."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            if self.address.is_own:
                raise
            raise ConfigError(self._cannot_be_reached(plain_reason(error))) from error

    def _cannot_be_reached(self, reason: str) -> str:
        return (
            f"mlflow.tracking_uri={self.address.shown}: MLflow cannot be used there ({reason}). "
            "Start it (docs/lab-book.md), give another address, or neither this setting nor "
            "MLFLOW_TRACKING_URI: then the run is tracked in trainer.default_root_dir."
        )


def run_of(logger: Logger | None) -> str | None:
    """The MLflow run that a rank works for; None where there is none."""
    return logger.run_id if isinstance(logger, RunLogger | RunFollower) else None


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Go on without an artifact that cannot be made or kept, and say so."""
    try:
        yield
    except Exception as error:  # drawing and packing may raise anything; none of it is training
        _LOG.warning("The lab book goes without %s: %s", what, plain_reason(error))


def _make_store(path: Path) -> None:
    """An MLflow store at `path`, all at once: one that a kill left half made cannot be opened."""
    # Imported late: its import warns, and only a new directory needs it.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    part = path.with_name(f".{path.name}.part")
    for leftover in (part, part.with_name(f"{part.name}-journal")):
        leftover.unlink(missing_ok=True)
    store: Any = SqlAlchemyStore
    store(f"sqlite:///{part}", (path.parent / "artifacts").as_uri()).engine.dispose()
    part.replace(path)
