"""Batches written one step ahead: by which policy, in which checkpoint, and when not.

That such a run can be killed anywhere is in `test_kill.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trainer_runs import (
    INTERRUPTED,
    checkpoint_of,
    metrics_of,
    new_root,
    run_verb,
    write_settings,
)

from aflow_grpo.policy import Policy
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.pipeline import Pipeline

LAG = "train/policy_lag"


def settings_of(folder: Path, **changes: Any) -> Path:
    return write_settings(
        folder,
        rollout__overlap="step",
        trainer__val_check_interval=100,
        model__evaluation__at_end=False,
        **changes,
    )


def fit(settings: Path, root: Path, *more: str) -> int:
    return run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)


def lags(root: Path) -> dict[int, float]:
    return {step: value for (name, step), value in metrics_of(root).items() if name == LAG}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(settings, a run of four steps that was stopped after two)."""
    folder = tmp_path_factory.mktemp("ahead")
    settings, root = settings_of(folder), new_root(folder / "run")
    press = "{class_path: trainer_runs.Interrupt, init_args: {iteration: 2, moment: between}}"
    assert fit(settings, root, f"--trainer.callbacks=[{press}]") == INTERRUPTED
    return settings, root


def test_the_checkpoint_holds_what_was_written_ahead(stopped: tuple[Path, Path]) -> None:
    ahead = checkpoint_of(stopped[1])["aflow_grpo"]["written_ahead"]
    (state,) = ahead["due"]
    assert state["policy_version"] == 1, "written before the second update"
    assert len(state["problem_ids"]) == 2 and len(state["texts"]) == 8
    lengths = state["token_ids"]["lengths"]
    assert lengths.tolist() == state["logprobs"]["lengths"].tolist()
    assert lengths.sum() == len(state["token_ids"]["values"]) == len(state["logprobs"]["values"])
    assert (state["logprobs"]["values"] <= 0).all()


@pytest.mark.parametrize("rehearse", [False, True])
def test_a_run_stopped_before_its_first_step_saves_what_it_has_loaded(
    rehearse: bool, stopped: tuple[Path, Path]
) -> None:
    ahead = checkpoint_of(stopped[1])["aflow_grpo"]["written_ahead"] | {"rehearse": rehearse}
    pipeline = Pipeline(GRPOModule(Policy("tiny")))
    pipeline.load_state_dict(ahead)
    assert pipeline.state_dict() == ahead


def test_another_overlap_uses_it_up_and_goes_on_in_its_own_way(
    stopped: tuple[Path, Path],
) -> None:
    settings, root = stopped
    assert fit(settings, root, "--ckpt_path=last", "--rollout.overlap=none") == 0
    assert lags(root) == {1: 0, 2: 1, 3: 1, 4: 0}
    assert checkpoint_of(root)["aflow_grpo"]["written_ahead"] == {}


def test_nothing_is_written_ahead_of_the_last_epochs_end(tmp_path: Path) -> None:
    """Whatever ends a run first: its optimiser steps, or its epochs of so many batches."""
    settings = settings_of(
        tmp_path, trainer__max_steps=100, trainer__max_epochs=1, trainer__limit_train_batches=2
    )
    root = new_root(tmp_path / "run")
    assert fit(settings, root) == 0
    assert lags(root) == {1: 0, 2: 1}
    assert checkpoint_of(root)["aflow_grpo"]["written_ahead"] == {}


def test_nothing_is_written_ahead_of_an_iteration_that_may_be_the_last(tmp_path: Path) -> None:
    """Two optimiser steps an iteration, five in all: whether a fourth comes is not known before."""
    settings = settings_of(tmp_path, trainer__max_steps=5, model__grpo__minibatches=2)
    root = new_root(tmp_path / "run")
    assert fit(settings, root) == 0
    skipped = {k[1]: v for k, v in metrics_of(root).items() if k[0] == "train/skipped_update"}
    assert skipped == {1: 0, 2: 0, 3: 0}, "otherwise an iteration counts as one step"
    assert lags(root) == {1: 0, 2: 1, 3: 1}
    assert checkpoint_of(root)["aflow_grpo"]["written_ahead"] == {}
