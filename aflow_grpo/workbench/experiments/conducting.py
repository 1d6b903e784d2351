"""One experiment from its name to its table: runs, analysis, files, and an entry in the lab book.

The output folder holds every run, `rows.jsonl` (or what the analysis keeps), `table.md`,
`curves.svg` (how the training runs went), and `experiment.json`, which says what was run on which
revision of the code. Not here: what an analysis does (`tables`, `trained_vs_fixed`, `searching`,
`recorded_choice`).
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.sources import DATA_VARIABLE
from aflow_grpo.errors import ConfigError
from aflow_grpo.whole_file import WholeFile
from aflow_grpo.workbench.experiments.histories import draw_histories
from aflow_grpo.workbench.experiments.plan import Experiment, WorldKind, read_experiment
from aflow_grpo.workbench.experiments.rows import Row, write_rows
from aflow_grpo.workbench.experiments.running import Cell, Workshop, cells_of
from aflow_grpo.workbench.experiments.tables import METRICS, arms_page

__all__ = ["conduct", "find_experiment"]

_FILE = "experiment.yaml"
_WANTED: Mapping[str, Sequence[str]] = {
    "arms": (),
    "trained_vs_fixed": ("policy", "select_per_domain"),
    "trained_vs_search": ("validation", "held_out"),
    "recorded_choice": (),
}
"""Every analysis and the options that it cannot do without."""


def find_experiment(name: str) -> Path:
    """The folder or file of an experiment, by its path or by its name in `experiments/`.

    Raises:
        ConfigError: There is none.
    """
    given = Path(name).expanduser()
    if given.is_file() or (given / _FILE).is_file():
        return given
    try:
        return shipped_path(f"experiments/{name}/{_FILE}")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{name}: no experiment of that name, and no such file or folder; expected one such "
            "as direct_execution, or the path of an experiment.yaml."
        ) from error


def conduct(
    name: str,
    *,
    output: Path | None = None,
    kind: WorldKind = "sealed",
    short: bool = False,
    variant: str | None = None,
    workers: int = 2,
) -> str:
    """Make an experiment, as far as it is not made, and return its tables as Markdown.

    Args:
        name: Of a folder in `experiments/`, or a path.
        output: Folder of the runs; default: `runs/NAME`, with `-VARIANT` for a variant and `-short`
            for the short version.
        kind: Which worlds.
        short: The smallest version that makes every part once.
        variant: The conditions, by their name in the experiment's file; None: its own.
        workers: Runs at the same time.

    Raises:
        ConfigError: The experiment or a setting is wrong.
        ExperimentFailed: A run ended with an error; what is done is kept.
    """
    if workers < 1:
        raise ConfigError(f"--workers={workers}: expected 1 or more.")
    experiment = read_experiment(find_experiment(name))
    if variant is not None:
        experiment = experiment.varied(variant)
    if short:
        experiment = experiment.shortened()
    root = output or Path("runs") / (experiment.name + ("-short" if short else ""))
    if kind == "development":
        root = root / "development"
    _check(experiment)
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        return _conducted(experiment, root, kind, short, workers)


def _conducted(
    experiment: Experiment, root: Path, kind: WorldKind, short: bool, workers: int
) -> str:
    started = time.monotonic()
    table, facts = _made(experiment, root, kind, short, workers)
    facts |= {
        "experiment": experiment.name,
        "worlds": kind,
        "short": short,
        "revision": _revision(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "seconds_of_this_call": round(time.monotonic() - started),
    }
    _keep(root / "table.md", table)
    _keep(root / "experiment.json", json.dumps(facts, indent=1) + "\n")
    if experiment.analysis != "recorded_choice":  # which keeps its own
        _log(experiment, root, facts)
    return table


def _check(experiment: Experiment) -> None:
    """What only the analysis would find out, hours later."""
    name, analysis = experiment.name, experiment.analysis
    if analysis not in _WANTED:
        raise ConfigError(f"{name}: analysis={analysis!r}: expected one of {', '.join(_WANTED)}.")
    for metric in experiment.metrics:
        if metric not in METRICS:
            raise ConfigError(
                f"{name}: metrics: there is no {metric!r}, expected some of {', '.join(METRICS)}."
            )
    for option in _WANTED[analysis]:
        if option not in experiment.options:
            raise ConfigError(f"{name}: options.{option} is missing; analysis={analysis} needs it.")
    if analysis in ("arms", "trained_vs_fixed") and not (experiment.arms and experiment.judge):
        raise ConfigError(f"{name}: expected arms, and sets to judge them on under judge.")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keeps a second experiment out of the folder; the system lets go of it when this one ends.

    Raises:
        ConfigError: Another one is in it.
    """
    with (root / "experiment.lock").open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{root}: an experiment is being made there. Wait for its end, or give another "
                "--output."
            ) from error
        yield


def _made(
    experiment: Experiment, root: Path, kind: WorldKind, short: bool, workers: int
) -> tuple[str, dict[str, Any]]:
    if experiment.analysis == "recorded_choice":
        return _recorded(experiment, root, short), {}
    replicates = experiment.replicates_in(kind)
    workshop = Workshop(experiment, root, tell=_tell)
    cells = cells_of(experiment, replicates)
    rows = workshop.make(cells, workers)
    _draw(root, cells, experiment.name)
    if experiment.analysis == "trained_vs_search":
        from aflow_grpo.workbench.experiments.search_table import search_table
        from aflow_grpo.workbench.experiments.searching import run_trained_vs_search

        return search_table([run_trained_vs_search(experiment, root, r) for r in replicates]), {}
    if experiment.analysis == "trained_vs_fixed":
        from aflow_grpo.workbench.experiments.trained_vs_fixed import baseline_rows, table

        mine = str(experiment.options["policy"])
        for replicate in replicates:
            of_policy = [r for r in rows if r.arm == mine and r.replicate == replicate.number]
            rows += baseline_rows(experiment, replicate, root, of_policy)
        write_rows(root / "rows.jsonl", rows)
        return table(rows), _facts(rows)
    write_rows(root / "rows.jsonl", rows)
    return arms_page(rows, experiment.reference, experiment.metrics), _facts(rows)


def _draw(root: Path, cells: Sequence[Cell], title: str) -> None:
    """Keep the picture, if there is one; the table does not hang on it."""
    try:
        picture = draw_histories(root, cells, title)
    except ConfigError as error:  # e.g. a tracking server has the metrics
        _tell(f"no {root / 'curves.svg'}: {error}")
        return
    if picture is not None:
        _keep(root / "curves.svg", picture)


def _recorded(experiment: Experiment, root: Path, short: bool) -> str:
    from aflow_grpo.workbench.experiments.recorded_choice import run_recorded_choice, table
    from aflow_grpo.workbench.experiments.recorded_choice_settings import settings_from

    if not os.environ.get(DATA_VARIABLE):
        raise ConfigError(
            f"{DATA_VARIABLE} is not set: it names the folder that holds recorded_runs/; "
            "experiments/recorded_choice/README.md says how to make it."
        )
    folder = Path(os.environ[DATA_VARIABLE]) / "recorded_runs"
    return table(run_recorded_choice(folder, settings_from(experiment.options), root, short))


def _facts(rows: Sequence[Row]) -> dict[str, Any]:
    return {"rows": len(rows), "cells": len({(row.arm, row.replicate, row.set) for row in rows})}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep(path: Path, text: str) -> None:
    whole = WholeFile.at(path)
    whole.part.write_text(text, encoding="utf-8")
    whole.keep()


def _revision() -> str:
    """The commit of the code, with `+` where files differ from it; empty outside a checkout."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():  # a repository around an installed package is not ours
        return ""
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _log(experiment: Experiment, root: Path, facts: dict[str, Any]) -> None:
    """A run in the lab book that holds the tables; the runs of the cells have their own."""
    from mlflow import MlflowClient  # seconds to import

    client = MlflowClient(tracking_uri=f"sqlite:///{root.resolve()}/mlflow.db")
    name = f"experiment/{experiment.name}"
    known = client.get_experiment_by_name(name)
    place = (
        known.experiment_id
        if known
        else client.create_experiment(
            name, artifact_location=(root.resolve() / "artifacts").as_uri()
        )
    )
    run = client.create_run(place, run_name=experiment.name).info.run_id
    for key, value in facts.items():
        client.log_param(run, key, value)
    client.log_dict(run, asdict(experiment), "experiment.json")
    for file in ("table.md", "rows.jsonl", "curves.svg"):
        if (root / file).is_file():
            client.log_artifact(run, str(root / file))
    client.set_terminated(run)
