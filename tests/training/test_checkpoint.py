"""Checkpoint files are whole or absent, and `last` is found or explained."""

import os
from pathlib import Path

import pytest
import torch

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.checkpoint import AtomicCheckpointIO, BoundaryCheckpoint, last_checkpoint


def test_a_saved_checkpoint_loads_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.ones(3)}, path)
    writer.save_checkpoint({"a": torch.zeros(3)}, path)
    assert torch.equal(writer.load_checkpoint(path)["a"], torch.zeros(3))
    assert os.listdir(path.parent) == ["last.ckpt"]
    assert last_checkpoint(tmp_path) == path


def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"a": lambda: None}, path)
    assert writer.load_checkpoint(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_missing_last_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"last\.ckpt does not exist\. Give the --trainer"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize("settings", [{"every_n_iterations": 0}, {"keep_every_n_iterations": -1}])
def test_impossible_intervals_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"checkpoint.{next(iter(settings))}"):
        BoundaryCheckpoint(**settings)
