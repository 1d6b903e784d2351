"""Stop anywhere, resume: weights, optimiser and metrics equal those of the uninterrupted run.

Equal means to the bit: for metrics the last value per name and step, times aside. The interrupted
run is stopped three times, each at another kind of moment, and once more goes back to an earlier
checkpoint, as after a kill.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_runs import (
    INTERRUPTED,
    checkpoint_of,
    metrics_of,
    new_root,
    run_ids,
    run_verb,
    spent_usd,
    write_settings,
)

LORA = {
    "model.policy.init_args.lora": {"rank": 4, "alpha": 4, "dropout": 0.1},
    "model.grpo.minibatches": 2,
    "trainer.max_steps": 8,  # counts optimiser steps
}
STOPS = [(0, "updating", 1), (1, "executing", 1), (2, "validating", 2), (3, "between", 3)]
"""(completed iterations, moment of Ctrl-C, iteration of the checkpoint)."""


@dataclass(frozen=True)
class Pair:
    """The same run twice: straight, and stopped and resumed."""

    settings: Path
    straight: Path
    stopped: Path

    def fit(self, root: Path, *more: str) -> int:
        """Run or continue a fit in `root`."""
        arguments = [f"--config={self.settings}", f"--trainer.default_root_dir={root}"]
        return run_verb("fit", *arguments, *more)


def callbacks(*specs: str) -> str:
    """A flag that adds callbacks of `trainer_runs`; the first watches what the run is billed."""
    listed = ["{class_path: trainer_runs.Spending}", *specs]
    return f"--trainer.callbacks=[{', '.join(listed)}]"


def interrupt(iteration: int, moment: str) -> str:
    """A callback that presses Ctrl-C."""
    init = f"{{iteration: {iteration}, moment: {moment}}}"
    return f"{{class_path: trainer_runs.Interrupt, init_args: {init}}}"


@pytest.fixture(scope="module", params=["full", "lora"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Four iterations; with every weight trained, and with adapters, dropout and minibatches."""
    folder = tmp_path_factory.mktemp(request.param)
    changes: dict[str, Any] = LORA if request.param == "lora" else {}
    settings = write_settings(
        folder, **changes, model__evaluation__at_end=False, checkpoint__keep_every_n_iterations=2
    )
    pair = Pair(settings, new_root(folder / "straight"), new_root(folder / "stopped"))
    assert pair.fit(pair.straight, callbacks()) == 0
    resume: list[str] = []
    for iteration, moment, saved in STOPS:
        code = pair.fit(pair.stopped, callbacks(interrupt(iteration, moment)), *resume)
        assert (code, moment) == (INTERRUPTED, moment)
        assert checkpoint_of(pair.stopped)["aflow_grpo"]["iteration"] == saved
        resume = ["--ckpt_path=last"]
    assert pair.fit(pair.stopped, callbacks(), *resume) == 0
    return pair


def assert_equal_ends(pair: Pair) -> None:
    """Weights, optimiser, schedule and our own state, to the bit."""
    straight, stopped = checkpoint_of(pair.straight), checkpoint_of(pair.stopped)
    assert straight["aflow_grpo"]["iteration"] == 4
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "aflow_grpo", "global_step"):
        torch.testing.assert_close(stopped[part], straight[part], rtol=0, atol=0)


def test_resumed_runs_end_with_the_same_weights_and_optimiser(pair: Pair) -> None:
    assert_equal_ends(pair)
    start = torch.load(pair.straight / "checkpoints/step_000002.ckpt", weights_only=True)
    end = checkpoint_of(pair.straight)["state_dict"]
    assert any(not torch.equal(start["state_dict"][name], end[name]) for name in end)


def test_resumed_runs_log_the_same_metrics_into_the_same_run(pair: Pair) -> None:
    straight, stopped = metrics_of(pair.straight), metrics_of(pair.stopped)
    assert stopped == straight
    assert {step for name, step in straight if name.startswith("train/")} == {1, 2, 3, 4}
    assert {step for name, step in straight if name == "val/valid_rate_greedy"} == {2}
    assert {step for name, step in straight if name == "val/quick/reward_greedy"} == {4}
    assert len(run_ids(pair.stopped)) == 1


def test_a_killed_run_pays_nothing_again_and_ends_the_same(pair: Pair) -> None:
    """Back to a checkpoint of the middle, as after kill -9: what follows comes from the journal."""
    earlier = pair.stopped / "checkpoints" / "step_000002.ckpt"
    assert sum(spent_usd(pair.stopped)) == pytest.approx(spent_usd(pair.straight)[0])
    assert pair.fit(pair.stopped, callbacks(), f"--ckpt_path={earlier}") == 0
    assert spent_usd(pair.stopped)[-1] == 0
    assert_equal_ends(pair)
    assert metrics_of(pair.stopped) == metrics_of(pair.straight)
    assert len(run_ids(pair.stopped)) == 1


def test_a_checkpoint_holds_trained_weights_and_state_only(pair: Pair) -> None:
    saved = checkpoint_of(pair.straight)
    trained = sum(t.numel() * t.element_size() for t in saved["state_dict"].values())
    adapters = "lora" in str(pair.settings)
    assert all(("lora_" in name) is adapters for name in saved["state_dict"])
    size = (pair.straight / "checkpoints" / "last.ckpt").stat().st_size
    # Weights and AdamW's two moments, and 64 KB for names, counters and evaluations.
    assert 3 * trained < size < 3 * trained + 65536
    if adapters:
        assert size < 600_000, "less than a fifth of the base weights alone"


def test_a_finished_run_can_be_prolonged_and_judged_again(pair: Pair) -> None:
    """The last evaluation of a run that was stopped after its last step is made up for."""
    before = checkpoint_of(pair.straight)["global_step"]
    judged = ["--model.evaluation.at_end=true", "--ckpt_path=last"]
    assert pair.fit(pair.straight, *judged) == 0
    logged = metrics_of(pair.straight)
    assert {step for name, step in logged if name == "val/accuracy"} == {4}
    assert pair.fit(pair.straight, *judged) == 0
    assert len(checkpoint_of(pair.straight)["aflow_grpo"]["evaluations"]) == 1, "once is enough"
    more = [f"--trainer.max_steps={before + 1}", "--ckpt_path=last"]
    assert pair.fit(pair.straight, *more) == 0
    assert checkpoint_of(pair.straight)["aflow_grpo"]["iteration"] == 5


def test_a_checkpoint_of_another_policy_is_refused(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "--model.policy.init_args.lora={rank: 2}"
    assert pair.fit(pair.straight, other, "--ckpt_path=last") == 2
    error = capsys.readouterr().err.strip()
    assert "--ckpt_path: the checkpoint was made with policy qwen2-" in error
    assert '"rank": 2' in error and "Traceback" not in error
