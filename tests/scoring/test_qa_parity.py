"""QA on real files: AFlow's recorded scores are reproduced; every gold answer is right.

The recorded runs kept texts and scores whole: each DROP row's gold answers are joined by bars.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.data.readers import read_drop, read_hotpotqa
from aflow_grpo.records import Problem
from aflow_grpo.scoring.qa_aflow import aflow_f1, score_qa_aflow
from aflow_grpo.scoring.qa_scorer import score_qa


def real(name: str) -> Path:
    """A file of the folder in AFLOW_GRPO_DATA, or a skip that says so."""
    folder = os.environ.get("AFLOW_GRPO_DATA", "")
    if not folder:
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data here")
    return Path(folder) / name


def recorded(dataset: str) -> list[dict[str, Any]]:
    with gzip.open(real("recorded_runs/predictions.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["dataset"] == dataset]


@pytest.mark.parametrize("dataset", ["HotpotQA", "DROP"])
def test_aflow_profile_agrees_with_the_recorded_scores(dataset: str) -> None:
    rows = recorded(dataset)
    differing = [
        row
        for row in rows
        if abs(
            score_qa_aflow(
                row["prediction"], [row["expected_output"]], alternatives=dataset == "DROP"
            ).value
            - row["score"]
        )
        > 1e-6
    ]
    assert len(rows) > 400
    assert len(differing) <= 0.01 * len(rows), differing[:5]


@pytest.mark.parametrize("dataset", ["HotpotQA", "DROP"])
def test_strict_never_pays_what_aflow_gives_nothing_but_numbers_written_otherwise(
    dataset: str,
) -> None:
    drop = dataset == "DROP"
    for row in recorded(dataset):
        golds = row["expected_output"].split("|") if drop else [row["expected_output"]]
        score = score_qa(row["prediction"], golds, drop=drop)
        if score.correct and row["score"] == 0:
            assert any(sign.isdigit() for sign in row["prediction"] + row["expected_output"])


DROP_FILES = ["drop/drop_pool.jsonl.gz", "aflow_format/drop_validate.jsonl"]


def golds_of(problem: Problem) -> tuple[str, ...]:
    return (problem.answer, *problem.alternatives)


@pytest.mark.parametrize("name", [*DROP_FILES, "aflow_format/hotpotqa_validate.jsonl"])
def test_every_real_gold_answer_scores_one(name: str) -> None:
    drop = name in DROP_FILES
    problems = read_drop(real(name), "t") if drop else read_hotpotqa(real(name), "t")
    for problem in problems:
        golds = golds_of(problem)
        for gold in golds:
            score = score_qa(gold, golds, drop=drop, question=problem.question)
            assert (score.value, dict(score.measures)) == (1.0, {"exact_match": 1.0, "f1": 1.0})


@pytest.mark.parametrize("name", DROP_FILES)
def test_real_questions_passages_and_refusals_score_zero(name: str) -> None:
    for problem in read_drop(real(name), "t")[:300]:
        golds = golds_of(problem)
        texts = (problem.question, problem.context, problem.text, "I cannot answer that.", "")
        for text in texts:
            wrong = score_qa(text, golds, drop=True, question=problem.question).value == 0.0
            # One annotator gave the question for an answer.
            assert wrong or text in golds, (problem.id, text)


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        # the known defects, kept
        ("The answer is Paris.", "Paris", 0.5),
        ("3.5", "35", 1.0),
        ("2", "two", 0.0),
        ("No, they are not", "no", 0.4),
        ("", "", 0.0),
    ],
)
def test_aflow_f1_by_hand(answer: str, gold: str, f1: float) -> None:
    assert aflow_f1(answer, gold) == pytest.approx(f1)


def test_aflow_takes_the_best_pair_for_drop_alone() -> None:
    assert score_qa_aflow("1|2", ["2|1"], alternatives=True).correct
    assert score_qa_aflow("I say|2", ["7", "2"], alternatives=True).value == 1.0
    assert score_qa_aflow("1|2", ["2"], alternatives=False).value == 0.0


@given(st.text(max_size=100), st.text(max_size=60))
def test_aflow_f1_is_symmetric_and_in_range(answer: str, gold: str) -> None:
    assert 0 <= aflow_f1(answer, gold) <= 1
    assert aflow_f1(answer, gold) == pytest.approx(aflow_f1(gold, answer))
