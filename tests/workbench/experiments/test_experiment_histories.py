"""How training runs went, read from lab books that MLflow's own client wrote."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.experiments.histories import PANELS, draw_histories, histories_of
from aflow_grpo.workbench.experiments.plan import Arm, Replicate
from aflow_grpo.workbench.experiments.running import Cell

# MLflow's own doing.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REPLICATE = Replicate(0, 0, 901, "development")
TRAINED = Cell(Arm("trained"), REPLICATE)
DIRECT, REWARD = PANELS


def test_resumptions_make_one_course_and_only_arms_that_train_are_drawn(tmp_path: Path) -> None:
    fit = tmp_path / TRAINED.name / "fit"
    fit.mkdir(parents=True)
    client = MlflowClient(f"sqlite:///{fit / 'mlflow.db'}")
    for shares in ({1: 0.25, 2: 0.5}, {2: 0.75, 3: 1.0}):  # the second began before the first's end
        run = client.create_run("0").info.run_id
        for step, share in shares.items():
            client.log_metric(run, DIRECT, share, step=step)
    rescored = client.create_run("0", tags={"aflow_grpo.verb": "rescore"}).info.run_id
    client.log_metric(rescored, DIRECT, 0.0, step=1)
    assert histories_of(fit, [DIRECT, REWARD]) == {DIRECT: {1: 0.25, 2: 0.75, 3: 1.0}, REWARD: {}}
    untrained = Cell(Arm("untrained", train=False), REPLICATE)
    judged = Cell(Arm("judged", of="trained"), REPLICATE)
    picture = draw_histories(tmp_path, [untrained, TRAINED, judged], "made")
    assert picture is not None
    assert "trained (1)" in picture
    assert "untrained" not in picture
    assert "judged" not in picture


def test_nothing_trained_nothing_drawn(tmp_path: Path) -> None:
    assert draw_histories(tmp_path, [Cell(Arm("a", train=False), REPLICATE)], "made") is None


def test_a_run_without_its_lab_book_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lab book"):
        draw_histories(tmp_path, [TRAINED], "made")
