"""Tracking on a real SQLite store: runs that continue, tables that read back, no keys in them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import SIGTERMException
from logged_runs import artifact, stored
from mlflow.tracking import MlflowClient

from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.training.interrupts import Terminated
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.run_directory import RunDirectory, read_run_id
from aflow_grpo.training.tracking import ConfigArtifact, RunLogger, start_run

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

KEY = "sk-fake-0123456789abcdef"


@pytest.fixture(scope="module")
def root(runs_root: Path) -> Path:
    return runs_root


@pytest.fixture
def logger(root: Path) -> Iterator[RunLogger]:
    logger = RunLogger(root, run_name="fit-seed0", tags={"aflow_grpo.verb": "fit"})
    assert logger.run_id
    yield logger
    logger.finalize("success")


# Runs


def test_everything_of_a_run_lies_under_its_root(root: Path, logger: RunLogger) -> None:
    logger.log_metrics({"train/reward": 1.5}, step=3)
    logger.log_text("hello", "notes/greeting.txt")
    assert (root / "mlflow.db").is_file()
    assert artifact(logger, "greeting.txt").read_text() == "hello"
    run = stored(logger)
    assert run.data.metrics == {"train/reward": 1.5}
    assert run.data.tags["aflow_grpo.verb"] == "fit"
    assert run.data.tags["mlflow.runName"] == "fit-seed0"
    assert logger.tracking_uri == f"sqlite:///{root.resolve()}/mlflow.db"


def test_no_run_is_known_before_one_is_remembered(tmp_path: Path) -> None:
    assert read_run_id(tmp_path) is None
    (tmp_path / "run.json").write_text('{"mlflow_run_id": null}')
    assert read_run_id(tmp_path) is None


def fit(directory: RunDirectory, *, resuming: bool = False) -> RunLogger:
    """What a fit in `directory` logs to, once everything has been loaded."""
    return start_run(directory, "fit", run_name="fit-seed0", resuming=resuming)


def status_of(logger: RunLogger) -> str:
    return str(stored(logger).info.status)


def checkpoint(directory: RunDirectory, text: str = "weights") -> Path:
    """A last checkpoint."""
    directory.last_checkpoint.parent.mkdir(exist_ok=True)
    directory.last_checkpoint.write_text(text)
    return directory.last_checkpoint


@pytest.fixture
def directory(root: Path) -> Iterator[RunDirectory]:
    """The shared store's directory, as if nothing had been trained in it."""
    shutil.rmtree(root / "checkpoints", ignore_errors=True)
    (root / "run.json").unlink(missing_ok=True)
    yield RunDirectory(root)
    shutil.rmtree(root / "checkpoints", ignore_errors=True)
    (root / "run.json").unlink(missing_ok=True)


def test_a_resumed_run_keeps_its_id_and_runs_again(directory: RunDirectory) -> None:
    first = fit(directory)
    assert directory.run_id == first.run_id
    checkpoint(directory)
    first.log_metrics({"val/reward": 1.0}, step=1)
    first.finalize("failed")
    assert status_of(first) == "FAILED"

    again = fit(directory, resuming=True)
    again.log_metrics({"val/reward": 2.0}, step=2)
    assert again.run_id == first.run_id == directory.run_id
    assert status_of(again) == "RUNNING"
    assert directory.last_checkpoint.exists()
    client = MlflowClient(again.tracking_uri)
    history = client.get_metric_history(str(again.run_id), "val/reward")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
    again.finalize("success")
    assert status_of(first) == "FINISHED"


def test_a_killed_run_without_a_checkpoint_starts_again_in_its_run(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(directory)  # and killed: it says RUNNING for ever
    assert capsys.readouterr().out == ""
    again = fit(directory)
    assert again.run_id == first.run_id
    assert len(capsys.readouterr().out.splitlines()) == 1
    again.finalize("success")
    assert fit(directory).run_id != first.run_id, "that one has ended"


def test_a_new_run_leaves_the_earlier_ones_checkpoint_alone(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(directory)
    checkpoint(directory, "first")
    second = fit(directory)
    assert directory.run_id == second.run_id != first.run_id
    kept = directory.last_checkpoint.with_name(f"last-{str(first.run_id)[:8]}.ckpt")
    assert kept.read_text() == "first" and not directory.last_checkpoint.exists()
    assert str(kept) in capsys.readouterr().out


@pytest.mark.parametrize("earlier", [False, True])
def test_a_kill_before_the_run_is_noted_makes_no_second_one(
    directory: RunDirectory, earlier: bool
) -> None:
    """MLflow has made the run, and `run.json` does not name it yet."""
    if earlier:
        fit(directory)
        checkpoint(directory, "first")
    mark = directory.announce_run()
    made = RunLogger(directory.root, tags={"aflow_grpo.mark": mark})
    assert made.run_id
    assert RunDirectory(directory.root).announce_run() == mark
    again = fit(directory)
    assert again.run_id == made.run_id == directory.run_id
    assert not directory.was_announced and not directory.last_checkpoint.exists()
    kept = list((directory.root / "checkpoints").glob("last-*.ckpt")) if earlier else []
    assert [path.read_text() for path in kept] == ["first"] * earlier


def test_a_run_that_was_only_announced_does_not_take_the_earlier_ones_checkpoint(
    directory: RunDirectory,
) -> None:
    """Killed before anything changed hands: resuming goes on with what is there."""
    first = fit(directory)
    checkpoint(directory)
    directory.announce_run()
    assert fit(directory, resuming=True).run_id == first.run_id
    assert directory.last_checkpoint.exists() and not directory.was_announced


def test_a_run_that_the_store_has_lost_is_said_to_be_lost(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.belongs_to("0" * 32, "sqlite:///elsewhere")
    checkpoint(directory)
    logger = fit(directory, resuming=True)
    assert logger.run_id != "0" * 32 and directory.run_id == logger.run_id
    assert "knows no run 0000" in capsys.readouterr().out


def test_judging_gets_runs_of_its_own_under_the_fits(directory: RunDirectory) -> None:
    first = fit(directory)
    judged = start_run(directory, "test", run_name="test-seed0")
    assert directory.run_id == first.run_id != judged.run_id
    tags = stored(judged).data.tags
    assert (tags["aflow_grpo.verb"], tags["mlflow.parentRunId"]) == ("test", first.run_id)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "KILLED"),
        (Terminated(), "KILLED"),
        (SIGTERMException(), "KILLED"),
        (ValueError(), "FAILED"),
    ],
    ids=repr,
)
def test_a_run_says_how_it_ended(logger: RunLogger, error: BaseException, status: str) -> None:
    try:
        raise error
    except BaseException:
        logger.finalize("failed")  # as Lightning does
    assert status_of(logger) == status


def test_a_store_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    """What a kill in the middle leaves: some tables, in a file that nobody takes for the store."""
    with sqlite3.connect(tmp_path / ".mlflow.db.part") as half:
        half.execute("create table experiments (experiment_id integer)")
    logger = RunLogger(tmp_path)
    assert logger.run_id
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}
    logger.finalize("success")


# Settings


def test_settings_are_flattened_and_a_change_on_resume_is_a_tag(
    root: Path, logger: RunLogger
) -> None:
    settings: dict[str, Any] = {
        "trainer": {"max_steps": 3, "logger": None},
        "data": {"train": [{"dataset": "sample"}]},
        "llm": {"simulator": {}},
    }
    logger.log_settings(settings)
    logger.log_settings(settings)
    settings["trainer"]["max_steps"] = 5
    settings["model"] = {"seed": 7}
    assert logger.flush()
    again = RunLogger(root, run_id=logger.run_id)
    again.log_settings(settings)
    run = stored(again)
    assert run.data.params == {
        "trainer.max_steps": "3",
        "trainer.logger": "None",
        "data.train": "[{'dataset': 'sample'}]",
        "llm.simulator": "{}",
        "model.seed": "7",
    }
    changed = {k: v for k, v in run.data.tags.items() if k.startswith("resumed_with.")}
    assert changed == {"resumed_with.trainer.max_steps": "5"}


def test_long_settings_are_cut_and_are_no_change_the_second_time(
    root: Path, logger: RunLogger
) -> None:
    for _ in range(2):
        logger.log_settings({"data": {"train": "x" * 9000}})
    run = stored(logger)
    assert run.data.params["data.train"] == "x" * 250
    assert not [name for name in run.data.tags if name.startswith("resumed_with.")]


def resolved(root: Path, logger: RunLogger, key: str, stage: str = "fit") -> dict[str, Any]:
    """What the command line's callback logs for a tier with this key; the logged file."""
    parser = LightningArgumentParser()
    parser.add_class_arguments(LLMSettings, "llm")
    parser.add_lightning_class_args(RolloutCallback, "rollout")
    parser.link_arguments("llm", "rollout.llm", apply_on="instantiate")
    tiers = [{"name": "one", "api_key": key, "api_key_env": "ONE_KEY"}, {"name": "two"}]
    arguments = [f"--llm.tiers={json.dumps(tiers)}"]
    simulator = {"api_key": key, "latency_ms": 2.0}
    config = parser.parse_args([*arguments, f"--llm.simulator={json.dumps(simulator)}"])
    trainer = L.Trainer(
        logger=logger, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    artifacts, module = ConfigArtifact(parser, config), L.LightningModule()
    artifacts.setup(trainer, module, stage)
    if stage == "fit":
        artifacts.on_fit_start(trainer, module)
    else:
        artifacts.on_test_start(trainer, module)
    settings = yaml.safe_load(artifact(logger, f"{stage}.yaml").read_text())
    assert isinstance(settings, dict)
    return settings


def test_keys_reach_neither_the_store_nor_an_artifact(root: Path, logger: RunLogger) -> None:
    tiers = resolved(root, logger, KEY)["llm"]["tiers"]
    logger.log_settings({"llm": {"simulator": {"api_key": KEY}}, "api_key": KEY})
    resolved(root, logger, KEY + "-changed")
    assert [tier["api_key"] for tier in tiers] == ["(hidden)", None]
    assert [tier["api_key_env"] for tier in tiers] == ["ONE_KEY", "OPENAI_API_KEY"]
    files = [path for path in root.rglob("*") if path.is_file()]
    assert {"mlflow.db", "fit.yaml"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert any(b"ONE_KEY" in path.read_bytes() for path in files), "the search would find a key"


def test_the_resolved_config_is_complete(root: Path, logger: RunLogger) -> None:
    settings = resolved(root, logger, KEY, stage="test")
    assert settings["llm"]["simulator"]["latency_ms"] == 2.0
    assert settings["rollout"]["reward"]["preset"] == "ordered"
    assert stored(logger).data.params["rollout.rollout.concurrency"] == "16"


def test_nothing_is_logged_before_everything_is_loaded(root: Path, logger: RunLogger) -> None:
    """A mistake in data, policy or checkpoint must leave no run behind."""
    started: list[str] = []

    def start(**told: Any) -> RunLogger:
        started.append("now")
        assert told["tags"]["aflow_grpo.verb"] == "fit" and told["parent"] is None
        return logger

    parser = LightningArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    artifacts, module = ConfigArtifact(parser, parser.parse_args([]), start), L.LightningModule()
    artifacts.setup(trainer, module, "fit")
    assert (started, trainer.logger) == ([], None)
    artifacts.on_fit_start(trainer, module)
    assert (started, trainer.logger) == (["now"], logger)
    assert artifact(logger, "fit.yaml")
