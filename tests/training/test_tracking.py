"""Tracking on a real SQLite store: runs that continue, tables that read back, no keys in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger
from made_rollouts import call, rollout
from mlflow.tracking import MlflowClient

from aflow_grpo.records import FaultKind, Finding, Rollout, Status, Usage
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.tracking import ConfigArtifact, RunLogger, log_rollout_table, read_run_id

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

KEY = "sk-fake-0123456789abcdef"
COLUMNS = [
    "problem", "domain", "question", "completion", "workflow", "status", "findings", "calls",
    "answer", "gold", "correct", "cost_usd", "fallback_answer", "reward_correctness",
    "reward_efficiency", "reward_simplicity", "reward_format", "reward_repetition",
    "reward_penalty", "reward_total",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(runs_root: Path) -> Path:
    return runs_root


@pytest.fixture
def logger(root: Path) -> Iterator[RunLogger]:
    logger = RunLogger(root, run_name="fit-seed0", tags={"aflow_grpo.verb": "fit"})
    assert logger.run_id
    yield logger
    logger.finalize("success")


def stored(root: Path, run_id: str | None) -> Any:
    """The run as a client that knows nothing of our logger reads it."""
    return MlflowClient(f"sqlite:///{root.resolve() / 'mlflow.db'}").get_run(run_id)


def artifact(root: Path, logger: RunLogger, name: str) -> Path:
    (path,) = (root / "artifacts").glob(f"{logger.run_id}/**/{name}")
    return path


# Runs


def test_everything_of_a_run_lies_under_its_root(root: Path, logger: RunLogger) -> None:
    logger.log_metrics({"train/reward": 1.5}, step=3)
    logger.log_text("hello", "notes/greeting.txt")
    assert (root / "mlflow.db").is_file()
    assert artifact(root, logger, "greeting.txt").read_text() == "hello"
    run = stored(root, logger.run_id)
    assert run.data.metrics == {"train/reward": 1.5}
    assert run.data.tags["aflow_grpo.verb"] == "fit"
    assert run.data.tags["mlflow.runName"] == "fit-seed0"
    assert logger.tracking_uri == f"sqlite:///{root.resolve()}/mlflow.db"


def test_no_run_is_known_before_one_is_remembered(tmp_path: Path) -> None:
    assert read_run_id(tmp_path) is None
    (tmp_path / "run.json").write_text('{"mlflow_run_id": null}')
    assert read_run_id(tmp_path) is None


def test_a_continued_run_keeps_its_id_and_runs_again(root: Path, logger: RunLogger) -> None:
    logger.remember_run()
    assert read_run_id(root) == logger.run_id
    logger.log_metrics({"val/reward": 1.0}, step=1)
    logger.finalize("failed")
    assert stored(root, logger.run_id).info.status == "FAILED"

    continued = RunLogger(root, run_id=read_run_id(root), run_name="another name")
    continued.remember_run()
    continued.log_metrics({"val/reward": 2.0}, step=2)
    assert continued.run_id == logger.run_id == read_run_id(root)
    run = stored(root, logger.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.tags["mlflow.runName"] == "fit-seed0"
    history = MlflowClient(continued.tracking_uri).get_metric_history(run.info.run_id, "val/reward")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
    continued.finalize("success")
    assert stored(root, logger.run_id).info.status == "FINISHED"


# Settings


def test_settings_are_flattened_and_a_change_on_resume_is_a_tag(
    root: Path, logger: RunLogger
) -> None:
    settings: dict[str, Any] = {
        "trainer": {"max_steps": 3, "logger": None},
        "data": {"train": [{"dataset": "sample"}]},
        "rollout": {"simulator": {}},
    }
    logger.log_settings(settings)
    logger.log_settings(settings)
    settings["trainer"]["max_steps"] = 5
    settings["model"] = {"seed": 7}
    RunLogger(root, run_id=logger.run_id).log_settings(settings)
    run = stored(root, logger.run_id)
    assert run.data.params == {
        "trainer.max_steps": "3",
        "trainer.logger": "None",
        "data.train": "[{'dataset': 'sample'}]",
        "rollout.simulator": "{}",
        "model.seed": "7",
    }
    changed = {k: v for k, v in run.data.tags.items() if k.startswith("resumed_with.")}
    assert changed == {"resumed_with.trainer.max_steps": "5"}


def test_long_settings_are_cut_and_are_no_change_the_second_time(
    root: Path, logger: RunLogger
) -> None:
    for _ in range(2):
        logger.log_settings({"data": {"train": "x" * 9000}})
    run = stored(root, logger.run_id)
    assert run.data.params["data.train"] == "x" * 250
    assert not [name for name in run.data.tags if name.startswith("resumed_with.")]


def resolved(root: Path, logger: RunLogger, key: str, stage: str = "fit") -> dict[str, Any]:
    """What the command line's callback logs for a tier with this key; the logged file."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(RolloutCallback, "rollout")
    tiers = [{"name": "one", "api_key": key, "api_key_env": "ONE_KEY"}, {"name": "two"}]
    arguments = [f"--rollout.tiers={json.dumps(tiers)}"]
    simulator = {"api_key": key, "latency_ms": 2.0}
    config = parser.parse_args([*arguments, f"--rollout.simulator={json.dumps(simulator)}"])
    trainer = L.Trainer(
        logger=logger, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    ConfigArtifact(parser, config).setup(trainer, L.LightningModule(), stage)
    settings = yaml.safe_load(artifact(root, logger, f"{stage}.yaml").read_text())
    assert isinstance(settings, dict)
    return settings


def test_keys_reach_neither_the_store_nor_an_artifact(root: Path, logger: RunLogger) -> None:
    tiers = resolved(root, logger, KEY)["rollout"]["tiers"]
    logger.log_settings({"rollout": {"simulator": {"api_key": KEY}}, "api_key": KEY})
    resolved(root, logger, KEY + "-changed")
    assert [tier["api_key"] for tier in tiers] == ["(hidden)", None]
    assert [tier["api_key_env"] for tier in tiers] == ["ONE_KEY", "OPENAI_API_KEY"]
    files = [path for path in root.rglob("*") if path.is_file()]
    assert {"mlflow.db", "fit.yaml", "run.json"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert any(b"ONE_KEY" in path.read_bytes() for path in files), "the search would find a key"


def test_the_resolved_config_is_complete_and_only_fit_is_remembered(
    root: Path, logger: RunLogger
) -> None:
    known = read_run_id(root)
    settings = resolved(root, logger, KEY, stage="test")
    assert settings["rollout"]["simulator"]["latency_ms"] == 2.0
    assert settings["rollout"]["reward"]["preset"] == "ordered"
    assert stored(root, logger.run_id).data.params["rollout.rollout.concurrency"] == "16"
    assert read_run_id(root) == known != logger.run_id
    resolved(root, logger, KEY, stage="fit")
    assert read_run_id(root) == logger.run_id


def test_another_logger_is_left_alone(tmp_path: Path) -> None:
    other = CSVLogger(tmp_path)
    log_rollout_table(other, [rollout()], 0, "val")
    log_rollout_table(None, [rollout()], 0, "val")
    assert list(tmp_path.rglob("*")) == []


# Tables


def sample_rollouts() -> list[Rollout]:
    right = rollout(
        "qa", total=9.5, correct=True, parts=(65, 15, 10, 5, 0, 0), answer="42",
        calls=(call("custom", cost_usd=1e-4),), usage=Usage(calls=1, cost_usd=1e-4),
    )  # fmt: skip
    invalid = rollout(
        "code", total=-8.0, status=Status.INVALID, fault_kind=FaultKind.NO_WORKFLOW, source=None,
        findings=(Finding(FaultKind.NO_WORKFLOW, "found “nothing”,\nnothing at all"),),
        fallback_answer="def f(): ...",
    )  # fmt: skip
    return [right, invalid]


def read_table(logger: RunLogger, name: str) -> Any:
    client = MlflowClient(logger.tracking_uri)
    experiment = client.get_run(logger.run_id).info.experiment_id
    return client.load_table(experiment, name, run_ids=[logger.run_id])


def test_a_table_reads_back_with_every_column(logger: RunLogger) -> None:
    log_rollout_table(logger, sample_rollouts(), 12, "val")
    table = read_table(logger, "samples/val_000012.json")
    assert list(table.columns) == COLUMNS
    right, invalid = table.to_dict("records")
    assert (right["problem"], right["domain"], right["correct"]) == ("qa/0", "qa", True)
    assert (right["answer"], str(right["gold"]), right["status"]) == ("42", "42", "ok")
    assert (right["workflow"], right["reward_total"]) == ("class Workflow: ...", 9.5)
    assert right["cost_usd"] == pytest.approx(1e-4)
    (recorded,) = json.loads(right["calls"])
    assert recorded["operator"] == "custom" and recorded["usage"]["calls"] == 1
    assert invalid["findings"] == "no_workflow: found “nothing”,\nnothing at all"
    assert (invalid["workflow"], invalid["answer"]) == ("", "")
    assert invalid["fallback_answer"] == "def f(): ..."


def test_a_repeated_step_replaces_its_table(logger: RunLogger) -> None:
    first, second = sample_rollouts()
    log_rollout_table(logger, [first, second], 5, "quick")
    log_rollout_table(logger, [second], 5, "quick")
    log_rollout_table(logger, [first], 6, "quick")
    table = read_table(logger, "samples/quick_000005.json")
    assert list(table.columns) == COLUMNS
    assert list(table["problem"]) == ["code/0"]
    assert list(read_table(logger, "samples/quick_000006.json")["problem"]) == ["qa/0"]


def test_no_rollouts_make_no_table(root: Path, logger: RunLogger) -> None:
    log_rollout_table(logger, [], 0, "val")
    assert not list((root / "artifacts").glob(f"{logger.run_id}/**/*.json"))
