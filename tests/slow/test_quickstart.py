"""The quickstart's promises, over three seeds, through the command line as a user runs it.

`nox -s quickstart` runs this and prints the table that experiments/quickstart/README.md shows.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DOMAINS = ("math", "code", "qa")
FRESH = "experiments/quickstart/fresh.yaml"
ROOT = Path(__file__).resolve().parents[2]


def aflow(*arguments: str) -> float:
    """Run a verb in a process of its own; returns its wall-clock seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "aflow_grpo", *arguments]
    finished = subprocess.run(command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert finished.returncode == 0
    return time.monotonic() - started


def metrics_of(directory: Path, verb: str) -> list[dict[str, float]]:
    """Per step, in order, the metrics of the newest run of `verb` in a run directory."""
    with sqlite3.connect(directory / "mlflow.db") as database:
        (run,) = database.execute(
            "select runs.run_uuid from runs join tags on tags.run_uuid = runs.run_uuid "
            "where tags.key = 'aflow_grpo.verb' and tags.value = ? order by start_time desc",
            (verb,),
        ).fetchone()
        rows = database.execute(
            "select step, key, value from metrics where run_uuid = ? order by step", (run,)
        ).fetchall()
    steps: dict[int, dict[str, float]] = {}
    for step, key, value in rows:
        steps.setdefault(step, {})[key] = value
    return list(steps.values())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quickstart_learns_to_write_workflows_that_run_and_solve(seed: int, tmp_path: Path) -> None:
    common = (
        "--config=configs/quickstart.yaml",
        f"--seed_everything={seed}",
        f"--trainer.default_root_dir={tmp_path}",
    )
    seconds = aflow("fit", *common)
    steps = metrics_of(tmp_path, "fit")
    before, after = steps[0], steps[-1]

    aflow("validate", *common, f"--config={FRESH}", "--ckpt_path=last")
    fresh = metrics_of(tmp_path, "validate")[-1]
    aflow("validate", *common, f"--config={FRESH}")
    untrained = metrics_of(tmp_path, "validate")[-1]
    aflow("validate", *common, f"--config={FRESH}", "--model.evaluation.strip_flaws=true")
    stripped = metrics_of(tmp_path, "validate")[-1]

    headline = ("direct_execution_rate", "direct_execution_rate_greedy", "accuracy")
    headline += ("accuracy_greedy", "reward", "reward_greedy", "fallback_rate")
    headline += ("cost_usd_per_problem",)
    report = {
        arm: {name: round(values[f"val/{name}"], 6) for name in headline}
        for arm, values in {
            "before": before,
            "after": after,
            "fresh untrained": untrained,
            "fresh untrained, flaws stripped": stripped,
            "fresh after": fresh,
        }.items()
    }
    print(json.dumps({"seed": seed, "fit_seconds": round(seconds), **report}, indent=1))

    for start in (before, untrained):
        assert start["val/direct_execution_rate"] <= 0.15
        assert start["val/direct_execution_rate_greedy"] <= 0.15
    for end in (after, fresh):
        assert end["val/direct_execution_rate"] >= 0.80
        assert end["val/direct_execution_rate_greedy"] >= 0.95
    for domain in DOMAINS:
        for start, end in ((before, after), (untrained, fresh)):
            assert end[f"val/accuracy/{domain}"] > start[f"val/accuracy/{domain}"] + 0.2
            assert end[f"val/reward/{domain}"] > start[f"val/reward/{domain}"] + 4
            assert end[f"val/direct_execution_rate/{domain}"] >= 0.6
