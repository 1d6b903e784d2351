"""Runs on a real tracking server: complete, nested, and the same after the server was killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking_server import Outage, TrackingServer, free_port, metrics_in, runs_in
from trainer_runs import metrics_of, new_root, run_ids, run_verb, write_settings

STEPS = 4
SETTINGS = {
    "trainer.max_steps": STEPS,
    "model.policy.init_args.sampling.max_new_tokens": 48,
    "mlflow.table_every_n_iterations": 1,
    "mlflow.pictures": 1,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("server") / "store")
    yield server
    server.close()


def files(folder: Path) -> set[str]:
    """Names below a run's artifacts; problems and steps are in them."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_run_whose_server_dies_and_returns_ends_like_an_undisturbed_one(
    server: TrackingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_settings(tmp_path, **SETTINGS)
    calm = new_root(tmp_path / "calm")
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={calm}") == 0

    Outage.server = server
    root = tmp_path / "stormy"
    common = [f"--trainer.default_root_dir={root}", f"--mlflow.tracking_uri={server.uri}"]
    outage = "{class_path: tracking_server.Outage, init_args: {gone_after: 1, back_after: 3}}"
    code = run_verb("fit", f"--config={settings}", *common, f"--trainer.callbacks=[{outage}]")
    assert code == 0

    (run,) = runs_in(server.store)
    found = metrics_in(server.store, run)
    assert {key: values[-1] for key, values in found.items()} == metrics_of(calm)
    assert {len(values) for values in found.values()} == {1}, "something is there twice"
    (calm_run,) = run_ids(calm)
    kept = files(server.folder / "artifacts" / "1" / run / "artifacts")
    assert kept == files(calm / "artifacts" / calm_run / "artifacts")
    assert {"config/fit.yaml", "plots/course.png", "samples/train_000003.json"} <= kept
    with sqlite3.connect(server.store) as database:
        (status,) = database.execute("select status from runs").fetchone()
        (params,) = database.execute("select count(*) from params").fetchone()
    assert status == "FINISHED" and params > 100
    assert not (root / "unsent").exists() and not (root / "mlflow.db").exists()
    told = [m for m in caplog.messages if "MLflow at" in m]
    assert len([m for m in told if "does not answer" in m]) <= 1
    assert len(told) <= 2

    # Judged below the fit, from another directory as well.
    there = tmp_path / "elsewhere"
    arguments = [f"--config={settings}", f"--mlflow.tracking_uri={server.uri}"]
    arguments += [f"--ckpt_path={root / 'checkpoints' / 'last.ckpt'}"]
    assert run_verb("test", *arguments, f"--trainer.default_root_dir={there}") == 0
    tags = list(runs_in(server.store).values())[-1]
    assert (tags["aflow_grpo.verb"], tags["mlflow.parentRunId"]) == ("test", run)


def test_a_server_that_is_not_there_at_the_start_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, port = tmp_path / "run", free_port()
    uri = f"http://me:secret@127.0.0.1:{port}"
    settings = write_settings(tmp_path, **SETTINGS)
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *arguments, f"--mlflow.tracking_uri={uri}") == 2
    told = capsys.readouterr()
    _, _, error = told.err.rpartition("\naflow-grpo fit: ")
    assert len(error.strip().splitlines()) == 1
    assert f"mlflow.tracking_uri=http://127.0.0.1:{port}: MLflow cannot be used there" in told.err
    assert "Connection refused" in told.err
    assert "secret" not in told.err + told.out
    assert not (root / "mlflow.db").exists() and not (root / "checkpoints").exists()
