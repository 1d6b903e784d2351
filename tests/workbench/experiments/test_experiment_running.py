"""Cells in child processes: what fails, what is stopped, what is done already."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from journaled_world import RIGHT, batch, write
from made_rows import made

from aflow_grpo import __version__
from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.experiments.plan import Arm, Experiment, Replicate
from aflow_grpo.workbench.experiments.rows import Row, write_rows
from aflow_grpo.workbench.experiments.running import (
    Cell,
    ExperimentFailed,
    Workshop,
    cells_of,
    keep_settings,
)

TRAINED = Arm("trained", configs=("configs/quickstart.yaml",))
JUDGING = Arm("judging", of="trained", settings={"a.b": 1})
EXPERIMENT = Experiment(
    name="made", question="?", arms=(TRAINED, JUDGING), judge={"new": {"data.batch_size": 3}}
)
REPLICATE = Replicate(1, 1, 901, "development")
SERVE = ["simulate", "--port=0"]
PATIENCE_S = 60.0


def workshop(root: Path, experiment: Experiment = EXPERIMENT) -> Workshop:
    return Workshop(experiment, root, tell=lambda text: None)


def greeted(*logs: Path) -> None:
    """Wait until simulators say in their logs that they serve."""
    until = time.monotonic() + PATIENCE_S
    while not all(log.is_file() and "base_url" in log.read_text() for log in logs):
        assert time.monotonic() < until, "no simulator began to serve"
        time.sleep(0.05)


def test_a_verb_that_succeeds_is_timed(tmp_path: Path) -> None:
    assert 0 < workshop(tmp_path).run(["--version"], tmp_path / "a", "what") < PATIENCE_S
    assert (tmp_path / "a" / "log.txt").read_text().strip() == __version__


def test_a_verb_that_fails_says_how_and_why(tmp_path: Path) -> None:
    with pytest.raises(ExperimentFailed) as failed:
        workshop(tmp_path).run(["a verb"], tmp_path / "a", "cell: fit")
    told = str(failed.value)
    assert told.startswith("cell: fit: `aflow-grpo 'a verb'` ended with code 2.")
    assert f"{tmp_path}/a/log.txt" in told
    assert "there is no verb 'a verb'" in told


def test_kill_at_an_iteration_then_stop(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    write(tmp_path / "journal.db", [], batch("r", "train", RIGHT))  # iteration 4
    process, _ = shop.start(SERVE, tmp_path)
    assert shop.kill_at(process, tmp_path, 4) >= 0
    assert process.returncode == -9
    shop.stop()  # of nothing
    with pytest.raises(ExperimentFailed, match="stopped"):
        shop.start(SERVE, tmp_path)


def test_a_run_that_ends_before_its_kill_is_not_waited_for(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    process, _ = shop.start(["a verb"], tmp_path)
    shop.kill_at(process, tmp_path, 1)
    assert process.returncode == 2


class Serving(Workshop):
    """Its cells are simulators, which run until they are stopped; arm `fails` fails at once."""

    def rows_of(self, cell: Cell) -> list[Row]:
        if cell.arm.name == "fails":
            greeted(self.root / "second-0" / "log.txt")
            self.run(["a verb"], self.root / cell.name, cell.name)
        self.run(SERVE, self.root / cell.name, cell.name)
        return []


def served(*arms: str) -> tuple[Experiment, list[Cell]]:
    experiment = Experiment(name="made", question="?", arms=tuple(map(Arm, arms)))
    return experiment, cells_of(experiment, [Replicate(0, 0, 901, "development")])


def test_ctrl_c_ends_the_children(tmp_path: Path) -> None:
    experiment, cells = served("first", "second", "third")
    shop = Serving(experiment, tmp_path)
    logs = [tmp_path / f"{name}-0" / "log.txt" for name in ("first", "second")]

    def interrupt() -> None:
        greeted(*logs)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    try:
        watcher.start()
        with pytest.raises(KeyboardInterrupt):
            shop.make(cells, workers=2)
    finally:
        signal.signal(signal.SIGINT, usual)
    watcher.join()
    assert not shop._processes
    assert not (tmp_path / "third-0").exists()


def test_a_failure_ends_the_others_at_once(tmp_path: Path) -> None:
    experiment, cells = served("second", "fails", "third")
    shop = Serving(experiment, tmp_path)
    with pytest.raises(ExperimentFailed, match="fails-0"):  # not after `second`, which comes first
        shop.make(cells, workers=2)
    assert not shop._processes


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    shop.stop()  # whatever would run is an error
    cells = cells_of(EXPERIMENT, [REPLICATE])
    rows = [made(arm=cell.arm.name, replicate=1) for cell in cells]
    for cell, row in zip(cells, rows, strict=True):
        for part in ["judge-new"] if cell.arm.of else ["fit", "judge-new"]:
            with pytest.raises(ExperimentFailed, match="stopped"):
                shop.rows_of(cell)
            (tmp_path / cell.name / part / "done.json").write_text("{}")
        write_rows(tmp_path / cell.name / "judge-new" / "rows.jsonl", [row])
    assert shop.make(cells, workers=1) == rows
    assert not list(tmp_path.rglob(".*.part"))


def test_a_cell_of_other_settings_is_refused(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    shop.stop()
    with pytest.raises(ExperimentFailed, match="stopped"):
        shop.rows_of(Cell(TRAINED, REPLICATE))
    other = workshop(tmp_path, Experiment(**{**vars(EXPERIMENT), "settings": {"c": 2}}))
    (tmp_path / "trained-1" / "fit" / "done.json").write_text("{}")
    with pytest.raises(ConfigError, match="trained-1/fit: made with other settings"):
        other.rows_of(Cell(TRAINED, REPLICATE))


def test_settings_are_whole_or_not_there(tmp_path: Path) -> None:
    file = keep_settings(tmp_path / "cell", {"b": [1, {"c": "ü"}], "a": None})
    assert keep_settings(tmp_path / "cell", {"a": None, "b": [1, {"c": "ü"}]}) == file
    before = file.read_text()
    with pytest.raises(ConfigError, match="made with other settings"):
        keep_settings(tmp_path / "cell", {"a": 0})
    assert file.read_text() == before


def test_a_judging_arm_has_the_repetitions_of_the_trained_one() -> None:
    few = Arm("few", policies=("", "there"), replicates=1)
    experiment = Experiment(name="n", question="?", arms=(Arm("of it", of="few"), few))
    replicates = [Replicate(n, n, 901 + n, "development") for n in range(2)]
    cells = cells_of(experiment, replicates)
    assert [(cell.name, cell.policy) for cell in cells] == [
        ("few-0", ""), ("few-100", "there"), ("of-it-0", ""), ("of-it-100", "there"),
    ]  # fmt: skip


def test_a_warm_start_that_is_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    shop = workshop(tmp_path)
    shop.stop()
    shop.prepare(Cell(TRAINED, REPLICATE, str(tmp_path)))
    with pytest.raises(ExperimentFailed, match="stopped"):
        shop.prepare(Cell(TRAINED, REPLICATE, str(tmp_path / "other")))
