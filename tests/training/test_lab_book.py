"""What a fit leaves in MLflow besides numbers, and how to look at what any logger has got."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from peft import PeftConfig
from safetensors.torch import load_file
from trainer_runs import checkpoint_of, new_root, run_ids, run_verb, write_settings

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.lab_book import LabBook
from aflow_grpo.training.looking import how_to_look
from aflow_grpo.training.run_logger import RunLogger
from aflow_grpo.training.tracking_address import TrackingAddress

STEPS = 2


def fit(tmp_path: Path, *more: str) -> tuple[Path, Path]:
    """A run's directory and its artifacts."""
    settings = write_settings(
        tmp_path,
        **{
            "trainer.max_steps": STEPS,
            "model.policy.init_args.sampling.max_new_tokens": 48,
            "mlflow.table_every_n_iterations": 1,
        },
    )
    root = new_root(tmp_path / "run")
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *arguments, *more) == 0
    (run,) = run_ids(root)
    return root, root / "artifacts" / run / "artifacts"


def test_a_fit_leaves_tables_a_plot_and_its_weights(tmp_path: Path) -> None:
    root, kept = fit(tmp_path)
    tables = sorted(path.name for path in (kept / "samples").iterdir())
    assert tables[:2] == ["train_000001.json", "train_000002.json"]
    table = json.loads((kept / "samples" / "train_000001.json").read_text(encoding="utf-8"))
    assert len(table["data"]) == 8, "2 problems with 4 workflows each"
    assert (kept / "plots" / "course.png").stat().st_size > 10_000
    weights = load_file(kept / "weights" / "model.safetensors")
    trained = checkpoint_of(root)["state_dict"]
    assert {f"policy.{name}": tensor.tolist() for name, tensor in weights.items()} == {
        name: tensor.tolist() for name, tensor in trained.items()
    }


def test_adapters_are_kept_as_a_folder_that_peft_knows(tmp_path: Path) -> None:
    lora = "--model.policy.init_args.lora={rank: 4, alpha: 4}"
    _, kept = fit(tmp_path, lora, "--mlflow.table_every_n_iterations=0", "--mlflow.pictures=0")
    assert PeftConfig.from_pretrained(str(kept / "adapter")).r == 4
    assert (kept / "adapter" / "adapter_model.safetensors").is_file()
    assert not (kept / "pictures").exists()
    assert not list((kept / "samples").glob("train_*"))


def test_another_logger_gets_every_number_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings(tmp_path, **{"trainer.max_steps": 1, "progress.quiet": False})
    root = tmp_path / "run"
    logger = f"{{class_path: CSVLogger, init_args: {{save_dir: {root}}}}}"
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *arguments, f"--trainer.logger={logger}") == 0
    (table,) = root.rglob("metrics.csv")
    header = table.read_text().splitlines()[0].split(",")
    assert {"train/reward", "val/accuracy", "train/reward/correctness", "step"} <= set(header)
    assert not (root / "mlflow.db").exists() and not (root / "unsent").exists()
    assert f"{table}" in capsys.readouterr().out


def test_how_to_look_names_a_page_a_command_or_nothing(tmp_path: Path) -> None:
    own = RunLogger(new_root(tmp_path / "run"))
    board = TensorBoardLogger(tmp_path, name="board", version=0)
    assert how_to_look([own, board, CSVLogger(tmp_path, "csv", 0)]) == [
        f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/run/mlflow.db",
        f"tensorboard --logdir {tmp_path}/board/version_0",
        f"{tmp_path}/csv/version_0/metrics.csv",
    ]
    run = own.run_id
    own.address = TrackingAddress("http://host:5000/", "http://host:5000/", is_own=False)
    assert how_to_look([own]) == [f"http://host:5000/#/experiments/1/runs/{run}"]
    assert how_to_look([]) == []


@pytest.mark.parametrize(
    "wrong", [{"table_every_n_iterations": -1}, {"pictures": -1}, {"weights_mb": -0.5}]
)
def test_settings_that_make_no_sense_are_refused_by_their_key(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"mlflow\.{name}=-.*expected 0 or more"):
        LabBook(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"mlflow\.experiment"):
        LabBook(experiment="")
