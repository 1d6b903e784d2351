"""Stages of the reward: when they change, and real runs that start on structure alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_rollouts import REPAIRED, rollout
from trainer_runs import (
    INTERRUPTED,
    assert_equal_checkpoints,
    checkpoint_of,
    journaled_calls,
    metrics_of,
    new_root,
    run_verb,
    write_settings,
)

from aflow_grpo.records import Rollout, Status
from aflow_grpo.rewards import RewardSchedule, RewardSettings
from aflow_grpo.training.stage import RewardStage

DIRECT_ONE = rollout()
FAILED_ONE = rollout(status=Status.INVALID)
MASKED_ONE = rollout(status=Status.UNAVAILABLE)


def settings(**schedule: float | int | None) -> RewardSettings:
    return RewardSettings(
        stage="structure",
        schedule=RewardSchedule(**schedule),  # type: ignore[arg-type]
    )


def stages(chosen: RewardSettings, batches: list[list[Rollout]]) -> str:
    """One letter per step: s for structure, f for full; saved and loaded before every step."""
    stage, letters = RewardStage(), ""
    for step, batch in enumerate(batches):
        again = RewardStage()
        again.load_state_dict(json.loads(json.dumps(stage.state_dict())))
        stage = again
        letters += stage.current(chosen, step)[0]
        metric = stage.observe(chosen, batch, "full" if letters[-1] == "f" else "structure")
        assert metric == {"train/reward_stage": float(letters[-1] == "f")}
    return letters


HALF = [DIRECT_ONE, FAILED_ONE]
ALL = [DIRECT_ONE, DIRECT_ONE]


@pytest.mark.parametrize(
    ("schedule", "batches", "expected"),
    [
        ({}, [ALL] * 4, "ssss"),
        ({"full_from_step": 0}, [HALF] * 3, "fff"),
        ({"full_from_step": 2}, [HALF] * 4, "ssff"),
        # The mean of the last two is .75 after two steps, and stays decided afterwards
        ({"full_from_direct_rate": 0.75, "over_steps": 2}, [HALF, ALL, HALF, []], "ssff"),
        ({"full_from_direct_rate": 0.8, "over_steps": 2}, [HALF, ALL, ALL, HALF, HALF], "sssff"),
        ({"full_from_direct_rate": 0.5, "over_steps": 1}, [HALF, HALF], "sf"),
        # Too few steps so far
        ({"full_from_direct_rate": 0.5, "over_steps": 5}, [ALL] * 7, "sssssff"),
        # Whichever comes first
        ({"full_from_direct_rate": 1.0, "full_from_step": 1, "over_steps": 1}, [HALF] * 3, "sff"),
        ({"full_from_direct_rate": 0.5, "full_from_step": 9, "over_steps": 1}, [HALF] * 3, "sff"),
        # Masked rollouts, and steps with nothing else, do not count
        (
            {"full_from_direct_rate": 1.0, "over_steps": 2},
            [[DIRECT_ONE, MASKED_ONE], [MASKED_ONE], ALL, ALL],
            "sssf",
        ),
        # A repaired workflow is not direct
        (
            {"full_from_direct_rate": 0.6, "over_steps": 1},
            [[DIRECT_ONE, rollout(source=REPAIRED)], HALF],
            "ss",
        ),
    ],
)
def test_the_stage_changes_once_at_the_step_or_the_rate(
    schedule: dict[str, float], batches: list[list[Rollout]], expected: str
) -> None:
    assert stages(settings(**schedule), batches) == expected


def test_asking_about_a_later_step_changes_nothing() -> None:
    """A step whose workflows are written ahead, but which a stopped run then does not make."""
    stage, chosen = RewardStage(), settings(full_from_step=2)
    assert [stage.current(chosen, step)[0] for step in (5, 2, 1, 0)] == ["f", "f", "s", "s"]
    stage.observe(chosen, ALL, "structure")
    assert stage.state_dict() == {"switched": False, "direct_rates": [1.0]}
    # Once such a step has been made, there is no way back.
    stage.observe(chosen, ALL, "full")
    assert stage.state_dict() == {"switched": True, "direct_rates": [1.0]}
    assert stage.current(settings(), 0) == "full"


def test_full_from_the_start_keeps_no_state() -> None:
    chosen = replace(settings(full_from_step=3), stage="full")
    assert stages(chosen, [ALL] * 2) == "ff"
    stage = RewardStage()
    stage.current(chosen, 0)
    stage.observe(chosen, ALL, "full")
    assert stage.state_dict() == {"switched": False, "direct_rates": []}


def test_a_checkpoint_from_before_there_were_stages_is_taken() -> None:
    stage = RewardStage()
    stage.load_state_dict({})
    assert stage.current(settings(), 5) == "structure"


# Real runs

STRUCTURE = {
    "rollout.reward.stage": "structure",
    "model.evaluation.at_end": False,
    "trainer.val_check_interval": 100,
}


def fit(root: Path, config: Path, *more: str) -> int:
    return run_verb("fit", f"--config={config}", f"--trainer.default_root_dir={root}", *more)


def test_a_fit_on_structure_alone_asks_no_endpoint_and_costs_nothing(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    config = write_settings(tmp_path, **STRUCTURE, **{"trainer.max_steps": 3})
    assert fit(root, config) == 0
    found = metrics_of(root)
    for step in (1, 2, 3):
        assert found["train/reward_stage", step] == 0
        assert found["train/cost_usd_per_problem", step] == 0
        assert found["train/cost_usd_total", step] == 0
        assert -10 <= found["train/reward", step] <= 10
        assert 0 <= found["train/structure/validity", step] <= 1
    assert journaled_calls(root) == 0
    assert checkpoint_of(root)["aflow_grpo"]["cost_usd"] == 0


def test_evaluation_executes_even_while_training_does_not(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    config = write_settings(
        tmp_path, **{**STRUCTURE, "model.evaluation.at_end": True, "trainer.max_steps": 1}
    )
    assert fit(root, config) == 0
    assert ("val/reward", 1) in metrics_of(root)
    assert journaled_calls(root) > 0


def test_a_stopped_run_changes_its_stage_at_the_same_step(tmp_path: Path) -> None:
    config = write_settings(
        tmp_path,
        **STRUCTURE,
        **{"trainer.max_steps": 4, "rollout.reward.schedule.full_from_step": 2},
    )
    straight, stopped = new_root(tmp_path / "straight"), new_root(tmp_path / "stopped")
    assert fit(straight, config) == 0
    init = "{iteration: 3, moment: between}"
    interrupt = f"[{{class_path: trainer_runs.Interrupt, init_args: {init}}}]"
    assert fit(stopped, config, f"--trainer.callbacks={interrupt}") == INTERRUPTED
    assert checkpoint_of(stopped)["aflow_grpo"]["reward_stage"]["switched"] is True
    assert fit(stopped, config, "--ckpt_path=last") == 0
    assert_equal_checkpoints(straight, stopped)
    found = metrics_of(straight)
    assert [found["train/reward_stage", step] for step in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert metrics_of(stopped) == found
    assert journaled_calls(straight) > 0


def test_a_run_stopped_while_it_wrote_ahead_is_still_in_its_own_stage(tmp_path: Path) -> None:
    config = write_settings(
        tmp_path,
        **STRUCTURE,
        **{
            "rollout.overlap": "step",
            "trainer.max_steps": 2,
            "rollout.reward.schedule.full_from_step": 1,
        },
    )
    root = new_root(tmp_path / "run")
    init = "{iteration: 0, moment: writing, count: 12}"  # of 8 of the first step, 8 of the second
    interrupt = f"[{{class_path: trainer_runs.Interrupt, init_args: {init}}}]"
    assert fit(root, config, f"--trainer.callbacks={interrupt}") == INTERRUPTED
    assert checkpoint_of(root)["aflow_grpo"]["reward_stage"]["switched"] is False
    assert fit(root, config, "--ckpt_path=last") == 0
    found = metrics_of(root)
    assert [found["train/reward_stage", step] for step in (1, 2)] == [0, 1]
