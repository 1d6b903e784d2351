"""Made recorded runs in which the text tells which workflow solves a problem."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from aflow_grpo.evaluation.recorded import RECORDED_DATASETS

__all__ = ["write_told"]

_USD = {"1": 0.0002, "2": 0.0003, "3": 0.0004}
_CALLS = {"1": "custom", "2": "custom custom", "3": "custom* sc_ensemble"}


def write_told(folder: Path, problems: int) -> Path:
    """Red problems are solved by workflow 2, blue ones by 3, and a quarter of each by 1.

    Four repeats, all alike; every second problem is red, in all six datasets.
    """
    scores, costs, operators, texts = [], [], [], []
    for dataset in RECORDED_DATASETS:
        for workflow, usd in _USD.items():
            operators.append(f"{dataset},{workflow},{_CALLS[workflow]}")
            for repeat in range(1, 5):
                costs.append(f"{dataset},{workflow},{repeat},{problems},{usd * problems}")
        for p in range(problems):
            red, lucky = p % 2 == 0, p % 8 < 2
            right = {"1": lucky, "2": red, "3": not red}
            name = f"{dataset}-{p:03d}"
            scores += [
                f"{dataset},{workflow},{repeat},{name},{int(right[workflow])}"
                for workflow in _USD
                for repeat in range(1, 5)
            ]
            question = f"What {'red' if red else 'blue'} number comes after {p}?"
            texts.append(json.dumps({"problem_id": name, "dataset": dataset, "question": question}))
    for name, first, lines in (
        ("scores.csv.gz", "dataset,workflow,repeat,problem_id,score", scores),
        ("run_costs.csv", "dataset,workflow,repeat,problems,total_cost_usd", costs),
        ("workflows.csv", "dataset,workflow,operator_calls", operators),
        ("problems.jsonl.gz", "", texts),
    ):
        raw = "\n".join([*([first] if first else []), *lines, ""]).encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder
