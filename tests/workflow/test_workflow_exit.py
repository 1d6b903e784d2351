"""Processes: none is left behind, and Python's exit is clean right after a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
