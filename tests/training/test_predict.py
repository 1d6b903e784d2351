"""`predict`: one JSON line per problem, all or none, by the policy that a checkpoint holds."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_world import solved
from trainer_runs import run_verb

from aflow_grpo.exits import Exit
from aflow_grpo.training.prediction_file import PredictionFile

FAST = ("--config", "configs/minimal.yaml")
THREE = ("--data.predict", "[{dataset: sample, split: test, limit: 3}]")


def rows_in(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_problem_gets_a_line_in_its_order(tmp_path: Path) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path / "run"))
    assert run_verb("predict", *FAST, *root, *THREE) == Exit.DONE
    rows = rows_in(tmp_path / "run" / "predictions.jsonl")
    lines = Path("data/sample/test.jsonl").read_text().splitlines()
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in lines[:3]]
    for row in rows:
        assert row["answered_by"] in ("own", "fallback")
        assert row["reward"] is not None  # these have gold answers
        assert row["tiers"] == ["simulator"]
    # Asked again, the journal answers, and the file is replaced by an equal one.
    again = tmp_path / "again.jsonl"
    assert run_verb("predict", *FAST, *root, *THREE, "--output", str(again)) == Exit.DONE
    for first, second in zip(rows, rows_in(again), strict=True):
        assert (first["answer"], first["workflow"]) == (second["answer"], second["workflow"])
        assert second["usage"]["billed_usd"] == 0  # type: ignore[index]
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_that_cannot_be_written_stops_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    root = ("--trainer.default_root_dir", str(tmp_path / "run"))
    output = ("--output", str(tmp_path / "taken" / "out.jsonl"))
    assert run_verb("predict", *FAST, *root, *THREE, *output) == Exit.USAGE
    assert "--output=" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_is_refused_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path / "run"))
    assert run_verb("predict", *FAST, *root, *THREE, "--output", str(tmp_path)) == Exit.USAGE
    told = capsys.readouterr().err
    assert f"--output={tmp_path}: cannot be written (it is a folder)" in told
    assert not list(tmp_path.parent.glob(".*.part"))


def test_code_without_hidden_tests_is_not_scored(tmp_path: Path) -> None:
    made = PredictionFile(tmp_path / "out.jsonl")
    trainer = SimpleNamespace(is_global_zero=True)
    made.on_predict_start(trainer, None)  # type: ignore[arg-type]
    made.on_predict_batch_end(trainer, None, [solved(1)], None, 0)  # type: ignore[arg-type]
    made.on_predict_end(trainer, None)  # type: ignore[arg-type]
    (row,) = rows_in(tmp_path / "out.jsonl")
    assert (row["domain"], row["score"], row["reward"]) == ("code", None, None)


def test_without_problems_it_says_which_key_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path / "run"))
    assert run_verb("predict", *FAST, *root, "--data.test", "[]") == Exit.USAGE
    assert "data.predict" in capsys.readouterr().err
