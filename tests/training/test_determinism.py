"""A run is a function of its settings and its seed, whatever the order of the executor's answers.

Two fits of two steps each, compared to the bit: trained weights, and every metric but times.
"""

from pathlib import Path

import pytest
from trainer_runs import checkpoint_of, digest, metrics_of, new_root, run_verb, write_settings


def fit(folder: Path, name: str, *changes: str) -> Path:
    """Train two steps in `folder`; returns the run directory."""
    folder.mkdir(exist_ok=True)
    settings = write_settings(folder, trainer__max_steps=2, model__evaluation__at_end=False)
    root = new_root(folder / name)
    assert (
        run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *changes) == 0
    )
    return root


def weights(root: Path) -> str:
    """sha256 of the trained weights."""
    return digest(checkpoint_of(root)["state_dict"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with one workflow at a time: its executor calls return in one order only."""
    return fit(tmp_path_factory.mktemp("straight"), "run", "--rollout.rollout.concurrency=1")


def test_slow_and_concurrent_answers_change_nothing(straight: Path, tmp_path: Path) -> None:
    """Exponential latencies with eight workflows in flight shuffle the order of the answers."""
    shuffled = fit(
        tmp_path,
        "run",
        "--rollout.rollout.concurrency=8",
        "--llm.simulator.latency_ms=60",
        "--model.grpo.sample_batch_size=4",
    )
    assert metrics_of(shuffled) == metrics_of(straight)
    assert weights(shuffled) == weights(straight)
    logged = metrics_of(straight)
    assert {step for _, step in logged} == {1, 2}
    assert logged["train/skipped_update", 1] == 0, "otherwise equal weights would show nothing"
    assert logged["train/llm_calls_per_problem", 2] > 0 or logged["train/fallback_rate", 2] == 1


def test_another_seed_gives_other_weights_and_metrics(straight: Path, tmp_path: Path) -> None:
    other = fit(tmp_path, "run", "--seed_everything=1")
    assert weights(other) != weights(straight)
    assert metrics_of(other) != metrics_of(straight)
