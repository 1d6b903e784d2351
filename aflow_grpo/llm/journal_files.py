"""Where journals lie, and how they are opened for reading beside a run that writes them.

One file per process of a run: `journal.db`, and `journal-rank1.db` and so on under DDP. Not here:
what is in them (`journal_schema`, `rollout_store`), writing (`journal`).
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from aflow_grpo.errors import ConfigError

__all__ = ["billed_by_run", "journal_path", "journal_paths", "open_to_read", "rank_of"]

BILLED_BY_RUN = "SELECT run, sum(billed_usd) FROM calls GROUP BY run"
_BILLED_SINCE = 4
"""The schema version that brought the column."""
_NAME = re.compile(r"journal(?:-rank(?P<rank>[1-9][0-9]*))?\.db")


def journal_path(root: Path, rank: int = 0) -> Path:
    """Where the process of rank `rank` of a run in `root` keeps its journal."""
    return root / (f"journal-rank{rank}.db" if rank else "journal.db")


def journal_paths(root: Path) -> list[Path]:
    """The journals that lie in `root`, by rank; none where there is no such directory."""
    found = [(m, path) for path in root.glob("journal*.db") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted((int(m["rank"] or 0), path) for m, path in found)]


def rank_of(path: Path) -> int:
    """The rank whose journal `path` is, by its name."""
    match = _NAME.fullmatch(path.name)
    return int((match and match["rank"]) or 0)


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection without the right to write; a run may be writing the file meanwhile.

    A read-only directory will do, unless it holds a write-ahead log without its -shm file.

    Raises:
        ConfigError: There is no such file, or it is no database.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file, so nothing is stored there. Expected the directory of a run "
            "(its trainer.default_root_dir) with llm.journal on."
        )
    try:
        return _open(path)
    except sqlite3.Error as error:
        raise ConfigError(
            f"{path}: cannot be read as a journal ({error}). Expected the file that a run with "
            "llm.journal on leaves; where the directory is read-only, read a copy of it with its "
            "-wal file."
        ) from error


def billed_by_run(path: Path) -> dict[str, float]:
    """Run -> what was paid, in USD, by the journal at `path`; nothing before it has tables.

    Raises:
        ConfigError: It cannot be read.
    """
    with closing(open_to_read(path)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < _BILLED_SINCE:
            return {}
        return dict(connection.execute(BILLED_BY_RUN))


def _open(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri() + "?mode=ro"
    # For one thread at a time, which need not be the one that opened it.
    options: dict[str, Any] = {"uri": True, "isolation_level": None, "check_same_thread": False}
    connection: sqlite3.Connection = sqlite3.connect(uri, **options)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        connection = sqlite3.connect(uri + "&immutable=1", **options)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
