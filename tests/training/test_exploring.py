"""What is executed before training: all kinds alike, paid for once, and known to the model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import (
    INTERRUPTED,
    assert_equal_checkpoints,
    checkpoint_of,
    metrics_of,
    new_root,
    run_verb,
    write_settings,
)

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.structure import structure_of
from aflow_grpo.training.demonstrations import DemonstrationSettings
from aflow_grpo.training.outcome_use import OutcomeSettings
from aflow_grpo.workbench.outcomes import executed_in
from aflow_grpo.workbench.runs import read_run

CHANGES: dict[str, Any] = {
    "model__evaluation__at_start": False,
    "model__evaluation__at_end": False,
    "trainer__val_check_interval": 100,
    "rollout__rollout__fallback": "never",
    "model__policy__init_args__sampling__max_new_tokens": 200,
    "model__grpo__outcome_model__explore": 30,
    "model__grpo__outcome_model__explore_samples": 128,
    "model__grpo__outcome_model__from_iteration": 0,
    "model__grpo__outcome_model__min_rows": 1,
    "model__grpo__demonstrations__source": "outcome_model",
    "model__grpo__demonstrations__min_runs": 1,
    "model__grpo__demonstrations__further_problems": 3,
}


def fit(folder: Path, root: Path, *more: str, **changes: Any) -> int:
    settings = write_settings(folder, **{**CHANGES, **changes})
    return run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)


def test_kinds_take_turns_and_are_paid_for(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    assert fit(tmp_path, root, trainer__max_steps=1) == 0
    rollouts = [stored.rollout for stored in read_run(root).rollouts(("explore",))]
    assert len(rollouts) == 30
    assert all(rollout.execution.direct for rollout in rollouts), "only what is valid is executed"
    for domain in ("math", "code", "qa"):
        kinds = Counter(
            structure_of(r.execution.source).key for r in rollouts if r.problem.domain == domain
        )
        assert len(kinds) > 1 and max(kinds.values()) - min(kinds.values()) <= 1
    metrics = metrics_of(root)
    paid = sum(rollout.execution.usage.cost_usd for rollout in rollouts)
    assert metrics["train/cost_usd_total", 1] >= paid > 0
    assert metrics["train/outcome/rows", 1] == len(executed_in(root)) >= 30
    # Those of the batch's own groups, and further ones.
    assert metrics["train/demonstrations", 1] > 3


@pytest.mark.slow
def test_a_run_that_was_stopped_explores_once(tmp_path: Path) -> None:
    changes = {"trainer__max_steps": 3, "trainer__logger": False}
    init = "{iteration: 1, moment: between}"
    interrupt = f"--trainer.callbacks=[{{class_path: trainer_runs.Interrupt, init_args: {init}}}]"
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert fit(tmp_path, straight, **changes) == 0
    assert fit(tmp_path, stopped, interrupt, **changes) == INTERRUPTED
    places = checkpoint_of(stopped)["aflow_grpo"]["outcomes"]["memory"]["places"]
    assert len(places) >= 30
    assert fit(tmp_path, stopped, "--ckpt_path=last", **changes) == 0
    assert_equal_checkpoints(straight, stopped)


@pytest.mark.parametrize("wrong", [{"explore": -1}, {"explore_samples": 0}])
def test_settings_are_checked(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"model.grpo.outcome_model.{name}="):
        OutcomeSettings(**wrong)


def test_further_problems_need_the_model() -> None:
    with pytest.raises(ConfigError, match="further_problems=4 with source=rollouts"):
        DemonstrationSettings(further_problems=4)
