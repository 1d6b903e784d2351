"""The GPU comparison runs through on a tiny model without a GPU, and both trainers do the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench_gpu", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_on_the_cpu_it_prints_its_table() -> None:
    done = bench("--cpu", "nf4")
    assert done.returncode == 0, done.stderr
    norms = re.findall(r"gradient norm, first step +(\S+) +(\S+)", done.stdout)
    assert len(norms) == 1, done.stdout
    for ours, trl in norms:
        assert float(ours) == pytest.approx(float(trl), rel=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = bench()
    assert done.returncode == 1
    assert "there is no CUDA device here" in done.stderr and "Traceback" not in done.stderr
