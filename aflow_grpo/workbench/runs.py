"""A run, finished or running, as one record: `read_run`.

A run is a directory (`trainer.default_root_dir`) with a lab book, a journal, or both. Reading
changes nothing, so it may happen while a run goes on and where nothing may be written. Not here:
how MLflow's store is read (`lab_book`), figures of the journal's calls (`journal_figures`).
"""

from __future__ import annotations

import difflib
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal_files import journal_paths
from aflow_grpo.llm.rollout_store import RolloutStore
from aflow_grpo.records import Rollout
from aflow_grpo.workbench.journal_figures import (
    By,
    Figures,
    StoredRollout,
    read_figures,
    runs_in,
    stored_rollouts,
)
from aflow_grpo.workbench.lab_book import (
    LabBook,
    Points,
    TrackedRun,
    open_lab_book,
    store_file,
)

__all__ = ["Evaluation", "Points", "Run", "TrackedRun", "read_run"]

_JUDGING = ("validate", "test")
_SHORT = 8


@dataclass(frozen=True)
class Evaluation:
    """The rollouts of one full evaluation."""

    split: str
    """``val`` or ``test``."""
    run_id: str
    """The MLflow run that made it, or the verb where there is none."""
    step: int
    """Completed iterations of the policy that was judged."""
    greedy: tuple[Rollout, ...]
    """One for each problem."""
    sampled: tuple[Rollout, ...]
    """`model.evaluation.samples` for each problem; none where that is 0."""


@dataclass(frozen=True)
class Run:
    """What is known of one run."""

    directory: Path | None
    """None where only a tracking server knows of it."""
    tracked: TrackedRun | None
    """Its MLflow run; None where it was logged elsewhere or nowhere."""
    evaluations: tuple[TrackedRun, ...] = ()
    """The `validate` and `test` runs that belong to it, oldest first."""
    journals: tuple[Path, ...] = ()
    """One file for each rank; none where `llm.journal` was off."""
    journal_runs: tuple[str, ...] = ()
    """The names under which its rollouts and calls are in the journals, its own first."""
    journal_parts: Mapping[tuple[str, str], int] | None = None
    """(name, part) -> stored rollouts; None where the journals hold none of any run."""

    @property
    def id(self) -> str:
        """The MLflow run's id; without one, the verb."""
        return self.tracked.id if self.tracked else next(iter(self.journal_runs), "")

    @property
    def name(self) -> str:
        """Short and readable: the directory's name, else MLflow's."""
        if self.directory is not None:
            return self.directory.resolve().name
        return (self.tracked.name or self.id[:_SHORT]) if self.tracked else ""

    @property
    def running(self) -> bool:
        """Whether MLflow says that it has not ended; a killed process leaves that too."""
        return self.tracked is not None and self.tracked.status == "RUNNING"

    @property
    def params(self) -> Mapping[str, str]:
        """The flattened settings."""
        return self.tracked.params if self.tracked else {}

    @property
    def tags(self) -> Mapping[str, str]:
        """MLflow's tags and ours."""
        return self.tracked.tags if self.tracked else {}

    @property
    def metrics(self) -> Mapping[str, Points]:
        """Its own metrics: name -> (step, last value)."""
        return self.tracked.metrics if self.tracked else {}

    def rollouts(self, parts: Collection[str] | None = None) -> Iterator[StoredRollout]:
        """Its stored rollouts, part by part and step by step; those of its evaluations too.

        Args:
            parts: E.g. ``train``, ``val``, ``val/greedy``, ``test``; None takes every part.

        Raises:
            ConfigError: A journal cannot be read.
            DataError: A rollout cannot.
        """
        known = self.journal_parts or {}
        for name in self.journal_runs:
            wanted = {p for n, p in known if n == name and (parts is None or p in parts)}
            if wanted:
                with _journals_as_they_are(self.journals):
                    yield from stored_rollouts(self.journals, name, wanted)

    def evaluations_of(self, split: str) -> list[Evaluation]:
        """Every full evaluation whose rollouts are stored, oldest first."""
        found: dict[tuple[str, int], tuple[list[Rollout], list[Rollout]]] = {}
        for stored in self.rollouts((split, f"{split}/greedy")):
            greedy, sampled = found.setdefault((stored.run, stored.step), ([], []))
            (greedy if stored.part.endswith("/greedy") else sampled).append(stored.rollout)
        age = {name: i for i, name in enumerate(self.journal_runs)}
        return [
            Evaluation(split, name, step, tuple(greedy), tuple(sampled))
            for (name, step), (greedy, sampled) in sorted(
                found.items(), key=lambda item: (age[item[0][0]], item[0][1])
            )
        ]

    def figures(self, by: By = "operator") -> list[Figures]:
        """Calls, tokens and USD of its journal, one for each of `journal_runs`."""
        if not self.journals:
            return []
        with _journals_as_they_are(self.journals):
            there = runs_in(self.journals)
            folder = self.journals[0].parent
            return [read_figures(folder, by, name) for name in self.journal_runs if name in there]

    def last_metrics(self, split: str) -> dict[str, tuple[int, float]]:
        """Metric -> (step, value) as last logged under this split, by whichever run did so."""
        found: dict[str, tuple[int, float]] = {}
        for run in (self.tracked, *self.evaluations):
            for name, points in (run.metrics if run else {}).items():
                if name.startswith(f"{split}/") and points:
                    found[name] = points[-1]
        return found


def read_run(path_or_id: str | Path, *, tracking_uri: str | None = None) -> Run:
    """What is known of a run; reads only.

    Args:
        path_or_id: The run's directory, where the newest `fit` counts, or where there is none the
            newest run; ``DIRECTORY:ID`` for another run in it; or the id of an MLflow run, when
            `tracking_uri` (or the environment's MLFLOW_TRACKING_URI) says where. The first
            characters of an id and a run's name do too, where only one run has them.
        tracking_uri: MLflow's store or server; default is what the directory says.

    Raises:
        ConfigError: No such directory or run, nothing in it, or a database that cannot be read.
    """
    directory, wanted = _directory_and_id(path_or_id)
    if directory is None:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            raise ConfigError(_no_directory(str(path_or_id)))
        book = open_lab_book(uri)
        named = _chosen(book, wanted)
        return _run(_directory_of(named, book), book, named)
    memory = _memory(directory)
    opened = _book_of(directory, memory, tracking_uri)
    if opened is None:
        return _journal_only(directory, wanted)
    tracked = _chosen(opened, wanted) if wanted else _newest(directory, opened, memory)
    return _run(directory, opened, tracked)


# Which run is meant


def _directory_and_id(given: str | Path) -> tuple[Path | None, str]:
    """The directory, if it is one, and the id, if one is told."""
    path = Path(given)
    if path.is_dir():
        return path, ""
    folder, colon, run_id = str(given).rpartition(":")
    if colon and Path(folder).is_dir():
        return Path(folder), run_id
    return None, str(given)


def _no_directory(given: str) -> str:
    path = Path(given)
    if path.is_file():
        return (
            f"{given}: a file. Expected the directory of a run (its trainer.default_root_dir), "
            f"perhaps {path.parent}."
        )
    near = difflib.get_close_matches(path.name, _neighbours(path.parent), n=1, cutoff=0.5)
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    return (
        f"{given}: no such directory. Expected that of a run (its trainer.default_root_dir), or "
        f"the id of an MLflow run together with --tracking_uri.{hint}"
    )


def _neighbours(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _memory(directory: Path) -> Mapping[str, str]:
    """What `run.json` says; nothing where there is none."""
    path = directory / "run.json"
    try:
        memory = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        memory = None
    if not isinstance(memory, dict):
        raise ConfigError(
            f"{path}: not readable as JSON. It names the directory's MLflow run; without it the "
            "newest one in mlflow.db is taken."
        )
    return {str(key): str(value) for key, value in memory.items() if value}


def _book_of(directory: Path, memory: Mapping[str, str], uri: str | None) -> LabBook | None:
    """Where `run.json` says; a file that lies in the directory before the path that it had."""
    if uri is not None:
        return open_lab_book(uri)
    named = memory.get("tracking_uri")
    file = store_file(named) if named else None
    if named is not None and file is None:
        return open_lab_book(named)
    # The directory may have been moved since. Without any, the journal may have something to say.
    for store in (directory / "mlflow.db", file):
        if store is not None and store.is_file():
            return open_lab_book(f"sqlite:///{store}")
    if file is not None and not journal_paths(directory):
        return open_lab_book(f"sqlite:///{file}")  # says that it is not there
    return None


def _newest(directory: Path, book: LabBook, memory: Mapping[str, str]) -> TrackedRun | None:
    fit = book.find(memory.get("mlflow_run_id", ""))
    if fit is not None:
        return fit
    own = [head for head in book.heads if book.find(head.parent or "") is None]
    fits = [head for head in own if head.verb == "fit"] or own
    if not fits and not journal_paths(directory):
        raise ConfigError(
            f"{directory}: its lab book ({book.uri}) holds no run, and there is no journal. "
            "Expected the directory of a run that has begun."
        )
    return fits[-1] if fits else None


def _chosen(book: LabBook, wanted: str) -> TrackedRun:
    """The run of this id, of an id that begins so, or of this name."""
    exact = [head for head in book.heads if wanted in (head.id, head.name)]
    found = exact or [head for head in book.heads if head.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    known = {text: head for head in book.heads for text in (head.id, head.name)}
    if found:
        which = ", ".join(head.id for head in found)
        raise ConfigError(f"run {wanted!r}: {book.uri} has several of them: {which}. Give the id.")
    if not known:
        raise ConfigError(f"run {wanted!r}: {book.uri} holds no run.")
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.3)
    newest = near or [book.heads[-1].id]
    head = known[newest[0]]
    raise ConfigError(
        f"run {wanted!r}: {book.uri} knows no such run. "
        f"{'The nearest is' if near else 'Its newest is'} {head.id} ({head.name})."
    )


def _directory_of(tracked: TrackedRun, book: LabBook) -> Path | None:
    """Where the journal of a run lies that was asked for by its id."""
    file = store_file(book.uri)
    told = tracked.params.get("trainer.default_root_dir")
    candidates = [*([file.parent] if file else []), *([Path(told)] if told else [])]
    return next((path for path in candidates if _is_of(path, tracked)), None)


def _is_of(path: Path, tracked: TrackedRun) -> bool:
    ids = (tracked.id, tracked.parent)
    return path.is_dir() and (
        _memory(path).get("mlflow_run_id") in ids or (path / "mlflow.db").is_file()
    )


# Everything about it


def _run(directory: Path | None, book: LabBook, tracked: TrackedRun | None) -> Run:
    if tracked is None:
        assert directory is not None  # else a run was asked for by its id
        return _journal_only(directory, "")
    tracked = replace(tracked, metrics=book.metrics(tracked.id))
    children = tuple(
        replace(head, metrics=book.metrics(head.id))
        for head in book.children(tracked.id)
        if head.verb in _JUDGING
    )
    journals = _journals(directory, tracked.params)
    parts = _parts(journals)
    names = [tracked.id, *(head.id for head in children)]
    return Run(directory, tracked, children, journals, tuple(names), parts)


def _journal_only(directory: Path, wanted: str) -> Run:
    journals = _journals(directory, {})
    if not journals:
        raise ConfigError(
            f"{directory}: holds neither a lab book (mlflow.db, run.json) nor a journal "
            "(journal.db). Expected the directory of a run (its trainer.default_root_dir)."
        )
    parts = _parts(journals)
    names = list(dict.fromkeys(name for name, _ in parts or {}))
    if wanted and wanted not in names:
        raise ConfigError(
            f"run {wanted!r}: {directory} has no lab book, and its journal knows of "
            f"{', '.join(names) or 'no run'}."
        )
    return Run(directory, None, (), journals, tuple([wanted] if wanted else names), parts)


def _journals(directory: Path | None, params: Mapping[str, str]) -> tuple[Path, ...]:
    told = params.get("llm.journal_dir", "None")
    folders = [Path(told)] if told != "None" else []
    for folder in [*([directory] if directory else []), *folders]:
        found = journal_paths(folder)
        if found:
            return tuple(found)
    return ()


def _parts(journals: Sequence[Path]) -> dict[tuple[str, str], int] | None:
    """How many rollouts of which run and part; a journal of an older version has none."""
    counts: dict[tuple[str, str], int] = {}
    with ExitStack() as stack, _journals_as_they_are(journals):
        for path in journals:
            for name, part, _, n in stack.enter_context(RolloutStore(path)).parts():
                counts[name, part] = counts.get((name, part), 0) + n
    return counts or None


@contextmanager
def _journals_as_they_are(paths: Sequence[Path]) -> Iterator[None]:
    """What SQLite says of a damaged journal, as an error for a person."""
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigError(
            f"{', '.join(map(str, paths))}: cannot be read ({error}). Where a journal is damaged, "
            "`sqlite3 journal.db .recover` saves what can be saved."
        ) from error
