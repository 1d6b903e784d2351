"""The README's Python example runs, and what it names exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "max_steps=20" in code
    quick = code.replace("max_steps=20", "max_steps=1").replace(
        'Policy("tiny")',
        'Policy("tiny"), evaluation=EvaluationSettings(at_start=False, at_end=False)',
    )
    script = "from aflow_grpo.training.settings import EvaluationSettings\n" + quick
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_every_config_and_path_it_names_exists() -> None:
    named = set(re.findall(r"configs/[\w./-]+\.yaml", README))
    named |= {f"configs/{name}" for name in re.findall(r"^\| `([\w./-]+\.yaml)`", README, re.M)}
    assert len(named) >= 7
    for name in named:
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).exists(), link
