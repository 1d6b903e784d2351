"""`kill -9` while the tracking server is away: nothing is lost, and nothing is there twice."""

import signal
from pathlib import Path

import pytest
from tracking_server import TrackingServer, metrics_in, runs_in
from trainer_runs import assert_equal_checkpoints, metrics_of, new_root, start_verb, write_settings

pytestmark = pytest.mark.slow

STEPS = 5
KILL_INIT = "iteration: 3, moment: between, name: SIGKILL"
KILL = f"{{class_path: trainer_runs.Interrupt, init_args: {{{KILL_INIT}}}}}"


def fit(*arguments: str) -> int:
    process = start_verb("fit", *arguments)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_what_was_logged_in_the_outage_outlasts_a_kill(tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path,
        **{
            "trainer.max_steps": STEPS,
            "checkpoint.every_n_iterations": 1,
            "mlflow.table_every_n_iterations": 1,
        },
    )
    calm, stormy = new_root(tmp_path / "calm"), tmp_path / "stormy"
    assert fit(f"--config={settings}", f"--trainer.default_root_dir={calm}") == 0

    server = TrackingServer(tmp_path / "server")
    try:
        common = (
            f"--config={settings}",
            f"--trainer.default_root_dir={stormy}",
            f"--mlflow.tracking_uri={server.uri}",
        )
        init = f"group: {server.group}, after: 1"
        gone = f"{{class_path: tracking_server.KillGroup, init_args: {{{init}}}}}"
        assert fit(*common, f"--trainer.callbacks=[{gone}, {KILL}]") == -signal.SIGKILL
        left = list(stormy.glob("unsent/*/records.jsonl"))
        assert len(left) == 1 and left[0].stat().st_size > 0
        assert fit(*common, "--ckpt_path=last") == 2, "it does not begin untracked"

        server.start()
        assert fit(*common, "--ckpt_path=last") == 0
        assert_equal_checkpoints(calm, stormy)
        (run,) = runs_in(server.store)
        found = metrics_in(server.store, run)
        assert {key: values[-1] for key, values in found.items()} == metrics_of(calm)
        assert {len(values) for values in found.values()} == {1}
        tables = server.folder.glob("artifacts/1/*/artifacts/samples/train_*.json")
        assert len(list(tables)) == STEPS
        assert not (stormy / "unsent").exists()
    finally:
        server.close()
