"""Runs workflows of the catalogue under CPython with stub operators: the truth they are held to.

The catalogue is ours and harmless; nevertheless it runs in a child process with an empty
environment and limits on memory and CPU time. The stubs answer as `workflow_host.Host` does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalogue import Case

__all__ = ["CPythonRun", "run_under_cpython"]

_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class CPythonRun:
    """What a workflow did."""

    answer: str | None
    """None when it failed."""
    error: str
    calls: tuple[tuple[str, str], ...]
    """(operator, arguments as JSON), in order."""


def run_under_cpython(cases: Sequence[Case]) -> list[CPythonRun]:
    """One run per case, in order."""
    sent = [[c.source.graph_code, dict(c.source.prompts)] for c in cases]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(_CHILD), *sys.path],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        env={},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        CPythonRun(answer, error, tuple((name, arguments) for name, arguments in calls))
        for answer, error, calls in json.loads(done.stdout.splitlines()[-1])
    ]
