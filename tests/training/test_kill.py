"""`kill -9` at any moment: the resumed run ends as if nothing had happened.

One run of each kind is killed again and again, each time at another kind of moment, the first
before it has a checkpoint. Every moment alone is in `slow/test_every_kill.py`.
"""

from pathlib import Path

import pytest
from kill_runs import STEPS, Kill, World, assert_same_end
from trainer_runs import checkpoint_of, journaled_calls, metrics_of

ON_POLICY = (
    Kill(1, "updating", 2),  # inside accumulation
    Kill(2, "stepping", 2),  # between epochs of a half-used buffer
)
AHEAD = (
    Kill(0, "writing", 11),  # of 8 now and 8 ahead
    Kill(1, "executing", 5),
    Kill(2, "saving", saved=1),
    Kill(STEPS, "judging"),
)


@pytest.mark.parametrize(
    ("overlap", "passes", "kills"),
    [("group", True, ON_POLICY), ("step", False, AHEAD)],
    ids=["group-4-steps-per-batch", "step"],
)
def test_a_run_killed_anywhere_ends_the_same(
    overlap: str, passes: bool, kills: tuple[Kill, ...], tmp_path: Path
) -> None:
    world = World(tmp_path, overlap, passes)
    straight = world.run("straight")
    assert_same_end(world.run("killed", *kills), straight)
    metrics = metrics_of(straight)
    lags = [metrics["train/policy_lag", step] for step in range(1, STEPS + 1)]
    assert lags == ([0, 1, 1] if overlap == "step" else [0, 0, 0])
    assert all(metrics["train/skipped_update", step] == 0 for step in range(1, STEPS + 1))
    assert {step for name, step in metrics if name == "val/quick/reward_greedy"} == {2}
    assert ("val/reward", STEPS) in metrics
    assert journaled_calls(straight) > 0
    assert not checkpoint_of(straight)["aflow_grpo"]["written_ahead"], "nothing follows"
