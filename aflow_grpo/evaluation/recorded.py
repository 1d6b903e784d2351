"""The recorded runs of gpt-4o-mini under discovered workflows, as score tables.

The files lie in `recorded_runs/` of the folder that AFLOW_GRPO_DATA names; nothing of them is in
this repository. Some carry CRLF line ends and a title line before the header. Workflows with fewer
than four repeats (two of MATH, which crashed) are left out, so that a table has no holes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aflow_grpo.errors import DataError
from aflow_grpo.evaluation.scores import ScoreTable

__all__ = ["RECORDED_DATASETS", "Recorded", "read_recorded"]

RECORDED_DATASETS = ("GSM8K", "MATH", "HumanEval", "MBPP", "DROP", "HotpotQA")
_LEAST_REPEATS = 4
_ONE_CALL = {"1": "io"}


@dataclass(frozen=True)
class Recorded:
    """One dataset's recorded runs."""

    table: ScoreTable
    """Its workflows are called by their round, ``2``, ``3``, ..., and the first one ``io``."""
    questions: tuple[str, ...]
    """The problems' texts, in the table's order."""
    operators: dict[str, tuple[str, ...]]
    """Round -> its operator calls in source order; `*` marks a call in a loop."""


def read_recorded(folder: Path) -> dict[str, Recorded]:
    """All datasets of a `recorded_runs` folder.

    Raises:
        DataError: A file is missing, or has no header where one is expected.
    """
    texts = {
        row["problem_id"]: row["question"]
        for line in _text(folder / "problems.jsonl.gz").splitlines()
        if line.strip()
        for row in [json.loads(line)]
    }
    operators: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for row in _rows(folder / "workflows.csv", "dataset"):
        name = _ONE_CALL.get(row["workflow"], row["workflow"])
        operators[row["dataset"]][name] = tuple(row["operator_calls"].split())
    tables = _tables(folder)
    return {
        name: Recorded(
            tables[name],
            tuple(texts[problem] for problem in tables[name].problems),
            operators[name],
        )
        for name in RECORDED_DATASETS
    }


def _tables(folder: Path) -> dict[str, ScoreTable]:
    scores: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for row in _rows(folder / "scores.csv.gz", "dataset"):
        problems = scores.setdefault(row["dataset"], {}).setdefault(row["workflow"], {})
        problems.setdefault(row["problem_id"], {})[int(row["repeat"])] = float(row["score"])
    usd: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in _rows(folder / "run_costs.csv", "dataset"):
        per_problem = float(row["total_cost_usd"]) / int(row["problems"])
        usd[row["dataset"], row["workflow"]].append(per_problem)
    return {dataset: _table(dataset, by_workflow, usd) for dataset, by_workflow in scores.items()}


def _table(
    dataset: str,
    by_workflow: dict[str, dict[str, dict[int, float]]],
    usd: dict[tuple[str, str], list[float]],
) -> ScoreTable:
    repeats = {
        workflow: min(len(runs) for runs in problems.values())
        for workflow, problems in by_workflow.items()
    }
    kept = [name for name in sorted(by_workflow, key=int) if repeats[name] >= _LEAST_REPEATS]
    size = min(repeats[name] for name in kept)
    problems = sorted(by_workflow[kept[0]])
    cells = [
        [[by_workflow[name][problem][r] for r in sorted(by_workflow[name][problem])[:size]]
         for name in kept]
        for problem in problems
    ]  # fmt: skip
    costs = [float(np.mean(usd[dataset, name])) for name in kept]
    names = tuple(_ONE_CALL.get(name, name) for name in kept)
    return ScoreTable(dataset, tuple(problems), names, np.array(cells), np.array(costs))


def _rows(path: Path, first_column: str) -> list[dict[str, str]]:
    """The rows of a CSV file, whatever stands before its header."""
    lines = _text(path).splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(first_column + ",")]
    if not starts:
        raise DataError(f"{path}: no header line that begins with {first_column!r}")
    return list(csv.DictReader(lines[starts[0] :]))


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} is missing; point AFLOW_GRPO_DATA at the folder with real data")
    raw = path.read_bytes()
    if path.suffix == ".gz":
        with gzip.open(io.BytesIO(raw)) as file:
            raw = file.read()
    return raw.decode("utf-8-sig")
