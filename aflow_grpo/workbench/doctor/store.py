"""MLflow's store: can it be read, and does the installed MLflow know its tables?

Without importing mlflow (seconds): the database is opened for reading only, and the newest revision
of the installed MLflow is read from its migration files. A run's own database lies in the run's
directory; another store is named by `mlflow.tracking_uri`, `trainer.logger` or the environment's
`MLFLOW_TRACKING_URI`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from aflow_grpo.workbench.doctor.check import Check
from aflow_grpo.workbench.doctor.run_settings import RunSettings

__all__ = ["known_revisions", "store_checks", "tracking_uri"]

_REVISION = re.compile(r"^revision(?::[^=]*)?\s*=\s*[\"'](\w+)[\"']", re.MULTILINE)
_DOWN = re.compile(r"^down_revision(?::[^=]*)?\s*=\s*[\"'](\w+)[\"']", re.MULTILINE)
_VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(settings: RunSettings) -> str:
    """The store that the run would write to; empty for `mlflow.db` in its directory."""
    stated = settings.get("mlflow.tracking_uri")
    if stated:
        return str(stated)
    logger = settings.get("trainer.logger")
    for each in logger if isinstance(logger, list) else [logger]:
        if isinstance(each, dict):
            uri = (each.get("init_args") or {}).get("tracking_uri")
            if uri:
                return str(uri)
    return os.environ.get(_VARIABLE, "").strip()


def store_checks(settings: RunSettings, root: Path) -> Iterator[Check]:
    """The store in the run's directory, and the one that the settings name besides."""
    yield _database(root / "mlflow.db", "mlflow_store")
    uri = tracking_uri(settings)
    if not uri:
        return
    scheme = urlsplit(uri).scheme
    if scheme == "sqlite":
        yield _database(Path(uri.removeprefix("sqlite:///")), "mlflow_uri")
    elif scheme in ("http", "https"):
        host = urlsplit(uri).hostname or "?"
        found = f"server at {host} (not asked; --probe asks)"
        yield Check("mlflow_uri", "lab book", "ok", found)
    elif scheme in ("", "file") and not uri.startswith("databricks"):
        found = f"{uri} is a folder: MLflow 3 refuses its file store"
        fix = f"Use sqlite:///PATH/mlflow.db, or unset {_VARIABLE}."
        yield Check("mlflow_uri", "lab book", "failure", found, fix)
    else:
        kind = scheme or "databricks"
        yield Check("mlflow_uri", "lab book", "ok", f"a {kind} store (not looked at)")


def _database(path: Path, name: str) -> Check:
    if not path.exists():
        return Check(name, "lab book", "ok", f"{path} will be made by the first run")
    moved = "Move it away and a run makes a new one; or restore a copy."
    try:
        # Not immutable: another process may be writing.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
            runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error as error:
        found = f"{path} cannot be read as MLflow's ({error})"
        return Check(name, "lab book", "failure", found, moved)
    revision = str(rows[0][0]) if rows else ""
    known, newest = known_revisions()
    told = f"{path}: {runs} run{'s' * (runs != 1)}"
    if not newest or revision == newest:
        return Check(name, "lab book", "ok", f"{told}, tables as the installed MLflow has them")
    if revision in known:
        found = f"{told}, tables of an older MLflow ({revision})"
        fix = f"Copy the file, then: mlflow db upgrade sqlite:///{path.resolve()}"
        return Check(name, "lab book", "failure", found, fix)
    found = f"{told}, tables that the installed MLflow does not know ({revision or 'none'})"
    return Check(name, "lab book", "failure", found, "pip install -U 'mlflow<4'")


def known_revisions() -> tuple[frozenset[str], str]:
    """All revisions of the tables that the installed MLflow knows, and the newest."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        return frozenset(), ""
    folder = Path(spec.origin).parent / "store/db_migrations/versions"
    revisions, replaced = set(), set()
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8", errors="replace")[:4000]
        if found := _REVISION.search(text):
            revisions.add(found[1])
        if down := _DOWN.search(text):
            replaced.add(down[1])
    heads = revisions - replaced
    return frozenset(revisions), heads.pop() if len(heads) == 1 else ""
