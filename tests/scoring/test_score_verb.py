"""`aflow-grpo score`: what it prints and writes, the rows that it takes, and bad ones."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.__main__ import main
from aflow_grpo.commands.score import run_score

ADD = {
    "dataset": "MBPP",
    "entry_point": "add",
    "hidden_tests": ["assert add(2, 3) == 5"],
    "prediction": "def add(a, b):\n    return a + b",
    "score": True,
}
ROWS: list[dict[str, Any]] = [
    {"dataset": "GSM8K", "prediction": "#### 18", "expected_output": "18", "score": 1.0},
    {"dataset": "gsm8k", "prediction": "18 is 3 more than 15", "gold": 15, "score": 1.0},
    {"dataset": "HotpotQA", "answer": "The answer is Paris.", "gold": "Paris", "score": 0.5},
    {"dataset": "DROP", "prediction": "20 years", "answer": "20|21", "score": 2 / 3},
    {"dataset": "drop", "prediction": None, "answer": "20"},
    {"dataset": "mine", "domain": "qa", "prediction": "A", "gold": "B", "alternatives": ["a"]},
    ADD,
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def table(printed: str) -> dict[str, list[str]]:
    """The printed figures by dataset: n, mean, labelled, agreement, differ."""
    lines = printed.split("\n\n")[0].splitlines()[2:]
    return {line.split()[0]: line.split()[1:] for line in lines}


def judged(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_strict_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "judged.jsonl"
    file = written(tmp_path / "rows.jsonl.gz", ROWS)
    assert main(["score", str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("profile strict\n")
    assert table(printed) == {
        "gsm8k": ["2", "0.5000", "2", "50.00%", "1"],
        "hotpotqa": ["1", "1.0000", "1", "0.00%", "1"],
        "drop": ["2", "0.5000", "1", "0.00%", "1"],
        "mine": ["1", "1.0000", "0", "-", "0"],
        "mbpp": ["1", "1.0000", "1", "100.00%", "0"],
    }
    assert "gsm8k, line 2: label 1, now 0" in printed
    rows = judged(out)
    assert [row["new_score"] for row in rows] == [1, 0, 1, 1, 0, 1, 1]
    assert [row["new_correct"] for row in rows] == [True, False, True, True, False, True, True]
    assert rows[3]["new_measures"] == {"exact_match": 0.0, "f1": 0.67}
    assert rows[6]["new_measures"] == {"tests_passed": 1.0}
    assert {key: rows[0][key] for key in ROWS[0]} == ROWS[0]


def test_aflow_profile_agrees_with_aflow_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rows.jsonl", ROWS)
    assert run_score([str(file), "--profile", "aflow", "--min_agreement", "1"]) == 0
    figures = table(capsys.readouterr().out)
    assert all(row[3] in ("100.00%", "-") for row in figures.values()), figures


def test_too_little_agreement_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rows.jsonl", ROWS)
    assert run_score([str(file), "--min_agreement", "0.99"]) == 1
    assert "gsm8k: agreement 50.00% is below 99.00%" in capsys.readouterr().out


def test_own_scorer_needs_no_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_verb_scorer.py").write_text("def half(problem, answer):\n    return 0.5\n")
    file = written(tmp_path / "rows.jsonl", [{"dataset": "T", "prediction": "x", "gold": "y"}])
    assert run_score([str(file), "--scorers", '{"t": "my_verb_scorer.half"}']) == 0
    assert table(capsys.readouterr().out)["t"][1] == "0.5000"


def test_code_rows_are_found_by_id_or_by_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {
        "id": "mine/1",
        "dataset": "mbpp",
        "domain": "code",
        "question": "Write a function add that adds two numbers.",
        "answer": "",
        "entry_point": "add",
        "hidden_tests": ["assert add(2, 3) == 5"],
    }
    problems = written(tmp_path / "problems.jsonl", [problem])
    asked = {"problem_id": "x7", "question": "Write a function  add that adds\ntwo numbers."}
    questions = written(tmp_path / "questions.jsonl", [asked])
    rows = [{"dataset": "MBPP", "prediction": ADD["prediction"], "score": 1}] * 2
    file = written(
        tmp_path / "rows.jsonl",
        [{**rows[0], "problem_id": "mine/1"}, {**rows[1], "problem_id": "x7"}],
    )
    source = json.dumps([{"dataset": "jsonl", "path": str(problems)}])
    options = ["--problems", source, "--questions", str(questions)]
    assert run_score([str(file), *options]) == 0
    assert table(capsys.readouterr().out)["mbpp"] == ["2", "1.0000", "2", "100.00%", "0"]
    assert run_score([str(file)]) == 2
    assert "rows.jsonl, line 1, field 'problem_id': found 'mine/1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prediction": "x", "gold": "y"}, "field 'dataset': found no such field"),
        ({"dataset": "drop", "gold": "y"}, "field 'answer': found no such field"),
        ({"dataset": "drop", "answer": "y"}, "field 'gold': found no such field"),
        ({"dataset": "drop", "prediction": ["x"], "gold": "y"}, "field 'prediction': found list"),
        ({"dataset": "drop", "prediction": "x", "gold": " "}, "field 'gold': found an empty"),
        ({"dataset": "new", "prediction": "x", "gold": "y"}, "field 'domain': found no such"),
        (
            {"dataset": "new", "domain": "art", "prediction": "x", "gold": "y"},
            "field 'domain': found str 'art', expected one of math, code, qa",
        ),
        (
            {"dataset": "drop", "prediction": "x", "gold": "y", "score": "high"},
            "field 'score': found str 'high', expected the label",
        ),
        (
            {"dataset": "drop", "prediction": "x", "gold": "y", "score": 2},
            "field 'score': found int 2",
        ),
        ({**ADD, "hidden_tests": []}, "field 'hidden_tests': found an empty list"),
        ({**ADD, "entry_point": ""}, "field 'entry_point': found an empty string"),
    ],
)
def test_bad_rows_name_file_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], message: str
) -> None:
    file = written(tmp_path / "rows.jsonl", [ROWS[0], row])
    assert run_score([str(file)]) == 2
    error = capsys.readouterr().err
    assert f"rows.jsonl, line 2, {message}" in error


def test_wrong_settings_are_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "rows.jsonl", ROWS)
    assert run_score([str(file), "--min_agreement", "2"]) == 2
    assert "--min_agreement is 2" in capsys.readouterr().err
    assert run_score([str(tmp_path / "absent.jsonl")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "least"), [("gsm8k", 450), ("math", 450), ("mbpp", 450), ("humaneval", 400)]
)
def test_aflow_parity_of_recorded_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, least: int
) -> None:
    folder = os.environ.get("AFLOW_GRPO_DATA", "")
    if not folder:
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data here")
    data = Path(folder)
    text = gzip.decompress((data / "recorded_runs" / "predictions.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in text.split("\n") if line]
    rows = [row for row in rows if row["dataset"].lower() == dataset]
    assert len(rows) >= least
    options = ["--profile", "aflow", "--min_agreement", "0.99"]
    if dataset in ("mbpp", "humaneval"):
        source = {
            "dataset": dataset,
            "path": str(data / "aflow_format" / f"{dataset}_validate.jsonl"),
            "public_tests": str(data / "aflow_format" / f"{dataset}_public_test.jsonl"),
        }
        questions = str(data / "recorded_runs" / "problems.jsonl.gz")
        options += ["--problems", json.dumps([source]), "--questions", questions]
    assert run_score([str(written(tmp_path / "rows.jsonl", rows)), *options]) == 0
    assert table(capsys.readouterr().out)[dataset][0] == str(len(rows))
