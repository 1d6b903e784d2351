"""Names that tell runs apart, digests that follow what matters, commits where there are any."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from made_rollouts import problem

from aflow_grpo.training.run_facts import config_digest, git_tags, problems_digest, run_facts

SETTINGS: dict[str, Any] = {
    "seed_everything": 7,
    "trainer": {"max_steps": 3, "default_root_dir": "runs/a"},
    "model": {"policy": {"init_args": {"model": "Qwen/Qwen2.5-7B", "lora": {"rank": 64}}}},
    "data": {"train": [{"dataset": "gsm8k"}, {"dataset": "gsm8k"}, {"dataset": "mbpp"}], "val": []},
    "mlflow": {"tracking_uri": None},
}


def changed(**trainer: Any) -> dict[str, Any]:
    return SETTINGS | {"trainer": SETTINGS["trainer"] | trainer}


def facts(verb: str = "fit", settings: dict[str, Any] = SETTINGS) -> Any:
    trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.datamodule = None  # type: ignore[attr-defined]
    return run_facts(verb, settings, trainer, L.LightningModule())


def test_a_name_says_verb_policy_data_and_seed() -> None:
    name = facts().name
    assert name.startswith("fit-Qwen2.5-7B-lora64-gsm8k+mbpp-seed7-")
    assert name.endswith(config_digest(SETTINGS)[:4])
    assert facts("validate").name.startswith("validate-Qwen2.5-7B-lora64-seed7-")


def test_a_name_of_odd_settings_holds_nothing_odd() -> None:
    policy = {"init_args": {"model": "/my models/a b\n<script>/"}}
    settings = {"seed_everything": 0, "model": {"policy": policy}, "data": {"train": None}}
    assert facts(settings=settings).name.startswith("fit-a_b_script_-seed0-")


def test_equal_settings_have_equal_names_wherever_they_are_tracked() -> None:
    elsewhere = changed(default_root_dir="runs/b") | {"mlflow": {"tracking_uri": "http://h"}}
    assert facts().name == facts(settings=elsewhere | {"ckpt_path": "x"}).name
    assert facts().name != facts(settings=changed(max_steps=4)).name


def test_tags_say_what_made_the_run() -> None:
    tags = facts().tags
    assert tags["aflow_grpo.verb"] == "fit" and tags["aflow_grpo.seed"] == "7"
    assert tags["aflow_grpo.config"] == config_digest(SETTINGS)
    assert {f"aflow_grpo.{name}" for name in ("version", "python", "torch")} <= tags.keys()


def test_a_digest_of_problems_follows_their_content_and_order() -> None:
    one, two = problem("math", 1), problem("qa", 2)
    digest = problems_digest([one, two])
    assert digest == problems_digest([one, two]) and len(digest) == 12
    others = [[two, one], [one], [one, replace(two, answer="43")], [one, replace(two, context="x")]]
    assert digest not in {problems_digest(other) for other in others}


# git


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "new.txt").write_text("a file of nobody's concern")
    clean = {"mlflow.source.git.commit": commit, "aflow_grpo.git_dirty": "false"}
    assert git_tags(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert git_tags(tmp_path) == clean | {"aflow_grpo.git_dirty": "true"}


def test_no_checkout_and_no_git_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_tags(tmp_path) == {}
    git(tmp_path, "init", "-q")
    assert git_tags(tmp_path) == {}, "nothing is committed"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_tags(tmp_path) == {}
