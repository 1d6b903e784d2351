"""On the real files, every gold answer is right by the project's own scorers: all rows.

A program that does nothing fails every code problem but one: MBPP's task 954 asks for None twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from reader_files import real

from aflow_grpo.data.readers import (
    read_drop,
    read_gsm8k,
    read_hotpotqa,
    read_humaneval,
    read_math,
    read_mbpp,
)
from aflow_grpo.records import Problem
from aflow_grpo.rewards import ONE_CALL_COST_USD
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet

FILES: dict[str, tuple[Callable[..., list[Problem]], str]] = {
    "gsm8k/train.jsonl": (read_gsm8k, ""),
    "aflow_format/gsm8k_validate.jsonl": (read_gsm8k, ""),
    "math/math_pool.jsonl.gz": (read_math, ""),
    "aflow_format/math_validate.jsonl": (read_math, ""),
    "aflow_format/hotpotqa_validate.jsonl": (read_hotpotqa, ""),
    "drop/drop_pool.jsonl.gz": (read_drop, ""),
    "aflow_format/drop_validate.jsonl": (read_drop, ""),
    "mbpp/mbpp_pool.jsonl": (read_mbpp, ""),
    "aflow_format/mbpp_validate.jsonl": (read_mbpp, "aflow_format/mbpp_public_test.jsonl"),
    "aflow_format/humaneval_validate.jsonl": (
        read_humaneval, "aflow_format/humaneval_public_test.jsonl",
    ),
}  # fmt: skip


def problems_of(name: str) -> list[Problem]:
    reader, public = FILES[name]
    path: Path = real(name)
    return reader(path, "train", real(public)) if public else reader(path, "train")


async def wrong_gold(problems: list[Problem]) -> list[str]:
    """Ids and details of gold answers that do not score as right."""
    async with Sandbox() as sandbox:
        scorers = ScorerSet(sandbox)
        scores = [await scorers.score(problem, problem.answer) for problem in problems]
    return [f"{p.id}: {s.detail}" for p, s in zip(problems, scores, strict=True) if not s.correct]


async def solved_by_nothing(problems: list[Problem]) -> list[str]:
    """Ids of code problems whose hidden tests a function that returns None passes."""
    solved = []
    async with Sandbox() as sandbox:
        for problem in problems:
            idle = f"def {problem.entry_point}(*_, **__): pass"
            verdict = await judge(
                sandbox, idle, problem.entry_point, problem.hidden_tests, setup=problem.test_setup
            )
            solved += [problem.id] * verdict.all_passed
    return solved


async def failed_public_tests(problems: list[Problem]) -> list[str]:
    """Ids of code problems whose reference fails a public test."""
    failed = []
    async with Sandbox() as sandbox:
        for p in problems:
            verdict = await judge(
                sandbox, p.answer, p.entry_point, p.public_tests, setup=p.test_setup
            )
            failed += [p.id] * (not all(verdict.passed))
    return failed


@pytest.mark.parametrize("name", FILES)
def test_every_gold_answer_is_right(name: str) -> None:
    problems = problems_of(name)
    assert len({problem.id for problem in problems}) == len(problems)
    assert {problem.dataset for problem in problems} <= ONE_CALL_COST_USD.keys()
    assert asyncio.run(wrong_gold(problems)) == []


@pytest.mark.parametrize("name", [name for name, (_, public) in FILES.items() if public])
def test_public_tests_pass_and_a_program_that_does_nothing_fails(name: str) -> None:
    problems = problems_of(name)
    assert asyncio.run(failed_public_tests(problems)) == []
    assert asyncio.run(solved_by_nothing(problems)) == []


def test_only_one_task_of_the_mbpp_pool_is_solved_by_nothing() -> None:
    assert asyncio.run(solved_by_nothing(problems_of("mbpp/mbpp_pool.jsonl"))) == ["mbpp/train/954"]
