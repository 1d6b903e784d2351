"""Every shipped experiment in its short version, through the command line as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parent.name for path in ROOT.glob("experiments/*/experiment.yaml"))
NEED_DATA = ("recorded_choice", "trained_vs_fixed", "trained_vs_search")


@pytest.mark.parametrize("name", NAMES)
def test_short_version(name: str, tmp_path: Path) -> None:
    if name in NEED_DATA and "AFLOW_GRPO_DATA" not in os.environ:
        pytest.skip("AFLOW_GRPO_DATA is not set, and this experiment needs what it names")
    command = [sys.executable, "-m", "aflow_grpo", "experiment", name, "--short"]
    command += ["--output", str(tmp_path)]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "| " in finished.stdout
    facts = json.loads((tmp_path / "development" / "experiment.json").read_text())
    assert (facts["experiment"], facts["worlds"], facts["short"]) == (name, "development", True)
    # What is done is not done again: the table comes back without a single run.
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert again.stdout == finished.stdout
    assert "begins" not in again.stderr
