"""`kill -9` at random times, again and again until the run is through: the end is the same."""

import random
import signal
from pathlib import Path

import pytest
from trainer_runs import (
    assert_equal_checkpoints,
    journaled_calls,
    metrics_of,
    new_root,
    run_ids,
    start_verb,
    write_settings,
)

pytestmark = pytest.mark.slow

STEPS = 12
SHORTEST_S, LONGEST_S = 2.0, 9.0
"""Life of a process before it is killed; what it does in that time depends on the machine."""
PATIENCE = 60
"""Kills after which a run that never gets through is a failure."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps, two of which have a validation that executes, and both full evaluations."""
    return write_settings(
        tmp_path_factory.mktemp("kills"),
        trainer__max_steps=STEPS,
        trainer__val_check_interval=3,
        model__evaluation__at_start=True,
        checkpoint__every_n_iterations=2,
        data__quick_val_size=3,
    )


@pytest.fixture(scope="module")
def straight(settings: Path) -> Path:
    """The uninterrupted run."""
    root = new_root(settings.parent / "straight")
    process = start_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}")
    process.join()
    assert process.exitcode == 0
    return root


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_random_ends_the_same(settings: Path, straight: Path, seed: int) -> None:
    root = new_root(settings.parent / f"killed-{seed}")
    dice = random.Random(seed)
    arguments = ["fit", f"--config={settings}", f"--trainer.default_root_dir={root}"]
    kills = 0
    while True:
        process = start_verb(*arguments)
        process.join(dice.uniform(SHORTEST_S, LONGEST_S))
        process.kill()  # does nothing to a process that has ended
        process.join()
        if process.exitcode == 0:
            break
        # A kill before the run exists leaves nothing to resume.
        resume = ["--ckpt_path=last"] if (root / "run.json").exists() else []
        arguments = [*arguments[:3], *resume]
        kills += 1
        assert process.exitcode == -signal.SIGKILL
        assert kills < PATIENCE, "no process lived long enough to get to the next checkpoint"
    print(f"seed {seed}: killed {kills} times")
    assert kills > 1
    assert_equal_checkpoints(root, straight)
    assert metrics_of(root) == metrics_of(straight)
    assert journaled_calls(root) == journaled_calls(straight)
    assert len(run_ids(root)) == 1
