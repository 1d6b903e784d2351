"""`train`, `evaluate` and `Solver` on one real run: as from a script or a notebook."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from trainer_runs import metrics_of, new_root, run_ids, run_verb, write_settings

import aflow_grpo
from aflow_grpo import ConfigError, Solver, TrainedRun, evaluate, load_problems, train
from aflow_grpo.exits import Exit
from aflow_grpo.records import Status

STEPS = 2
PROBLEMS = load_problems("sample", "val")[:10]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"trainer.max_steps": STEPS, "trainer.val_check_interval": 100}
    return write_settings(tmp_path_factory.mktemp("settings"), **changes)


@pytest.fixture(scope="module")
def run(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Trained inside a running event loop, with arguments and handlers that are nobody's business.

    A notebook's kernel has all three.
    """
    root = new_root(tmp_path_factory.mktemp("python") / "run")

    async def cell() -> TrainedRun:
        return train(overlay, settings={"trainer.default_root_dir": root}, data__batch_size=1)

    before = sys.argv[:], signal.getsignal(signal.SIGINT), warnings.filters[:]
    sys.argv[1:] = ["-f", "kernel.json"]
    try:
        done = asyncio.run(cell())
    finally:
        sys.argv[:] = before[0]
    assert (sys.argv, signal.getsignal(signal.SIGINT), warnings.filters) == before
    return done


@pytest.fixture(scope="module")
def solver(run: TrainedRun) -> Iterator[Solver]:
    with Solver(run.directory) as solver:
        yield solver


def test_a_run_from_python_is_one_of_the_command_line(run: TrainedRun, overlay: Path) -> None:
    assert [run.run_id] == run_ids(run.directory) and run.checkpoint.is_file()
    logged = metrics_of(run.directory)
    assert run.after["val/accuracy"] == logged["val/accuracy", STEPS]
    assert run.metrics["train/reward"] == pytest.approx(logged["train/reward", STEPS], abs=1e-5)
    assert run.before == {}  # `at_start` is off in this overlay
    assert str(run.directory) in repr(run) and "val/accuracy" not in repr(run)


def test_what_to_do_next_is_not_told_in_the_words_of_another_program(
    overlay: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path / "run")
    typed, sys.argv[1:] = sys.argv[1:], ["-f", "kernel.json", "--HistoryManager.hist_file=x"]
    try:
        changes = {"trainer.default_root_dir": root, "trainer.max_steps": 1, "data.batch_size": 1}
        train(overlay, settings={**changes, "progress.quiet": False, "model.evaluation.samples": 0})
    finally:
        sys.argv[1:] = typed
    out = capsys.readouterr().out
    assert f"aflow-grpo test --trainer.default_root_dir {root} --ckpt_path last" in out
    assert "HistoryManager" not in out


def test_evaluate_needs_only_the_run(run: TrainedRun) -> None:
    judged = evaluate(run.directory, split="test", settings={"model.evaluation.samples": 0})
    assert judged.directory == run.directory and judged.run_id != run.run_id
    assert judged.after["test/problems_greedy"] == 6
    assert judged.run_id in run_ids(run.directory, "test")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"trainer__max_step": 3}, "trainer.max_step.*Did you mean trainer.max_steps"),
        ({"data__batch_size": "many"}, "data.batch_size.*int"),
        ({"llm__budget_usd": -1}, "llm.budget_usd=-1"),
        ({"ckpt_path": "nowhere.ckpt"}, "nowhere.ckpt: no such file"),
    ],
)
def test_wrong_settings_raise_in_one_line(
    overrides: dict[str, object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        train(trainer__default_root_dir=tmp_path / "run", **overrides)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "mlflow.db").exists()


# Answers of a checkpoint


def test_the_policy_writes_and_its_fallback_answers(solver: Solver, run: TrainedRun) -> None:
    solutions = list(solver.solve_many(PROBLEMS))
    assert {s.rollout.problem.id for s in solutions} == {p.id for p in PROBLEMS}
    assert {s.written_by for s in solutions} == {f"{run.checkpoint}, iteration {STEPS}"}
    for solution in solutions:
        execution = solution.rollout.execution
        assert solution.rollout.completion.token_ids  # a model wrote it
        # The run's own settings: `fallback: always`.
        by = "own" if execution.status is Status.OK else "fallback"
        assert execution.answered_by == by and solution.answer is not None


def test_it_writes_what_it_wrote_in_training(solver: Solver, run: TrainedRun) -> None:
    """The greedy workflow of the last evaluation: weights, prompt and settings are the run's."""
    (table,) = run.directory.glob(f"artifacts/{run.run_id}/artifacts/samples/val_*.json")
    content = json.loads(table.read_text())
    stored = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    known = {p.id: p for p in load_problems("sample", "val")}
    written = {
        s.rollout.problem.id: s.rollout.completion.text
        for s in solver.solve_many([known[row["problem"]] for row in stored])
    }
    assert written == {row["problem"]: row["completion"] for row in stored}


def test_samples_differ_and_are_seeded(solver: Solver, run: TrainedRun) -> None:
    one = {s.rollout.member: s.rollout.completion.text for s in solver.solve_many(PROBLEMS[:1], samples=4)}  # noqa: E501  # fmt: skip
    again = {s.rollout.member: s.rollout.completion.text for s in solver.solve_many(PROBLEMS[:1], samples=4)}  # noqa: E501  # fmt: skip
    assert one == again and len(set(one.values())) > 1


def test_settings_lie_over_the_runs_own(run: TrainedRun) -> None:
    with Solver(run.directory, settings={"rollout.rollout.fallback": "never"}) as solver:
        answers = [s.rollout.execution.answered_by for s in solver.solve_many(PROBLEMS)]
    assert "fallback" not in answers and "none" in answers


def test_a_checkpoint_of_another_model_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"made with policy .*, full, but the settings are of"):
        Solver(run.directory, config=["configs/policy/tiny-lora.yaml"])
    alone = tmp_path / "alone.ckpt"
    shutil.copy(run.checkpoint, alone)
    with pytest.raises(ConfigError, match="nothing says which policy it is of"):
        Solver(alone)
    assert Solver(alone, config=["configs/minimal.yaml"]).loaded is not None


def test_no_such_device(run: TrainedRun) -> None:
    with pytest.raises(ConfigError, match=r"--device=tpu: .*Expected auto, cpu or cuda"):
        Solver(run.directory, device="tpu")


def test_a_question_too_long_for_the_policy_is_named(
    run: TrainedRun, solver: Solver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "How much is it? " * 800
    with pytest.raises(aflow_grpo.DataError, match=r"prompt tokens, more than model.policy"):
        solver.solve(long)
    asked = tmp_path / "asked.jsonl"
    rows = [{"question": long, "domain": "math"}, {"question": "1 + 1?", "domain": "math"}]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "answers.jsonl"
    arguments = ("--checkpoint", run.directory, "--input", asked, "--output", output)
    assert run_verb("infer", *arguments) == Exit.FAILED
    assert "problem 'asked.jsonl/1' needs" in capsys.readouterr().err
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["asked.jsonl/2"]


def test_infer_with_the_checkpoint(run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--problem", "What is 17 + 4?", "--gold", "21", "--domain", "math")
    assert run_verb("infer", "--checkpoint", run.checkpoint, *asked) == Exit.DONE
    out, err = capsys.readouterr()
    assert f"written by {run.checkpoint}, iteration {STEPS}" in out
    assert f"loading {run.checkpoint} …" in err
