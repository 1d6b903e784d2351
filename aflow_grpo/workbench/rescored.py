"""A run's stored rollouts judged and rewarded by other settings, without an API call.

Starts from the settings that each rollout was stored with; the caller overlays them. The journal is
opened for reading only, so a run may go on meanwhile. What is computed: `training.rescoring`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.llm.journal_files import journal_path, journal_paths
from aflow_grpo.llm.rollout_store import RolloutStore, unique_rows
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.stored import unpack_rollout
from aflow_grpo.terminal import progress
from aflow_grpo.training.open_run import SandboxSettings
from aflow_grpo.training.rescoring import Comparison, Rescorer, RescoreSettings, part_metrics
from aflow_grpo.training.run_directory import recorded_store
from aflow_grpo.training.storing import settings_text
from aflow_grpo.training.tracking import RunLogger
from aflow_grpo.whole_file import WholeFile

__all__ = ["RescoredRun", "log_rescored", "rescore_runs", "write_rescored"]

_Overlay = Callable[[Mapping[str, Any]], tuple[RewardSettings, ScoringSettings]]
"""From stored settings, `reward` and `scoring` as plain mappings, to those that count."""


@dataclass
class RescoredRun:
    """One run's new figures."""

    run: str
    settings: RescoreSettings
    comparison: Comparison = field(default_factory=Comparison)
    metrics: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)
    """(part, step, metrics)."""


async def rescore_runs(
    root: Path,
    own: _Overlay,
    new: _Overlay,
    *,
    run_id: str | None = None,
    rescore_answers: bool = False,
    problems: Path | None = None,
) -> list[RescoredRun]:
    """Every run in a directory by new settings.

    Args:
        root: The runs' directory.
        own: Makes the settings that rollouts were stored with.
        new: Makes those, overlaid.
        run_id: Only this MLflow run.
        rescore_answers: Judge every answer again, also where `new` scores as `own` does.
        problems: JSONL file of problems that replace the stored ones of the same id.

    Raises:
        ConfigError: No rollouts are stored, or none of `run_id`.
        DataError: A file cannot be read.
    """
    with ExitStack() as stack:
        # Without any, the first one's own message says what is missing.
        paths = journal_paths(root) or [journal_path(root)]
        stores = [stack.enter_context(RolloutStore(path)) for path in paths]
        # Of the ranks of a run, each has rollouts of the same parts.
        there = dict.fromkeys(part[:3] for store in stores for part in store.parts())
        parts = [part for part in there if run_id in (None, part[0])]
        if not parts:
            raise ConfigError(_nothing_stored(stores[0].path, {part[0] for part in there}, run_id))
        replaced = _read_problems(problems)
        stored_rollouts = sum(
            part[3] for store in stores for part in store.parts() if run_id in (None, part[0])
        )
        shown = stack.enter_context(progress("judging", stored_rollouts))
        runs: dict[str, RescoredRun] = {}
        for run, part, stored in parts:
            settings = _settings(stored, new)
            judge = rescore_answers or settings.scoring != _settings(stored, own).scoring
            rescored = runs.setdefault(run, RescoredRun(run, settings))
            rescored.settings = settings
            async with Rescorer(settings, judge=judge, problems=replaced) as rescorer:
                for step, old in _steps(stores, run, part, stored):
                    found = await rescorer.rescore(old, part)
                    rescored.comparison.add(part, old, found)
                    rescored.metrics.append((part, step, part_metrics(found, part, rescorer)))
                    shown.advance(len(found), f"{part}, step {step}")
    return list(runs.values())


def _settings(stored: str, overlay: _Overlay) -> RescoreSettings:
    known = json.loads(stored)
    reward, scoring = overlay({name: known[name] for name in ("reward", "scoring")})
    return RescoreSettings(
        reward, scoring, SandboxSettings(**known["sandbox"]), tuple(known["operators"])
    )


def _nothing_stored(path: Path, there: Collection[str], run_id: str | None) -> str:
    if there:
        return (
            f"--run_id={run_id}: {path} holds no rollouts of that run, but of "
            f"{', '.join(sorted(there))}. Give one of these, or leave it out."
        )
    return (
        f"{path}: holds no rollouts. Expected those of a run with llm.store_rollouts on "
        "(the default) that has ended at least one step; run or resume it."
    )


def _steps(
    stores: Sequence[RolloutStore], run: str, part: str, settings: str
) -> Iterator[tuple[int, list[Rollout]]]:
    rows = unique_rows([store.rows(run, part, settings) for store in stores])
    for step, members in groupby(rows, key=lambda row: row.step):
        yield step, [unpack_rollout(row.problem, row.content) for row in members]


def _read_problems(path: Path | None) -> Mapping[str, Problem]:
    if path is None:
        return {}
    problems = {problem.id: problem for problem in read_problems(path)}
    if not problems:
        raise DataError(f"--problems={path}: holds no problem. Expected one JSON object a line.")
    return problems


# What comes out


def write_rescored(runs: Sequence[RescoredRun], path: Path) -> None:
    """Every step's metrics, all at once: one JSON object a step, or one CSV line a figure.

    Raises:
        ConfigError: The file cannot be written.
    """
    rows = [(r.run, part, step, found) for r in runs for part, step, found in r.metrics]
    whole: WholeFile | None = None
    try:
        whole = WholeFile.at(path)
        with whole.part.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                table = csv.writer(file)
                table.writerow(["run", "part", "step", "name", "value"])
                for run, part, step, metrics in rows:
                    table.writerows([run, part, step, k, repr(v)] for k, v in metrics.items())
            else:
                for run, part, step, metrics in rows:
                    line = {"run": run, "part": part, "step": step, "metrics": metrics}
                    file.write(json.dumps(line) + "\n")
        whole.keep()
    except OSError as error:
        if whole is not None:
            whole.discard()
        raise ConfigError(
            f"--output={path}: cannot be written ({error.strerror or error}). Give a file that you "
            "may write, e.g. --output rescored.csv."
        ) from error


def log_rescored(runs: Sequence[RescoredRun], root: Path) -> list[str]:
    """One new MLflow run for each that the directory's own lab book knows; their names."""
    own = root / "mlflow.db"
    uri = f"sqlite:///{own.resolve()}" if own.is_file() else recorded_store(root)
    if uri is None:
        return []
    names = []
    for rescored in runs:
        if RunLogger(root, tracking_uri=uri).status_of(rescored.run) is None:
            continue
        name = f"rescore-{rescored.run[:8]}"
        tags = {"aflow_grpo.verb": "rescore", "mlflow.parentRunId": rescored.run}
        logger = RunLogger(root, run_name=name, tracking_uri=uri, tags=tags)
        logger.log_settings(_plain(rescored.settings))
        for _, step, metrics in rescored.metrics:
            logger.log_metrics(metrics, step=step)
        logger.finalize("success")
        names.append(name)
    return names


def _plain(settings: RescoreSettings) -> dict[str, Any]:
    plain = json.loads(settings_text({"reward": settings.reward, "scoring": settings.scoring}))
    return {"rollout": plain}
