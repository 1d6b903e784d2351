"""One run's lab book: locked stores, leftovers of other processes, runs that go on."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from logged_runs import stored
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from trainer_runs import new_root

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.run_logger import RunLogger, never_fatal
from aflow_grpo.training.sending import is_refusal

# MLflow's own doing.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path / "run")


def points(logger: RunLogger, name: str) -> list[tuple[int, float]]:
    """(step, value) of everything that is there, as a client of its own reads it."""
    assert logger.flush()
    client = MlflowClient(logger.tracking_uri)
    history = client.get_metric_history(str(logger.run_id), name)
    return sorted((point.step, point.value) for point in history)


def leave(logger: RunLogger, *records: dict[str, Any]) -> Path:
    """What a killed process would have left of a run."""
    folder = logger.root / "unsent" / f"{logger.run_id}.abc123"
    folder.mkdir(parents=True)
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "records.jsonl").write_text("".join(lines))
    (folder / "store.txt").write_text(logger.address.shown)
    return folder


def metric(step: int, value: float, name: str = "train/reward") -> dict[str, Any]:
    return {"kind": "metrics", "time_ms": 1000 + step, "step": step, "values": {name: value}}


def test_a_locked_database_holds_nothing_up_and_loses_nothing(root: Path) -> None:
    logger = RunLogger(root)
    assert logger.run_id
    with sqlite3.connect(root / "mlflow.db", isolation_level=None) as other:
        other.execute("begin exclusive")
        for step in range(3):
            logger.log_metrics({"train/reward": float(step)}, step)
        logger.log_settings({"seed": 3})
        logger.log_tags({"some": "tag"})
        assert not logger.flush(0.2), "nobody gets in"
        other.execute("rollback")
    assert points(logger, "train/reward") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    run = stored(logger)
    assert run.data.params == {"seed": "3"} and run.data.tags["some"] == "tag"
    logger.finalize("success")
    assert not (root / "unsent").exists()


def test_what_is_sent_a_second_time_is_there_once(root: Path) -> None:
    """A kill between the store's answer and our note of it."""
    logger = RunLogger(root)
    assert logger.run_id
    records = [
        metric(1, 0.5),
        {"kind": "params", "values": {"seed": "3"}},
        {"kind": "tags", "values": {"some": "tag"}},
        {"kind": "artifact", "folder": "notes", "name": "gone.txt", "file": "9/gone.txt"},
        {"kind": "end", "status": "KILLED", "time_ms": 5000},
    ]
    for _ in range(2):
        leave(logger, *records)
        RunLogger(root).send_leftovers()
        assert not (root / "unsent").exists()
    assert points(logger, "train/reward") == [(1, 0.5)]
    run = stored(logger)
    assert (run.info.status, run.info.end_time, run.data.params) == ("KILLED", 5000, {"seed": "3"})


def test_leftovers_come_before_what_repeats_them(root: Path) -> None:
    first = RunLogger(root)
    assert first.run_id
    first.log_metrics({"train/reward": 1.0, "time/update_s": 5.0}, 1)
    assert first.flush()
    leave(first, metric(2, 2.0), metric(2, 7.0, "time/update_s"))

    again = RunLogger(root)
    again.send_leftovers()
    again.continue_run(str(first.run_id))
    for step in (1, 2, 3):
        again.log_metrics({"train/reward": float(step), "time/update_s": 9.0}, step)
    assert points(again, "train/reward") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert points(again, "time/update_s") == [(1, 5.0), (2, 7.0), (3, 9.0)]
    again.finalize("success")


def test_leftovers_for_another_store_stay_and_are_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(root)
    folder = leave(logger, metric(1, 1.0))
    (folder / "store.txt").write_text("http://elsewhere:5000")
    logger.send_leftovers()
    assert "--mlflow.tracking_uri http://elsewhere:5000" in capsys.readouterr().out
    assert (folder / "records.jsonl").stat().st_size > 0


def test_the_end_that_a_lost_run_would_get_is_refused_and_no_fault(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has deleted the run for good while it went on."""
    logger = RunLogger(root)
    assert logger.run_id
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("delete from tags")
        database.execute("delete from runs")
    logger.log_metrics({"train/reward": 1.0}, 1)
    logger.finalize("success")
    assert not (root / "unsent").exists()
    assert {m.split(" of this run")[0].rpartition(" ")[2] for m in caplog.messages} == {
        "metrics",
        "end",
    }


def test_metrics_that_are_no_numbers_are_kept_as_they_are(root: Path) -> None:
    logger = RunLogger(root)
    assert logger.run_id
    logger.log_metrics({"nan": float("nan"), "inf": float("inf"), "minus": -float("inf")}, 1)
    ((_, nan),) = points(logger, "nan")
    assert nan != nan
    ((_, infinity),) = points(logger, "inf")
    assert infinity > 1e300
    logger.finalize("success")


def test_an_own_store_that_is_no_database_is_not_called_unreachable(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(Exception, match="not a database") as raised:
        assert RunLogger(root).run_id
    assert not isinstance(raised.value, ConfigError)


def test_watched_metrics_include_what_was_logged_before(root: Path) -> None:
    first = RunLogger(root)
    first.watch(["train/reward"])
    assert first.series == {"train/reward": {}}
    first.log_metrics({"train/reward": 1.0, "train/other": 5.0}, 1)
    assert first.series == {"train/reward": {1: 1.0}}
    assert first.flush()
    again = RunLogger(root)
    again.continue_run(str(first.run_id))
    again.watch(["train/reward"])
    again.log_metrics({"train/reward": 2.0}, 2)
    assert again.series == {"train/reward": {1: 1.0, 2: 2.0}}
    again.finalize("success")


def test_what_is_never_fatal_lets_interrupts_through(caplog: pytest.LogCaptureFixture) -> None:
    with never_fatal("a picture"):
        raise RecursionError("too deep")
    assert caplog.messages == ["The lab book goes without a picture: too deep"]
    with pytest.raises(KeyboardInterrupt), never_fatal("a picture"):
        raise KeyboardInterrupt


def test_leftovers_go_where_their_directory_was_moved(tmp_path: Path) -> None:
    before = RunLogger(tmp_path / "before")
    run_id = before.run_id
    folder = tmp_path / "before" / "unsent" / f"{run_id}.left"
    folder.mkdir(parents=True)
    (folder / "store.txt").write_text(before.address.shown)
    record = {"kind": "metrics", "time_ms": 1, "step": 0, "values": {"train/reward": 1.0}}
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "before").rename(tmp_path / "after")
    after = RunLogger(tmp_path / "after")
    after.send_leftovers()
    assert after.experiment.get_run(run_id).data.metrics == {"train/reward": 1.0}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "in_vain"),
    [
        (ModuleNotFoundError("No module named 'boto3'"), True),
        (MlflowException("x failed with error code 413 != 200. Response body: 'y'"), True),
        (MlflowException("x failed with error code 404 != 200. Response body: 'y'"), False),
        (MlflowException("x failed with error code 503 != 200. Response body: 'y'"), False),
        (ConnectionError("refused"), False),
    ],
)
def test_what_is_tried_in_vain(error: Exception, in_vain: bool) -> None:
    assert is_refusal(error) is in_vain
