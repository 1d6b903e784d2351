"""The trainer verbs from the outside: exit codes, metrics, and what a run's directory keeps.

Wrong settings are in `test_bad_input`, signals in `test_signals`.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trainer_runs import (
    INTERRUPTED,
    checkpoint_of,
    metrics_of,
    new_root,
    run_ids,
    run_verb,
    write_settings,
)

from aflow_grpo.records import DOMAINS
from aflow_grpo.training.run_directory import read_run_id

HEADLINE = (
    "direct_execution_rate",
    "direct_execution_rate_greedy",
    "accuracy",
    "reward",
    "cost_usd_per_problem",
    "fallback_rate",
)
HEAVY = ("torch", "lightning", "transformers", "mlflow", "jsonargparse")


# Usage


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "aflow-grpo fit --config"),
        (["--version"], 0, "."),
        ([], 2, "usage: aflow-grpo"),
        (["train"], 2, "there is no verb 'train'"),
    ],
)
def test_the_front_door_answers_without_a_heavy_import(
    arguments: list[str], code: int, said: str
) -> None:
    program = (
        "import sys; from aflow_grpo.__main__ import main; code = main(sys.argv[1:]); "
        f"assert not [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert said in (done.stderr if arguments == ["train"] else done.stdout)


def test_a_verbs_help_lists_our_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", "--help", "all") == 0
    shown = capsys.readouterr().out
    for option in ("--model.grpo.group_size", "--rollout.rollout.concurrency", "--ckpt_path"):
        assert option in shown
    assert "Workflows sampled per problem" in shown


# One run directory, three verbs


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which one step was trained, then validated, then tested."""
    folder = tmp_path_factory.mktemp("judged")
    settings = write_settings(folder, trainer__max_steps=1, model__evaluation__at_start=True)
    root = folder / "run"
    common = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *common) == 0
    for verb in ("validate", "test"):
        assert run_verb(verb, *common, "--ckpt_path=last") == 0
    yield root


def headline(split: str) -> set[str]:
    """Names of the headline metrics, in total and per domain."""
    return {
        f"{split}/{name}{end}" for name in HEADLINE for end in ("", *(f"/{d}" for d in DOMAINS))
    }


def test_fit_logs_the_headline_metrics_at_its_start_and_its_end(judged: Path) -> None:
    logged = metrics_of(judged)
    for step in (0, 1):
        assert headline("val") <= {name for name, at in logged if at == step}
    assert all(0 <= logged[f"val/{name}", 1] <= 1 for name in HEADLINE if name.endswith("rate"))


def test_validate_and_test_judge_the_checkpoint_in_runs_of_their_own(judged: Path) -> None:
    fit, validated, tested = (metrics_of(judged, verb) for verb in ("fit", "validate", "test"))
    assert headline("val") <= {name for name, step in validated if step == 1}
    assert headline("test") <= {name for name, step in tested if step == 1}
    # The same policy, problems and seeds as the fit's last evaluation, so the same figures.
    assert {key: fit[key] for key in validated} == validated
    assert len({*run_ids(judged), *run_ids(judged, "validate"), *run_ids(judged, "test")}) == 3


def test_every_run_says_how_operator_code_was_confined_and_what_is_trained(judged: Path) -> None:
    tag = "select value from tags where key = ?"
    with sqlite3.connect(judged / "mlflow.db") as database:
        modes = [mode for (mode,) in database.execute(tag, ("aflow_grpo.sandbox",))]
        policies = [policy for (policy,) in database.execute(tag, ("aflow_grpo.policy",))]
    assert len(modes) == 3 and set(modes) <= {"jail", "jail+bwrap", "monty"}
    assert policies == ["tiny (qwen2, float32): 100.00 % of 0.87 M parameters trained"] * 3


def test_every_run_says_which_numbers_its_loss_came_to(judged: Path) -> None:
    """The settings say null where the preset decides."""
    with sqlite3.connect(judged / "mlflow.db") as database:
        found = set(database.execute("select key, value from params where key like 'objective.%'"))
    assert {
        ("objective.preset", "default"), ("objective.clip_high", "0.2"),
        ("objective.entropy_coef", "0.01"), ("objective.advantage_scale", "group_std"),
    } <= found  # fmt: skip


def test_the_checkpoint_is_not_changed_by_judging_it(judged: Path) -> None:
    assert checkpoint_of(judged)["aflow_grpo"]["iteration"] == 1
    assert os.listdir(judged / "checkpoints") == ["last.ckpt"]


def test_what_was_trained_differs_from_what_was_there_before(judged: Path) -> None:
    from aflow_grpo.policy.policy import Policy

    policy = Policy("tiny")
    policy.setup()
    before = policy.trainable_state_dict()
    after = checkpoint_of(judged)["state_dict"]
    assert {f"policy.{name}" for name in before} == after.keys()
    assert any(not torch.equal(before[name], after[f"policy.{name}"]) for name in before)


# The same directory again


def test_a_new_fit_keeps_the_earlier_runs_checkpoint_under_another_name(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`validate` and `test` above did not touch it."""
    root = tmp_path / "run"
    shutil.copytree(judged, root)
    earlier, weights = run_ids(root)[0], (root / "checkpoints" / "last.ckpt").read_bytes()
    settings = write_settings(tmp_path, trainer__max_steps=1, model__evaluation__at_end=False)
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *arguments) == 0
    kept = root / "checkpoints" / f"last-{earlier[:8]}.ckpt"
    assert f"The earlier run's last checkpoint is kept as {kept}." in capsys.readouterr().out
    assert kept.read_bytes() == weights
    assert sorted(os.listdir(root / "checkpoints")) == sorted([kept.name, "last.ckpt"])
    runs = run_ids(root)
    assert len(runs) == 2 and read_run_id(root) == runs[1] != earlier


def test_a_run_without_a_checkpoint_starts_again_in_its_mlflow_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path / "run")
    settings = write_settings(tmp_path, trainer__max_steps=1, model__evaluation__at_end=False)
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    press = "{class_path: trainer_runs.Interrupt, init_args: {iteration: 0, moment: between}}"
    assert run_verb("fit", *arguments, f"--trainer.callbacks=[{press}]") == INTERRUPTED
    (root / "checkpoints" / "last.ckpt").unlink()  # as if it had been kill -9
    capsys.readouterr()
    for resume in (["--ckpt_path=last"], []):
        assert run_verb("fit", *arguments, *resume) == 0
        said = "starts again, in its MLflow run" in capsys.readouterr().out
        assert said is bool(resume), "the second time it has ended, and a new run begins"
    assert len(run_ids(root)) == 2
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 1
