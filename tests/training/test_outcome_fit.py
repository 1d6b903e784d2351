"""The outcome model in updates and whole fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
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
from aflow_grpo.records import Rollout
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.outcome_use import JudgedRewards
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings
from aflow_grpo.training.update import _Update, update_policy
from aflow_grpo.workbench.outcomes import executed_in, from_journal

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]


# One update


class _Judged(GRPOModule):
    """Trains once on given rollouts and what is to enter their advantages."""

    def __init__(self, batch: Sequence[Rollout], judged: JudgedRewards | None, scale: Any) -> None:
        super().__init__(
            Policy("tiny", sampling=SamplingSettings(max_new_tokens=24)),
            GRPOSettings(loss=LossSettings(advantage_scale=scale)),
            evaluation=EvaluationSettings(at_start=False, at_end=False),
        )
        self.batch, self.judged = batch, judged
        self.advantages: list[float] = []

    def configure_model(self) -> None:
        self.policy.setup()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.advantages = _Update(self, self.batch, 0, (), self.judged).advantages_N.tolist()
        update_policy(self, self.batch, judged=self.judged)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("group_std", [0.25, -0.25, 0.0, 0.0]),
        ("none", [1.0, -1.0, 0.0, 0.0]),
        ("leave_one_out", [2.0, -2.0, 0.0, 0.0]),
    ],
)
def test_advantages_are_of_what_was_judged_over_the_spread_of_what_happened(
    scale: str, expected: list[float]
) -> None:
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=24))
    policy.setup()
    drawn = policy.eval().sample([policy.encode(problem("math").visible)] * 4, range(4))
    batch = [
        rollout(group=n // 2, member=n % 2, total=float(n), completion=completion)
        for n, completion in enumerate(drawn)
    ]
    judged = JudgedRewards([5.0, 3.0, 1.0, 1.0], {0: 4.0, 1: 2.0})
    module = _Judged(batch, judged, scale)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=Path("unused"),
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(1)))  # type: ignore[arg-type]
    assert module.advantages == pytest.approx(expected)


# Whole fits

CHANGES: dict[str, Any] = {
    "model__evaluation__at_start": False,
    "model__evaluation__at_end": False,
    "trainer__val_check_interval": 100,
    "rollout__rollout__fallback": "never",
    "model__policy__init_args__sampling__max_new_tokens": 200,
    "model__grpo__group_size": 16,
    "model__grpo__outcome_model__from_iteration": 1,
    "model__grpo__outcome_model__min_rows": 1,
    "model__grpo__outcome_model__refit_every": 2,
    "model__grpo__demonstrations__source": "outcome_model",
    "model__grpo__demonstrations__min_runs": 1,
    "model__grpo__demonstrations__temperature": 1.0,
}


def fit(folder: Path, root: Path, *more: str, **changes: Any) -> int:
    settings = write_settings(folder, **{**CHANGES, **changes})
    return run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)


def test_a_fit_judges_shows_and_reports_and_its_journal_makes_a_router(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    assert fit(tmp_path, root, trainer__max_steps=3) == 0
    metrics = metrics_of(root)
    rows = [metrics["train/outcome/rows", step] for step in (1, 2, 3)]
    executed = executed_in(root)
    assert rows == sorted(rows) and rows[-1] == len(executed) > 0
    assert ("train/outcome/agreement", 1) not in metrics, "it only collects at first"
    assert {("train/outcome/agreement", 2), ("train/outcome/agreement", 3)} <= set(metrics)
    assert metrics["train/demonstrations", 1] == 0 < metrics["train/demonstrations", 3]
    state = checkpoint_of(root)["aflow_grpo"]["outcomes"]
    assert [reward for reward, _, _ in state["memory"]["figures"]] == [
        row.reward for row, _ in executed
    ]
    assert len(executed_in(root, last_step=1)) == rows[0]
    router = from_journal(root, min_runs=1)
    domain, (row, _) = executed[0][0].domain, executed[0]
    chosen = router.choose(domain, [row.text])[0].candidate.source
    assert chosen in [source for _, source in executed]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    changes = {"trainer__max_steps": 5, "trainer__logger": False}
    init = "{iteration: 3, moment: between}"
    interrupt = f"--trainer.callbacks=[{{class_path: trainer_runs.Interrupt, init_args: {init}}}]"
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert fit(tmp_path, straight, **changes) == 0
    assert fit(tmp_path, stopped, interrupt, **changes) == INTERRUPTED
    assert len(checkpoint_of(stopped)["aflow_grpo"]["outcomes"]["memory"]["places"]) > 0
    assert fit(tmp_path, stopped, "--ckpt_path=last", **changes) == 0
    assert_equal_checkpoints(straight, stopped)
