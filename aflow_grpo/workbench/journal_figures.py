"""What the journals of a directory say in figures: calls, tokens, USD, faults, rollouts.

The calls of each file are read in one snapshot, so figures agree with each other while a run
writes. Not here: how they are shown (`commands.journal`), the export of every row
(`commands.journal_export`).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal_files import journal_paths, open_to_read
from aflow_grpo.llm.journal_schema import SCHEMA_VERSION, stored_text
from aflow_grpo.llm.rollout_store import RolloutStore, unique_rows
from aflow_grpo.records import Rollout
from aflow_grpo.stored import unpack_rollout

__all__ = ["By", "Figures", "StoredRollout", "Tally", "read_figures", "runs_in", "stored_rollouts"]

By = Literal["operator", "tier", "model", "run"]
_OF_RUN = "WHERE (:run IS NULL OR run = :run)"
_SUMS = f"""SELECT {{by}}, sum(answered), sum(1 - answered), sum(attempts), sum(prompt_tokens),
    sum(completion_tokens), sum(cached_tokens), sum(cost_usd), sum(billed_usd)
    FROM calls {_OF_RUN} GROUP BY 1"""
_OPERATOR_CALLS = f"""SELECT name, count(*) FROM (
    SELECT DISTINCT {{by}} AS name, run, execution, CAST(place AS INTEGER)
    FROM calls {_OF_RUN} AND place LIKE '%.%') GROUP BY name"""
"""A place begins with the number of its operator call; one without a point is in none."""


@dataclass
class Tally:
    """Sums over calls."""

    operator_calls: int = 0
    """Operator calls that asked the executor at least once."""
    rollout_operator_calls: int = 0
    """Operator calls of the stored rollouts, whether they asked or not."""
    api_calls: int = 0
    """Answered ones."""
    failed: int = 0
    """Calls that a tier gave up on."""
    attempts: int = 0
    """HTTP attempts."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    """List cost of the answers."""
    billed_usd: float = 0.0
    """What was paid, failed attempts included."""

    @property
    def tokens_per_call(self) -> float:
        """Prompt and completion tokens per answered call; 0 where there is none."""
        tokens = self.prompt_tokens + self.completion_tokens
        return tokens / self.api_calls if self.api_calls else 0.0

    def add(self, other: Tally) -> None:
        """Add the sums of other calls."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass
class Figures:
    """All figures of a directory's journals, of one run or of all."""

    paths: list[Path]
    by: By
    size_bytes: int = 0
    """On disk, write-ahead logs included."""
    runs: list[str] = field(default_factory=list)
    """In the order in which they began."""
    executions: int = 0
    """Executions of workflows that asked the executor."""
    first_s: float | None = None
    last_s: float | None = None
    """Unix time at which the first call began and the last one ended; None without calls."""
    total: Tally = field(default_factory=Tally)
    groups: dict[str, Tally] = field(default_factory=dict)
    """What `by` says -> sums."""
    tiers: Counter[str] = field(default_factory=Counter)
    """Tier -> answered calls."""
    faults: Counter[str] = field(default_factory=Counter)
    """Why a tier gave no reply -> calls."""
    rollouts: dict[str, Counter[str]] = field(default_factory=dict)
    """Part -> status -> rollouts."""


@dataclass(frozen=True)
class StoredRollout:
    """A rollout and where it belongs."""

    run: str
    part: str
    step: int
    rollout: Rollout


def read_figures(root: Path, by: By = "operator", run: str | None = None) -> Figures:
    """The figures of all journals in `root`.

    Args:
        root: A run's directory.
        by: What `groups` is grouped by.
        run: Only this MLflow run; None takes all.

    Raises:
        ConfigError: There is no journal, one cannot be read, or none knows the run.
        DataError: A stored rollout cannot be read.
    """
    paths = journal_paths(root)
    if not paths:
        raise ConfigError(
            f"{root}: holds no journal.db. Expected the directory of a run (its "
            "trainer.default_root_dir) with llm.journal on."
        )
    figures = Figures(paths, by)
    with ExitStack() as stack:
        databases = [stack.enter_context(closing(_open(path))) for path in paths]
        figures.runs = _in_order(databases)
        if run is not None:
            _require(run, figures.runs, root)
            figures.runs = [run]
        for path, database in zip(paths, databases, strict=True):
            figures.size_bytes += _size_bytes(path)
            _add_calls(figures, database, run)
    for stored in stored_rollouts(paths, run):
        _add_rollout(figures, stored)
    return figures


def runs_in(paths: Sequence[Path]) -> list[str]:
    """Every run that has calls or rollouts in these journals, in the order in which they began.

    Raises:
        ConfigError: A journal cannot be read.
    """
    with ExitStack() as stack:
        databases = [stack.enter_context(closing(_open(path))) for path in paths]
        return _in_order(databases)


def _in_order(databases: Sequence[sqlite3.Connection]) -> list[str]:
    began = [row for database in databases for row in _runs(database)]
    return list(dict.fromkeys(name for _, name in sorted(began)))


def stored_rollouts(
    paths: Sequence[Path], run: str | None = None, parts: Collection[str] | None = None
) -> Iterator[StoredRollout]:
    """Every rollout of the journals, by part and step, or those of one run or of some parts.

    Raises:
        ConfigError: A journal cannot be read.
        DataError: A rollout cannot.
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(RolloutStore(path)) for path in paths]
        there = dict.fromkeys(part[:3] for store in stores for part in store.parts())
        for found, part, settings in there:
            if run in (None, found) and (parts is None or part in parts):
                for row in unique_rows([s.rows(found, part, settings) for s in stores]):
                    rollout = unpack_rollout(row.problem, row.content)
                    yield StoredRollout(found, part, row.step, rollout)


def _open(path: Path) -> sqlite3.Connection:
    database = open_to_read(path)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        database.close()
        what = "resume its run, which migrates it"
        if version > SCHEMA_VERSION or not version:
            what = "read it with the version of the program that wrote it"
        raise ConfigError(f"{path}: schema version {version}, not {SCHEMA_VERSION}; {what}.")
    database.execute("BEGIN")
    return database


def _runs(database: sqlite3.Connection) -> list[tuple[float, str]]:
    """Every run that the file knows, and when its first call began; without calls, last."""
    select = """SELECT min(began), run FROM (
        SELECT min(started_s) AS began, run FROM calls GROUP BY run
        UNION ALL SELECT DISTINCT 1e12, run FROM rollouts) GROUP BY run"""
    return list(database.execute(select))


def _require(run: str, known: Sequence[str], root: Path) -> None:
    if run not in known:
        there = ", ".join(name or "'' (from an older version)" for name in known) or "none"
        raise ConfigError(
            f"--run={run}: the journals in {root} hold nothing of that run, but of {there}. Give "
            "one of these, or leave it out."
        )


def _size_bytes(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _add_calls(figures: Figures, database: sqlite3.Connection, run: str | None) -> None:
    of_run = {"run": run}
    for name, *sums in database.execute(_SUMS.format(by=figures.by), of_run):
        _group(figures, name).add(Tally(0, 0, *sums))
        figures.total.add(Tally(0, 0, *sums))
    for name, calls in database.execute(_OPERATOR_CALLS.format(by=figures.by), of_run):
        _group(figures, name).operator_calls += calls
    # An operator call may have asked two tiers, so this is not the sum of the groups.
    for _, calls in database.execute(_OPERATOR_CALLS.format(by="''"), of_run):
        figures.total.operator_calls += calls
    select = f"""SELECT count(DISTINCT run || ' ' || execution) FROM calls {_OF_RUN}
        AND place <> ''"""
    figures.executions += database.execute(select, of_run).fetchone()[0]
    select = f"SELECT min(started_s), max(started_s + seconds) FROM calls {_OF_RUN}"
    first_s, last_s = database.execute(select, of_run).fetchone()
    figures.first_s = min((s for s in (figures.first_s, first_s) if s is not None), default=None)
    figures.last_s = max((s for s in (figures.last_s, last_s) if s is not None), default=None)
    select = f"SELECT tier, count(*) FROM calls {_OF_RUN} AND answered = 1 GROUP BY tier"
    figures.tiers.update(dict(database.execute(select, of_run)))
    select = f"SELECT fault, count(*) FROM calls {_OF_RUN} AND answered = 0 GROUP BY fault"
    for fault, calls in database.execute(select, of_run):
        figures.faults[stored_text(fault)] += calls


def _add_rollout(figures: Figures, stored: StoredRollout) -> None:
    execution = stored.rollout.execution
    figures.rollouts.setdefault(stored.part, Counter())[execution.status.value] += 1
    for call in (*execution.calls, *execution.fallback_calls):
        figures.total.rollout_operator_calls += 1
        name = {"operator": call.operator, "run": stored.run}.get(figures.by)
        if name is not None:
            _group(figures, name).rollout_operator_calls += 1


def _group(figures: Figures, name: str) -> Tally:
    return figures.groups.setdefault(name, Tally())
