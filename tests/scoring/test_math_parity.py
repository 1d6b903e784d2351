"""Math scorers on recorded model outputs and on every real gold answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_aflow import score_gsm8k_aflow, score_math_aflow
from aflow_grpo.scoring.math_scorer import score_math, stated_answers

DATA = os.environ.get("AFLOW_GRPO_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="AFLOW_GRPO_DATA, the folder of data, is not set")
SLOWEST_S = 120.0


def _rows(path: str) -> list[dict[str, Any]]:
    file = Path(str(DATA)) / path
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def _recorded(dataset: str) -> list[dict[str, Any]]:
    rows = _rows("recorded_runs/predictions.jsonl.gz")
    return [row for row in rows if row["dataset"] == dataset]


@pytest.mark.parametrize("dataset", ["GSM8K", "MATH"])
def test_aflow_profile_agrees_with_the_recorded_scores(dataset: str) -> None:
    rows = _recorded(dataset)

    async def scenario() -> int:
        async with Equivalence() as equivalence:
            agree = 0
            for row in rows:
                answer, gold = row["prediction"], row["expected_output"]
                if dataset == "GSM8K":
                    score = await score_gsm8k_aflow(answer, gold)
                else:
                    score = await score_math_aflow(answer, gold, equivalence)
                agree += score.value == row["score"]
            return agree

    assert len(rows) == 500
    assert asyncio.run(scenario()) >= 0.99 * len(rows)


@pytest.mark.parametrize("dataset", ["GSM8K", "MATH"])
def test_strict_never_loses_an_answer_that_was_recorded_right(dataset: str) -> None:
    """Where strict differs it is AFlow that is wrong: see the table in docs/scoring.md."""
    rows = [row for row in _recorded(dataset) if row["score"] == 1.0]

    async def scenario() -> list[str]:
        async with Equivalence() as equivalence:
            return [
                score.detail
                for row in rows
                if not (
                    score := await score_math(
                        row["prediction"], row["expected_output"], equivalence
                    )
                ).correct
            ]

    lost = asyncio.run(scenario())
    assert len(lost) <= 0.01 * len(rows), lost


def test_gold_always_scores_one() -> None:
    golds = [row["answer"].split("####")[1].strip() for row in _rows("gsm8k/train.jsonl")]
    for row in _rows("math/math_pool.jsonl.gz"):
        golds.append(stated_answers(row["solution"])[-1])
    started = time.monotonic()

    async def scenario() -> list[str]:
        async with Equivalence() as equivalence:
            return [
                gold
                for gold in golds
                for text in (gold, rf"So it is \boxed{{{gold}}}.", f"Final answer: {gold}")
                if not (await score_math(text, gold, equivalence)).correct
            ]

    assert len(golds) == 7473 + 4057
    assert asyncio.run(scenario()) == []
    assert time.monotonic() - started < SLOWEST_S


def test_the_question_itself_scores_zero() -> None:
    problems = [
        (row["question"], row["answer"].split("####")[1].strip())
        for row in _rows("gsm8k/train.jsonl")
    ]
    for row in _rows("math/math_pool.jsonl.gz"):
        problems.append((row["problem"], stated_answers(row["solution"])[-1]))

    async def scenario() -> list[str]:
        async with Equivalence() as equivalence:
            return [
                question
                for question, gold in problems
                if (await score_math(question, gold, equivalence)).correct
            ]

    assert asyncio.run(scenario()) == []
