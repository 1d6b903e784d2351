"""Processes: none is left behind, and Python's exit is clean right after a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHORT_RUN = """
import asyncio
from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.library import fallback_workflow

async def operator(index, attribute, arguments):
    return {"thought": "", "answer": "5"}

async def main():
    async with Interpreter(workers=2) as interpreter:
        outcomes = await asyncio.gather(*[
            interpreter.run(fallback_workflow("math"), problem="2+3?", entry_point="",
                            call_operator=operator)
            for _ in range(4)
        ])
        print([outcome.answer for outcome in outcomes])

asyncio.run(main())
"""
COUNTING = """
import os
from pathlib import Path

def children():
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += fields[1] == str(os.getpid()) and fields[0] != "Z"
    return found

async def cancelled():
    during = 0

    async def waits(index, attribute, arguments):
        nonlocal during
        during = children()
        await asyncio.Event().wait()

    before = children()
    try:
        async with asyncio.timeout(0.3), Interpreter(workers=3) as interpreter:
            await interpreter.run(fallback_workflow("math"), problem="", entry_point="",
                                  call_operator=waits)
    except TimeoutError:
        pass
    print(f"before {before}, during {during}, after {children()}")

asyncio.run(main())
asyncio.run(cancelled())
"""


def test_exit_right_after_a_run_is_clean() -> None:
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, "-c", SHORT_RUN],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip() == "['5', '5', '5', '5']"
        assert ended.stderr == ""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_no_process_is_left_behind() -> None:
    """Not even when the run is cancelled in the middle."""
    script = SHORT_RUN.replace("asyncio.run(main())", COUNTING)
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "before 0, during 3, after 0"


def test_import_is_light() -> None:
    script = (
        "import sys\n"
        "from aflow_grpo.workflow import contract, library, parse, policy_prompt, validate\n"
        "print(sorted({'torch', 'transformers', 'pydantic_monty', 'openai'} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout.strip() == "[]"
