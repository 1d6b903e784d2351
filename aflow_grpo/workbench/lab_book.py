"""What MLflow knows of runs, for reading only, as frozen records.

A store that is a file is read by SQL, without the right to write: MLflow's own client migrates what
it opens, takes seconds to import, and does not start in a directory that may not be written. The
five tables that are read have been the same since MLflow 1; a test compares with MLflow's client. A
server is asked through that client. Not here: which run a person means (`runs`).
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.tracking_address import CREDENTIALS, plain_reason, resolve_address

__all__ = ["LabBook", "Points", "ServedLabBook", "TrackedRun", "open_lab_book", "store_file"]

Points = tuple[tuple[int, float], ...]
"""(step, last value at it), by step."""
_VERB = "aflow_grpo.verb"
_PARENT = "mlflow.parentRunId"
_PAGE = 1000
_AT_ONCE = 8
"""Requests to a server: a run has hundreds of metrics, and each is asked for alone."""
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run."""

    id: str
    name: str
    status: str
    """MLflow's word: ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED``, ``SCHEDULED``."""
    started_s: float
    """Unix time."""
    ended_s: float | None
    """Unix time; None while it runs, and where it was killed."""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Points] = field(default_factory=dict)
    artifacts: Path | None = None
    """Where its artifacts lie; None where that is not on this machine."""

    @property
    def verb(self) -> str:
        """Which verb made it, e.g. ``fit``; empty where it does not say."""
        return self.tags.get(_VERB, "")

    @property
    def parent(self) -> str | None:
        """The run that this one belongs to."""
        return self.tags.get(_PARENT)


class LabBook(ABC):
    """The runs of one store.

    Args:
        uri: Where it is, as a person would name it.
        heads: Every run without its metrics, oldest first.
    """

    def __init__(self, uri: str, heads: Sequence[TrackedRun]) -> None:
        self.uri = uri
        self.heads = tuple(heads)

    def find(self, run_id: str) -> TrackedRun | None:
        """The run of this id, without metrics."""
        return next((head for head in self.heads if head.id == run_id), None)

    def children(self, run_id: str) -> tuple[TrackedRun, ...]:
        """The runs that belong to this one, oldest first, without metrics."""
        return tuple(head for head in self.heads if head.parent == run_id)

    @abstractmethod
    def metrics(self, run_id: str) -> dict[str, Points]:
        """Every metric of a run."""


def store_file(uri: str) -> Path | None:
    """The SQLite file that a tracking URI names; None where it names something else."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(urlsplit(uri).path[1:]) or "/")


def open_lab_book(uri: str) -> LabBook:
    """The store behind a tracking URI.

    Raises:
        ConfigError: There is none, it cannot be read, or a server does not answer.
    """
    file = store_file(uri)
    if file is not None:
        return _StoredLabBook(file)
    with _environment({}):
        address = resolve_address(Path(), uri)  # a password in it goes where MLflow's client looks
        told = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    return ServedLabBook(address.uri, address.shown, told)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """With these; afterwards as before: another server must not be sent this one's password."""
    names = (*CREDENTIALS, *variables)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _StoredLabBook(LabBook):
    """A store that is an SQLite file, which a run may be writing meanwhile."""

    def __init__(self, file: Path) -> None:
        self._file = file
        if not file.is_file():
            raise ConfigError(
                f"{file}: no such file. Expected the lab book (MLflow on SQLite) of a run: the "
                "directory that was its trainer.default_root_dir has it as mlflow.db."
            )
        with _reading(file) as database:
            super().__init__(f"sqlite:///{file}", list(_heads(database, file.parent)))

    def metrics(self, run_id: str) -> dict[str, Points]:
        found: dict[str, dict[int, float]] = defaultdict(dict)
        with _reading(self._file) as database:
            rows = database.execute(
                "SELECT key, step, CASE is_nan WHEN 1 THEN NULL ELSE value END FROM metrics "
                "WHERE run_uuid = ? ORDER BY timestamp, rowid",
                (run_id,),
            )
            for key, step, value in rows:
                found[key][step] = math.nan if value is None else value
        return {key: tuple(sorted(points.items())) for key, points in sorted(found.items())}


def _heads(database: sqlite3.Connection, folder: Path) -> Iterator[TrackedRun]:
    pairs: dict[str, dict[str, dict[str, str]]] = {}
    for table in ("params", "tags"):
        texts: dict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in database.execute(f"SELECT run_uuid, key, value FROM {table}"):
            texts[run_id][key] = value or ""
        pairs[table] = texts
    runs = database.execute(
        "SELECT run_uuid, name, status, start_time, end_time, artifact_uri FROM runs "
        "WHERE lifecycle_stage = 'active' ORDER BY start_time, rowid"
    )
    for run_id, name, status, start_ms, end_ms, artifact_uri in runs:
        yield TrackedRun(
            run_id,
            name or "",
            status,
            (start_ms or 0) / 1000,
            end_ms / 1000 if end_ms else None,
            pairs["params"].get(run_id, {}),
            pairs["tags"].get(run_id, {}),
            artifacts=_local_artifacts(artifact_uri, folder / "artifacts" / run_id / "artifacts"),
        )


def _local_artifacts(uri: str | None, beside: Path | None = None) -> Path | None:
    """Where artifacts lie on this machine; beside the store first: a directory may have moved."""
    named = [beside] if beside is not None else []
    if uri and uri.startswith("file:"):
        named.append(Path(unquote(urlsplit(uri).path)))
    return next((path for path in named if path.is_dir()), None)


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    """The store without the right to write.

    Raises:
        ConfigError: It cannot be read as MLflow's.
    """
    try:
        with ExitStack() as stack:
            yield stack.enter_context(closing(_opened(file, stack)))
    except sqlite3.Error as error:
        raise ConfigError(
            f"{file}: cannot be read as MLflow's store ({error}). Where it is damaged, "
            f"`sqlite3 {file.name} .recover` saves what can be saved; the journal beside it still "
            "has every rollout."
        ) from error


def _opened(file: Path, stack: ExitStack) -> sqlite3.Connection:
    database = _connection(file)
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        unfinished = file.with_name(f"{file.name}-journal")
        if not unfinished.exists():
            raise
        # A kill left a transaction half written. Taking it back is writing: done on a copy.
        copies = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for path in (file, unfinished):
            shutil.copy(path, copies / path.name)
        with closing(sqlite3.connect(copies / file.name)) as mended:
            mended.execute("SELECT count(*) FROM sqlite_master").fetchone()
        database = _connection(copies / file.name)
    return database


def _connection(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file.resolve().as_uri() + "?mode=ro", uri=True, isolation_level=None)


class ServedLabBook(LabBook):
    """A tracking server, or whatever else MLflow's client knows.

    Args:
        uri: For MLflow's client.
        shown: The same for a person, without a password.
        credentials: MLflow's variables with user and password.
    """

    def __init__(self, uri: str, shown: str, credentials: Mapping[str, str] | None = None) -> None:
        # Its import takes seconds, and a directory's own store needs none of it.
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._trouble: type[Exception] = MlflowException
        self._client: Any = MlflowClient(tracking_uri=uri)
        self.uri = shown
        self._credentials = dict(credentials or {})
        with self._asking():
            experiments = [e.experiment_id for e in self._paged("search_experiments")]
            runs = self._paged("search_runs", experiments, order_by=["start_time ASC"])
        super().__init__(shown, [_of_client(run) for run in runs])

    def metrics(self, run_id: str) -> dict[str, Points]:
        with self._asking(), ThreadPoolExecutor(_AT_ONCE) as pool:
            keys = sorted(self._client.get_run(run_id).data.metrics)
            return dict(zip(keys, pool.map(partial(self._points, run_id), keys), strict=True))

    def _points(self, run_id: str, key: str) -> Points:
        history = self._client.get_metric_history(run_id, key)
        last = {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}
        return tuple(sorted(last.items()))

    def _paged(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = getattr(self._client, method)(
                *arguments, max_results=_PAGE, page_token=token, **options
            )
            found += page
            token = page.token
            if not token:
                return found

    @contextmanager
    def _asking(self) -> Iterator[None]:
        retries = os.environ.get(_RETRIES, "1")  # else it tries for minutes before it says anything
        try:
            with _environment({**self._credentials, _RETRIES: retries}):
                yield
        except self._trouble as error:
            raise ConfigError(
                f"tracking_uri={self.uri}: MLflow cannot be read there ({plain_reason(error)}). "
                "Expected a running tracking server such as http://127.0.0.1:5000, or "
                "sqlite:///FILE."
            ) from error


def _of_client(run: Any) -> TrackedRun:
    info = run.info
    return TrackedRun(
        info.run_id,
        info.run_name or "",
        info.status,
        info.start_time / 1000,
        info.end_time / 1000 if info.end_time else None,
        dict(run.data.params),
        dict(run.data.tags),
        artifacts=_local_artifacts(info.artifact_uri),
    )
