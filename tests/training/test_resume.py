"""Stop anywhere, resume: weights, optimiser and metrics equal those of the uninterrupted run.

Equal means to the bit: for metrics the last value per name and step, times aside. One run is
stopped several times, each at another kind of moment; later it goes back to an earlier checkpoint,
as after a kill.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_runs import (
    INTERRUPTED,
    assert_equal_checkpoints,
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
Stop = tuple[int, str, int]
"""(completed iterations, moment of Ctrl-C, iteration that the checkpoint is then of)."""
FULL_STOPS = [
    (0, "between", 0),
    (0, "updating", 0),
    (0, "between", 0),
    (1, "executing", 1),
    (2, "validating", 2),
    (2, "between", 2),
    (2, "between", 2),
]
LORA_STOPS = [(1, "stepping", 2), (2, "executing", 2), (2, "updating", 2)]


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


def make_pair(folder: Path, stops: list[Stop], changes: dict[str, Any]) -> Pair:
    """Four iterations, straight; and stopped at each of `stops`."""
    settings = write_settings(
        folder, **changes, model__evaluation__at_end=False, checkpoint__keep_every_n_iterations=2
    )
    pair = Pair(settings, new_root(folder / "straight"), new_root(folder / "stopped"))
    assert pair.fit(pair.straight, callbacks()) == 0
    resume: list[str] = []
    for iteration, moment, saved in stops:
        code = pair.fit(pair.stopped, callbacks(interrupt(iteration, moment)), *resume)
        assert (code, moment) == (INTERRUPTED, moment)
        assert checkpoint_of(pair.stopped)["aflow_grpo"]["iteration"] == saved
        resume = ["--ckpt_path=last"]
    assert pair.fit(pair.stopped, callbacks(), *resume) == 0
    return pair


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Every weight is trained."""
    return make_pair(tmp_path_factory.mktemp("full"), FULL_STOPS, {})


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Adapters with dropout are trained, in two minibatches."""
    return make_pair(tmp_path_factory.mktemp("lora"), LORA_STOPS, LORA)


@pytest.fixture(params=["full", "lora"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Both, one after the other."""
    both: Pair = request.getfixturevalue(request.param)
    return both


def test_resumed_runs_end_with_the_same_weights_and_optimiser(pair: Pair) -> None:
    assert checkpoint_of(pair.straight)["aflow_grpo"]["iteration"] == 4
    assert_equal_checkpoints(pair.stopped, pair.straight)
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


def test_nothing_is_paid_twice(pair: Pair) -> None:
    """A call that was cut off may be missing from the sum, none may be in it twice."""
    straight, stopped = spent_usd(pair.straight), spent_usd(pair.stopped)
    assert len(straight) == 1 and len(stopped) > 2
    assert 0 < sum(stopped) <= straight[0] * (1 + 1e-9)


def test_a_killed_run_pays_nothing_again_and_ends_the_same(full: Pair) -> None:
    """Back to a checkpoint of the middle, as after kill -9: what follows comes from the journal."""
    earlier = full.stopped / "checkpoints" / "step_000002.ckpt"
    assert full.fit(full.stopped, callbacks(), f"--ckpt_path={earlier}") == 0
    assert spent_usd(full.stopped)[-1] == 0
    assert_equal_checkpoints(full.stopped, full.straight)
    assert metrics_of(full.stopped) == metrics_of(full.straight)
    assert len(run_ids(full.stopped)) == 1


def test_a_checkpoint_holds_trained_weights_and_state_only(full: Pair, lora: Pair) -> None:
    for pair, adapters in ((full, False), (lora, True)):
        weights = checkpoint_of(pair.straight)["state_dict"]
        assert all(("lora_" in name) is adapters for name in weights)
        size = (pair.straight / "checkpoints" / "last.ckpt").stat().st_size
        trained = sum(t.numel() * t.element_size() for t in weights.values())
        # Weights and AdamW's two moments; 1 KB per weight for names; counters and evaluations.
        assert 3 * trained < size < 3 * trained + 1024 * len(weights) + 65536
    assert size < 700_000, "less than a fifth of the base weights, which it does not hold"


def test_a_finished_run_can_be_judged_and_prolonged(lora: Pair) -> None:
    """The last evaluation of a run that was stopped after its last step is made up for."""
    judged = ["--model.evaluation.at_end=true", "--ckpt_path=last"]
    assert lora.fit(lora.stopped, *judged) == 0
    logged = metrics_of(lora.stopped)
    assert {step for name, step in logged if name == "val/accuracy"} == {4}
    before = checkpoint_of(lora.stopped)
    more = f"--trainer.max_steps={before['global_step'] + 1}"
    assert lora.fit(lora.stopped, "--ckpt_path=last", more) == 0
    after = checkpoint_of(lora.stopped)
    assert after["aflow_grpo"]["iteration"] == before["aflow_grpo"]["iteration"] + 1
    assert len(after["aflow_grpo"]["evaluations"]) == 1


def test_a_checkpoint_of_another_policy_is_refused(
    full: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "--model.policy.init_args.lora={rank: 2}"
    assert full.fit(full.straight, other, "--ckpt_path=last") == 2
    error = capsys.readouterr().err.strip()
    assert "--ckpt_path: the checkpoint was made with policy qwen2-" in error
    assert '"rank": 2' in error and "Traceback" not in error
