"""`aflow-grpo rescore` on real runs: equal settings, equal numbers; no endpoint is ever asked."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_runs import metrics_of, new_root, run_ids, run_verb, write_settings

from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.rollout_store import RolloutStore
from aflow_grpo.records import Rollout, to_dict
from aflow_grpo.rewards import REHEARSED
from aflow_grpo.stored import unpack_rollout

STEPS = 4
SECOND_LINE = "import sys; from aflow_grpo.__main__ import main; sys.exit(main(sys.argv[1:]))"
NO_NETWORK = f"""
import os, socket, sys
def refuse(event, arguments):
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        os._exit(97)
    if event == "import" and arguments[0] == "openai":
        os._exit(98)
sys.addaudithook(refuse)
{SECOND_LINE}
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished fit: four steps, quick validations with and without execution, an evaluation."""
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("rescore")
    settings = write_settings(folder, trainer__max_steps=STEPS, model__evaluation__at_start=True)
    root = new_root(folder / "run")
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}") == 0
    torch.set_num_threads(threads)
    yield root


@pytest.fixture
def root(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written into."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def figures(path: Path) -> dict[tuple[str, int], float]:
    """(name, step) -> value in a file of metrics."""
    return {(k, row["step"]): v for row in lines(path) for k, v in row["metrics"].items()}


def stored(root: Path) -> dict[tuple[str, int], list[Rollout]]:
    """(part, step) -> rollouts."""
    found: dict[tuple[str, int], list[Rollout]] = {}
    with RolloutStore(root / "journal.db") as store:
        for run, part, settings, _ in store.parts():
            for row in store.rows(run, part, settings):
                found.setdefault((part, row.step), []).append(
                    unpack_rollout(row.problem, row.content)
                )
    return found


def test_every_rollout_of_the_run_is_stored(fitted: Path) -> None:
    counts = {key: len(rollouts) for key, rollouts in stored(fitted).items()}
    assert {key for key in counts if key[0] == "train"} == {("train", s) for s in range(1, 5)}
    assert all(count == 8 for (part, _), count in counts.items() if part == "train")
    evaluations = {key: count for key, count in counts.items() if key[0] != "train"}
    assert evaluations == {
        ("val", 0): 6, ("val/greedy", 0): 6, ("val/structure", 2): 6,
        ("val/quick", 4): 6, ("val", 4): 6, ("val/greedy", 4): 6,
    }  # fmt: skip


def test_equal_settings_give_equal_numbers_to_the_bit(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (root / "journal.db").read_bytes()
    assert run_verb("rescore", root) == 0
    assert "0 of 68 rollouts have another score or reward" in capsys.readouterr().out
    logged, again = metrics_of(root), figures(root / "rescored.jsonl")
    assert ("train/reward", 4) in again and ("val/valid_rate_greedy", 2) in again
    assert {key: logged[key] for key in again} == again
    # And nothing that comes from rollouts alone is missing.
    rest = {name for name, _ in logged.keys() - again.keys()}
    assert not {name for name in rest if name.startswith(("val/", "train/reward/", "train/acc"))}
    assert (root / "journal.db").read_bytes() == before, "opened for reading only"


def test_the_journals_of_all_ranks_are_read_as_one(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Odd groups in the second one, and one step in both, as when it was repeated on one rank."""
    assert run_verb("rescore", root, "--mlflow=false") == 0
    whole = lines(root / "rescored.jsonl")
    shutil.copy(root / "journal.db", root / "journal-rank1.db")
    for name, other in (("journal.db", 1), ("journal-rank1.db", 0)):
        with closing(sqlite3.connect(root / name)) as database:
            gone = 'DELETE FROM rollouts WHERE step <> 2 AND "group" % 2 = ?'
            assert database.execute(gone, (other,)).rowcount > 10
            database.commit()
    assert run_verb("rescore", root, "--mlflow=false") == 0
    assert lines(root / "rescored.jsonl") == whole
    assert "0 of 68 rollouts have another" in capsys.readouterr().out


def test_judged_again_the_answers_are_what_they_were(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("rescore", root, "--rescore_answers=true", "--mlflow=false") == 0
    assert "0 of 68 rollouts have another" in capsys.readouterr().out
    assert run_ids(root, "rescore") == []


def test_other_weights_change_rewards_and_no_score(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = root / "new" / "other.csv"
    other = ["--reward.preset=custom", "--reward.penalties.validation=-1"]
    other += ["--reward.penalties.partial_credit=0", "--reward.penalties.wrong=-9"]
    other += ["--reward.penalties.constraint=-1"]
    assert run_verb("rescore", root, *other, f"--output={output}") == 0
    assert "train" in capsys.readouterr().out
    logged = metrics_of(root)
    with output.open(newline="") as file:
        new = {(r["name"], int(r["step"])): float(r["value"]) for r in csv.DictReader(file)}
    same = [key for key in new if "reward" not in key[0] and "zero_variance" not in key[0]]
    assert len(same) > 100
    assert {key: new[key] for key in same} == {key: logged[key] for key in same}
    assert new["train/reward", 1] != logged["train/reward", 1]
    rollouts = stored(root)["train", 1]
    penalties = {"invalid": -1.0, "cut": -1.0, "error": -5.0, "timeout": -5.0}
    expected = [
        0.0 if r.score.correct else penalties.get(r.execution.status, -9.0) for r in rollouts
    ]
    assert all(r.reward.penalty != p for r, p in zip(rollouts, expected, strict=True) if p)
    assert new["train/reward/penalty", 1] == pytest.approx(sum(expected) / len(expected))


def test_the_lab_book_gets_a_run_of_its_own(root: Path) -> None:
    (parent,) = run_ids(root)
    assert run_verb("rescore", root, "--reward.preset=additive") == 0
    assert run_ids(root) == [parent]
    (child,) = run_ids(root, "rescore")
    with sqlite3.connect(root / "mlflow.db") as database:
        select = "select value from tags where run_uuid = ? and key = ?"
        (of,) = database.execute(select, (child, "mlflow.parentRunId")).fetchone()
        (name, status) = database.execute(
            "select name, status from runs where run_uuid = ?", (child,)
        ).fetchone()
        params = dict(
            database.execute("select key, value from params where run_uuid = ?", (child,))
        )
    assert (of, name, status) == (parent, f"rescore-{parent[:8]}", "FINISHED")
    assert params["rollout.reward.preset"] == "additive"
    assert metrics_of(root, "rescore") == figures(root / "rescored.jsonl")


def test_other_gold_answers_are_judged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {r.problem.id: r for rollouts in stored(root).values() for r in rollouts}
    right = [r for rollouts in stored(root).values() for r in rollouts if r.score.correct]
    assert right, "a run in which nothing is right shows nothing"
    chosen = replace(right[0].problem, answer="-7", hidden_tests=("assert False",), alternatives=())
    path = root / "problems.jsonl"
    path.write_text(json.dumps(to_dict(chosen)) + "\n")
    assert read_problems(path)[0].id in known
    touched = [r for rs in stored(root).values() for r in rs if r.problem.id == chosen.id]
    assert run_verb("rescore", root, f"--problems={path}", "--mlflow=false") == 0
    changed = sum(r.score.correct for r in touched)
    assert f"{changed} of 68 rollouts have another" in capsys.readouterr().out


def test_without_a_network_and_without_the_executors_client(root: Path) -> None:
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", NO_NETWORK, "rescore", str(root), "--rescore_answers=true"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "0 of 68 rollouts have another" in ended.stdout


def test_a_run_that_goes_on_is_rescored(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(root / "journal.db")
    try:
        assert run_verb("rescore", root, "--mlflow=false") == 0
    finally:
        journal.close()
    assert "0 of 68" in capsys.readouterr().out


def test_a_directory_without_a_journal_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("rescore", tmp_path) == 2
    error = capsys.readouterr().err
    assert "no such file" in error and "trainer.default_root_dir" in error
    assert list(tmp_path.iterdir()) == [], "nothing is made by asking"


def test_a_journal_without_rollouts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Journal(tmp_path / "journal.db").close()
    assert run_verb("rescore", tmp_path) == 2
    assert "holds no rollouts" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database:
        database.execute("PRAGMA user_version=2")
    assert run_verb("rescore", tmp_path) == 2
    assert "schema version 2, which holds no rollouts" in capsys.readouterr().err
    (tmp_path / "journal.db").write_text("dear diary " * 500)
    assert run_verb("rescore", tmp_path) == 2
    assert "cannot be read as a journal" in capsys.readouterr().err


def test_an_unknown_run_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("rescore", root, "--run_id=nobody") == 2
    error = capsys.readouterr().err
    assert "nobody" in error and run_ids(root)[0] in error


def test_settings_that_break_the_order_are_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("rescore", root, "--reward.penalties.wrong=-10") == 2
    assert "promises that" in capsys.readouterr().err


def test_what_ran_on_stub_operators_stays_unscored_and_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings(
        tmp_path, trainer__max_steps=1, rollout__reward__stage="structure",
        model__evaluation__at_end=False,
    )  # fmt: skip
    root = new_root(tmp_path / "run")
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}") == 0
    rollouts = stored(root)["train", 1]
    assert all(r.score == REHEARSED for r in rollouts if not r.masked)
    assert run_verb("rescore", root, "--rescore_answers=true", "--mlflow=false") == 0
    assert "0 of 8 rollouts have another" in capsys.readouterr().out


def test_nothing_is_stored_when_it_is_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings(
        tmp_path, trainer__max_steps=1, llm__store_rollouts=False,
        model__evaluation__at_end=False,
    )  # fmt: skip
    root = new_root(tmp_path / "run")
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}") == 0
    assert stored(root) == {}
    assert run_verb("rescore", root) == 2
    assert "llm.store_rollouts" in capsys.readouterr().err
