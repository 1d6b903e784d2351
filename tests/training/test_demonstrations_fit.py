"""Demonstrations in an update and in whole fits: what they teach, what they leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from made_rollouts import problem, rollout
from torch.utils.data import DataLoader
from trainer_runs import (
    INTERRUPTED,
    assert_equal_checkpoints,
    checkpoint_of,
    metrics_of,
    new_root,
    run_verb,
    write_settings,
)

from aflow_grpo.grpo.presets import LossSettings
from aflow_grpo.policy import Policy, SamplingSettings
from aflow_grpo.records import Completion, Rollout
from aflow_grpo.training.demonstrations import Demonstration, DemonstrationSettings
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.update import UpdateReport, update_policy

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

OFF = EvaluationSettings(at_start=False, at_end=False)


# One update


class _Showing(GRPOModule):
    """Trains once on given rollouts and demonstrations."""

    def __init__(self, batch: Sequence[Rollout], shown: Sequence[Demonstration], **grpo: Any):
        super().__init__(
            Policy("tiny", sampling=SamplingSettings(max_new_tokens=24)),
            GRPOSettings(
                demonstrations=DemonstrationSettings(), loss=LossSettings(entropy_coef=0.0), **grpo
            ),
            OptimizerSettings(learning_rate=1e-4, warmup_steps=0, final_fraction=1.0),
            OFF,
        )
        self.batch, self.shown = batch, shown
        self.report: UpdateReport | None = None

    def configure_model(self) -> None:
        self.policy.setup()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.report = update_policy(self, self.batch, demonstrations=self.shown)


def updated(batch: Sequence[Rollout], *shown: Demonstration, **grpo: Any) -> _Showing:
    module = _Showing(batch, shown, **grpo)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=Path("unused"),
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(1)))  # type: ignore[arg-type]
    return module


def metric(module: GRPOModule, name: str) -> float:
    report = getattr(module, "report", None)
    assert isinstance(report, UpdateReport)
    return report.metrics[f"train/{name}"]


@torch.no_grad()
def logprob(policy: Any, completion: Completion) -> float:
    policy.eval()
    return float(policy.score([completion]).logprobs_BT.sum())


@pytest.fixture(scope="module")
def completions() -> list[Completion]:
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=24))
    policy.setup()
    drawn = policy.eval().sample([policy.encode(problem("math").visible)] * 9, range(9))
    return [c for c in drawn if len(c.token_ids) == 24][:5]


def failing(completions: Sequence[Completion]) -> list[Rollout]:
    """A group that says nothing: all are equally bad."""
    return [rollout(total=-2.0, member=m, completion=c) for m, c in enumerate(completions[:4])]


@pytest.mark.parametrize("use", ["auxiliary", "member"])
@pytest.mark.parametrize("steps", [{}, {"minibatches": 2, "ppo_epochs": 2}])
def test_a_silent_group_learns_from_its_demonstration(
    completions: list[Completion], use: Any, steps: dict[str, int]
) -> None:
    given = replace(completions[4], logprobs=(0.0,) * len(completions[4].token_ids))
    shown = Demonstration(given, group=0, reward=9.0, weight=1.0, use=use)
    first = Policy("tiny", sampling=SamplingSettings(max_new_tokens=24))
    first.setup()
    module = updated(failing(completions), shown, **steps)
    gains = [logprob(module.policy, c) - logprob(first, c) for c in completions]
    assert gains[4] > max(gains[:4]) + 0.1, "the more so beside what failed"
    assert metric(module, "skipped_update") == 0.0
    assert metric(module, "demonstrations") == 1.0
    assert metric(module, "workflows") == 4.0, "a demonstration is none of the policy's"
    assert metric(module, "zero_variance_groups") == 1.0, "nor does it hide a silent group"
    alone = updated(failing(completions), **steps)
    assert metric(alone, "skipped_update") == 1.0 and metric(alone, "demonstrations") == 0.0


def test_an_unlikely_demonstration_weighs_as_much_as_the_policy_likes_it(
    completions: list[Completion],
) -> None:
    # Nobody drew it: each token's gradient is weighed by its probability under the policy.
    given = replace(completions[4], logprobs=(0.0,) * len(completions[4].token_ids))
    drawn = completions[4]
    weights = []
    for completion in (given, drawn):
        shown = Demonstration(completion, group=0, reward=9.0, weight=1.0, use="member")
        weights.append(metric(updated(failing(completions), shown), "correction_mean"))
    tokens = [len(c.token_ids) for c in completions]
    mean = sum(torch.tensor(drawn.logprobs).exp().tolist())
    expected = (sum(tokens[:4]) + mean) / sum(tokens)
    assert weights == pytest.approx([expected, 1.0], abs=1e-4)


def test_the_figures_are_the_policys_own_and_independent_of_micro_batches(
    completions: list[Completion],
) -> None:
    own = [
        replace(r, reward=replace(r.reward, total=float(member)))
        for member, r in enumerate(failing(completions))
    ]
    given = replace(completions[4], logprobs=(0.0,) * len(completions[4].token_ids))
    shown = Demonstration(given, group=0, reward=9.0, weight=1.0, use="member")
    reports = [updated(own, shown, micro_batch_size=size).report for size in (1, 3, 5)]
    assert all(report is not None for report in reports)
    figures = [report.metrics for report in reports if report is not None]
    for other in figures[:-1]:
        assert other == pytest.approx(figures[-1], rel=1e-4)
    assert figures[-1]["train/correction_mean"] < 1 - 1e-3, "otherwise every size would agree"
    alone = updated(own).report
    assert alone is not None
    for name in ("entropy", "ratio_mean", "ratio_max", "clip_fraction", "workflows"):
        key = f"train/{name}"
        assert figures[-1][key] == pytest.approx(alone.metrics[key], rel=1e-5), name


# Whole fits

BRIEF = {
    "model__evaluation__at_end": False,
    "trainer__val_check_interval": 100,
    "rollout__rollout__fallback": "never",
    "model__policy__init_args__sampling__max_new_tokens": 200,
}


def fit(folder: Path, root: Path, *more: str, **changes: Any) -> int:
    settings = write_settings(folder, **{**BRIEF, **changes})
    return run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)


def demonstrations(**settings: Any) -> dict[str, Any]:
    return {f"model__grpo__demonstrations__{name}": value for name, value in settings.items()}


def interrupt(iteration: int, moment: str) -> str:
    init = f"{{iteration: {iteration}, moment: {moment}}}"
    return f"--trainer.callbacks=[{{class_path: trainer_runs.Interrupt, init_args: {init}}}]"


def test_they_cost_and_count_in_no_figure_of_the_policy(tmp_path: Path) -> None:
    plain, shown = new_root(tmp_path / "plain"), new_root(tmp_path / "shown")
    assert fit(tmp_path, plain, trainer__max_steps=1) == 0
    library = demonstrations(source="library", use="member", weight=1.0)
    assert fit(tmp_path, shown, trainer__max_steps=1, **library) == 0
    without, found = metrics_of(plain), metrics_of(shown)
    assert found["train/demonstrations", 1] > 0
    assert found["train/cost_usd_total", 1] > without["train/cost_usd_total", 1] >= 0
    of_the_policy = [
        key for key in without
        if key[0].startswith(("train/reward", "train/direct", "train/accuracy", "train/length",
                              "train/cost_usd_per_problem", "train/workflows", "train/status"))
    ]  # fmt: skip
    assert len(of_the_policy) > 20
    assert all(found[key] == without[key] for key in of_the_policy)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    # One problem, met again in every iteration.
    changes = {
        **demonstrations(source="rollouts", use="member", only_unsolved=False),
        "data__batch_size": 1,
        "data__train": [{"dataset": "jsonl", "path": str(tmp_path / "problems.jsonl")}],
        "data__mix": {"math": 1.0, "code": 0.0, "qa": 0.0},
        "trainer__max_steps": 5,
        "trainer__logger": False,
        "model__grpo__group_size": 32,
    }
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert fit(tmp_path, straight, **changes) == 0
    assert fit(tmp_path, stopped, interrupt(3, "between"), **changes) == INTERRUPTED
    remembered = checkpoint_of(stopped)["aflow_grpo"]["demonstrations"]
    assert remembered, "the fourth iteration shows what an earlier one found"
    assert fit(tmp_path, stopped, "--ckpt_path=last", **changes) == 0
    assert_equal_checkpoints(straight, stopped)
    assert checkpoint_of(straight)["aflow_grpo"]["iteration"] == 5
