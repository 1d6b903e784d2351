"""`aflow-grpo rescore`: a run's rewards and metrics under other settings, without an API call.

Starts from the settings that each rollout was stored with; options overlay them. The journal is
opened for reading only, so a run may go on meanwhile. What is computed: `training.rescoring`.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import AFlowError, ConfigError, DataError
from aflow_grpo.llm.journal_files import journal_path, journal_paths
from aflow_grpo.llm.rollout_store import RolloutStore, unique_rows
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.stored import unpack_rollout
from aflow_grpo.training.open_run import SandboxSettings
from aflow_grpo.training.rescoring import Comparison, Rescorer, RescoreSettings, part_metrics
from aflow_grpo.training.storing import settings_text
from aflow_grpo.training.tracking import RunLogger

__all__ = ["run_rescore"]


@dataclass
class _Rescored:
    """One run's new figures."""

    run: str
    settings: RescoreSettings
    comparison: Comparison = field(default_factory=Comparison)
    metrics: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)
    """(part, step, metrics)."""


def run_rescore(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings."""
    parser = _parser()
    options = parser.parse_args(list(arguments))
    try:
        with ExitStack() as stack:
            # Without any, the first one's own message says what is missing.
            paths = journal_paths(options.run) or [journal_path(options.run)]
            stores = [stack.enter_context(RolloutStore(path)) for path in paths]
            runs = asyncio.run(_rescore(stores, parser, list(arguments), options))
        output = options.output or options.run / "rescored.jsonl"
        _write(runs, output)
        logged = _log(runs, options.run) if options.mlflow else []
    except AFlowError as error:
        print(f"aflow-grpo rescore: {error}", file=sys.stderr)
        return 2
    for rescored in runs:
        _show(rescored)
    print(f"Metrics of {sum(len(r.metrics) for r in runs)} steps: {output}")
    for name in logged:
        print(f"MLflow run: {name}")
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="aflow-grpo rescore",
        description="Rewards and metrics of a run's stored rollouts under other settings. Options "
        "overlay the settings that the run had.",
    )
    parser.add_argument("run", type=Path, help="The run's directory (trainer.default_root_dir).")
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument(
        "--run_id", type=str, default=None, help="Only this MLflow run; default: every run there."
    )
    parser.add_argument(
        "--rescore_answers",
        type=bool,
        default=False,
        help="Judge every answer again, also where the scoring settings are the run's own.",
    )
    parser.add_argument(
        "--problems",
        type=Path,
        default=None,
        help="JSONL file of problems that replace the stored ones of the same id.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="Where the metrics go, .jsonl or .csv; default: rescored.jsonl in the directory.",
    )
    parser.add_argument(
        "--mlflow",
        type=bool,
        default=True,
        help="Log the metrics to a new MLflow run where the directory has a lab book.",
    )
    parser.add_class_arguments(RewardSettings, "reward")
    parser.add_class_arguments(ScoringSettings, "scoring")
    return parser


def _settings(parser: VerbParser, stored: str, arguments: Sequence[str]) -> RescoreSettings:
    """The settings that rollouts were stored with, overlaid by the options in `arguments`."""
    known = json.loads(stored)
    layer = {name: known[name] for name in ("reward", "scoring")}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(json.dumps(layer))
        file.flush()
        options = parser.parse_args([f"--config={file.name}", *arguments])
    made = parser.instantiate(options)
    return RescoreSettings(
        made.reward, made.scoring, SandboxSettings(**known["sandbox"]), tuple(known["operators"])
    )


async def _rescore(
    stores: Sequence[RolloutStore],
    parser: VerbParser,
    arguments: Sequence[str],
    options: Any,
) -> list[_Rescored]:
    # Of the ranks of a run, each has rollouts of the same parts.
    there = dict.fromkeys(part[:3] for store in stores for part in store.parts())
    parts = [part for part in there if options.run_id in (None, part[0])]
    if not parts:
        raise ConfigError(_nothing_stored(stores[0].path, {part[0] for part in there}, options))
    problems = _read_problems(options.problems)
    runs: dict[str, _Rescored] = {}
    for run, part, stored in parts:
        settings = _settings(parser, stored, arguments)
        own = _settings(parser, stored, [str(options.run)])
        judge = options.rescore_answers or settings.scoring != own.scoring
        rescored = runs.setdefault(run, _Rescored(run, settings))
        rescored.settings = settings
        async with Rescorer(settings, judge=judge, problems=problems) as rescorer:
            for step, old in _steps(stores, run, part, stored):
                new = await rescorer.rescore(old, part)
                rescored.comparison.add(part, old, new)
                rescored.metrics.append((part, step, part_metrics(new, part, rescorer)))
    return list(runs.values())


def _nothing_stored(path: Path, there: Collection[str], options: Any) -> str:
    if there:
        return (
            f"--run_id={options.run_id}: {path} holds no rollouts of that run, but of "
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


def _write(runs: Sequence[_Rescored], path: Path) -> None:
    """Every step's metrics, all at once: one JSON object a step, or one CSV line a figure."""
    rows = [(r.run, part, step, found) for r in runs for part, step, found in r.metrics]
    part_path = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                table = csv.writer(file)
                table.writerow(["run", "part", "step", "name", "value"])
                for run, part, step, metrics in rows:
                    table.writerows([run, part, step, k, repr(v)] for k, v in metrics.items())
            else:
                for run, part, step, metrics in rows:
                    line = {"run": run, "part": part, "step": step, "metrics": metrics}
                    file.write(json.dumps(line) + "\n")
        part_path.replace(path)
    except OSError as error:
        raise ConfigError(
            f"--output={path}: cannot be written ({error.strerror or error}). Give a file that you "
            "may write, e.g. --output rescored.csv."
        ) from error


def _log(runs: Sequence[_Rescored], root: Path) -> list[str]:
    """One new MLflow run for each that the directory's own lab book knows; their names."""
    if not (root / "mlflow.db").is_file():
        return []
    names = []
    for rescored in runs:
        if RunLogger(root).status_of(rescored.run) is None:
            continue
        name = f"rescore-{rescored.run[:8]}"
        tags = {"aflow_grpo.verb": "rescore", "mlflow.parentRunId": rescored.run}
        logger = RunLogger(root, run_name=name, tags=tags)
        logger.log_settings(_plain(rescored.settings))
        for _, step, metrics in rescored.metrics:
            logger.log_metrics(metrics, step=step)
        logger.finalize("success")
        names.append(name)
    return names


def _plain(settings: RescoreSettings) -> dict[str, Any]:
    plain = json.loads(settings_text({"reward": settings.reward, "scoring": settings.scoring}))
    return {"rollout": plain}


def _show(rescored: _Rescored) -> None:
    found = rescored.comparison
    table = Table(title=f"run {rescored.run}", title_justify="left")
    table.add_column("part")
    table.add_column("domain")
    for name in ("rollouts", "masked", "reward", "accuracy", "changed"):
        table.add_column(name, justify="right")
    for part, domain, tally in found.rows:
        n = len(tally.new_rewards)
        reward = accuracy = "-"
        if n:
            reward = f"{fmean(tally.old_rewards):+.3f} → {fmean(tally.new_rewards):+.3f}"
            accuracy = f"{tally.old_right / n:.1%} → {tally.new_right / n:.1%}"
        table.add_row(
            part, domain, str(n + tally.masked), str(tally.masked), reward, accuracy,
            str(tally.changed), end_section=False,
        )  # fmt: skip
    Console(width=max(100, Console().width)).print(table)
    print(f"{found.changed} of {found.rollouts} rollouts have another score or reward.")
