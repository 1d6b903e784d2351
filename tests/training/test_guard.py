"""Runs that go wrong end with code 4 and name a checkpoint that is still good; real fits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from trainer_runs import assert_equal_checkpoints, checkpoint_of, run_verb, write_settings

from aflow_grpo.errors import ConfigError, DivergedError
from aflow_grpo.policy import Policy
from aflow_grpo.policy.base import OnWritten
from aflow_grpo.records import Completion, VisibleProblem
from aflow_grpo.training.guard import GuardSettings, TrainingGuard, Validity, check_finite
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.ranks import TOLD
from aflow_grpo.workflow.policy_prompt import good_example

GONE_WRONG = 4
BRIEF = {
    "model__evaluation__at_end": False,
    "trainer__val_check_interval": 100,
    "rollout__rollout__fallback": "never",
    "checkpoint__every_n_iterations": 1,
    "trainer__logger": False,
}


class Spoiled(Policy):
    """The shipped policy, whose texts are good workflows until `spoiled_after` batches."""

    def __init__(self, spoiled_after: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.left = spoiled_after

    def write(
        self,
        problems_P: Sequence[VisibleProblem],
        seeds_B: Sequence[int],
        *,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        """Good ones while some are left."""
        size = len(seeds_B) // len(problems_P)
        written = super().write(problems_P, seeds_B, greedy=greedy)
        self.left -= 1
        if self.left >= 0:
            written = [
                replace(c, text=good(problems_P[b // size]), finished=True)
                for b, c in enumerate(written)
            ]
        if on_written is not None:
            for b, completion in enumerate(written):
                on_written(b, completion)
        return written


def good(problem: VisibleProblem) -> str:
    source = good_example(problem.domain)
    return json.dumps({"prompts": dict(source.prompts), "graph_code": source.graph_code})


def fit(folder: Path, root: Path, *more: str, **changes: Any) -> int:
    settings = write_settings(folder, **{**BRIEF, **changes})
    return run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)


def named(message: str) -> tuple[Path, int]:
    """The checkpoint that a message names; its weights are finite."""
    found = re.search(r"The last good checkpoint is (\S+) \(iteration (\d+)\)", message)
    assert found, message
    path = Path(found[1])
    loaded = torch.load(path, weights_only=True)
    assert loaded["aflow_grpo"]["iteration"] == int(found[2])
    assert loaded["state_dict"]
    assert all(tensor.isfinite().all() for tensor in loaded["state_dict"].values())
    return path, int(found[2])


def test_a_gradient_that_is_not_finite_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    assert fit(tmp_path, root, model__grpo__loss__entropy_coef=1e38) == GONE_WRONG
    message = capsys.readouterr().err
    assert re.search(r"the gradient norm is (inf|nan) in iteration 1", message)
    assert "a lower model.optimizer.learning_rate" in message and "Traceback" not in message
    path, iteration = named(message)
    assert (path, iteration) == (root / "checkpoints/last.ckpt", 0)
    policy = Policy("tiny")
    policy.setup()
    for name, tensor in policy.trainable_state_dict().items():
        assert torch.equal(checkpoint_of(root)["state_dict"][f"policy.{name}"], tensor)


def test_weights_that_are_not_finite_are_in_no_checkpoint_and_a_lower_rate_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    assert fit(tmp_path, root, trainer__max_steps=2) == 0
    more = {"trainer__max_steps": 4, "model__optimizer__warmup_steps": 0}
    fatal = {**more, "model__optimizer__learning_rate": 1e25}
    assert fit(tmp_path, root, "--ckpt_path=last", **fatal) == GONE_WRONG
    message = capsys.readouterr().err
    assert "the weights' norm is inf after the update of iteration 3" in message
    assert named(message) == (root / "checkpoints/last.ckpt", 2)
    assert fit(tmp_path, root, "--ckpt_path=last", **more) == 0
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 4


def test_kl_above_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    limits = {"model__grpo__loss__kl_coef": 1e-6, "model__grpo__guard__max_kl": 1e-9}
    reference = {"model__policy__init_args__kl_reference": True}
    assert fit(tmp_path, root, **limits, **reference) == GONE_WRONG
    message = capsys.readouterr().err
    assert re.search(r"is \S+ nats per token in iteration 2, above \S+max_kl=1e-09", message)
    assert named(message) == (root / "checkpoints/last.ckpt", 1), "the first update is at KL 0"


def test_a_collapse_of_validity_names_the_checkpoint_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled = {
        "model__policy__class_path": "test_guard.Spoiled",
        "model__policy__init_args__spoiled_after": 4,
        "model__grpo__guard__over_iterations": 3,
        "trainer__max_steps": 12,
    }
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert fit(tmp_path, whole, **spoiled) == GONE_WRONG
    message = capsys.readouterr().err
    # Valid shares of 1, 1, 1, 1, about 0.1, 0.1: three of them fall from 1 to 0.7 and 0.4.
    assert re.search(r"only \d+% of the workflows of the last 3 iterations are valid", message)
    assert "(now 6), after 100% at best" in message
    assert named(message) == (whole / "checkpoints/before_collapse.ckpt", 4)
    assert checkpoint_of(whole)["aflow_grpo"]["iteration"] == 5, "the last one before the end"
    # Stopped after the fall began, it ends at the same iteration.
    assert fit(tmp_path, stopped, **{**spoiled, "trainer__max_steps": 5}) == 0
    later = {**spoiled, "model__policy__init_args__spoiled_after": 0}
    assert fit(tmp_path, stopped, "--ckpt_path=last", **later) == GONE_WRONG
    assert named(capsys.readouterr().err) == (stopped / "checkpoints/before_collapse.ckpt", 4)
    assert_equal_checkpoints(stopped, whole)


# Validity alone


def collapses(shares: Sequence[float], **settings: Any) -> list[int]:
    """After which of the iterations with these shares validity has collapsed."""
    validity = Validity(GuardSettings(over_iterations=3, **settings))
    found = []
    for iteration, share in enumerate(shares, start=1):
        # It may be stopped and continued anywhere.
        state = json.loads(json.dumps(validity.state_dict()))
        validity = Validity(GuardSettings(over_iterations=3, **settings))
        validity.load_state_dict(state)
        validity.add(share)
        found += [iteration] if validity.collapsed else []
    return found


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.1, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5], []),  # a mean of 0.5 at worst, of 0.9
        ([0.9, 0.9, 0.9, 0.4, 0.4, 0.4, 0.9], [6]),  # 0.4 of 0.9
        ([0.4, 0.4, 0.4, 0.0, 0.0, 0.0], []),  # never were half of them valid
        ([0.9, 0.9, 0.3, 0.0, 0.0, 0.9], [5, 6]),  # means of 0.7, 0.4, 0.1 and 0.3
        ([0.9, 0.0], []),  # no three iterations
    ],
)
def test_when_validity_has_collapsed(shares: Sequence[float], expected: list[int]) -> None:
    assert collapses(shares) == expected
    assert collapses(shares, min_valid_share_of_best=None) == []


def test_what_a_checkpoint_holds_takes_the_place_of_what_was_there() -> None:
    validity = Validity(GuardSettings(over_iterations=3))
    state = {"shares": [1.0, 0.5], "best": 0.75}
    for _ in range(2):
        validity.load_state_dict(state)
        assert validity.state_dict() == state
    validity.load_state_dict({})
    assert validity.state_dict() == {"shares": [], "best": 0.0}


def test_what_every_rank_finds_out_the_first_one_speaks_of(tmp_path: Path) -> None:
    """The norms are those of all ranks: see `Ranks.together`, whose note this is."""
    module = GRPOModule(Policy("tiny"))
    module.trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    with pytest.raises(DivergedError, match="the gradient norm is nan in iteration 1") as caught:
        check_finite(math.nan, "gradient norm", module)
    assert caught.value.__notes__ == [TOLD]


def test_a_fall_begins_half_way_to_the_limit() -> None:
    validity = Validity(GuardSettings(over_iterations=1, min_valid_share_of_best=0.5))
    assert not validity.falling
    for share, falling in ((0.8, False), (0.61, False), (0.59, True), (0.8, False), (1.0, False)):
        validity.add(share)
        assert validity.falling == falling
    validity.add(0.7)
    assert validity.falling, "the best is 1.0 by now"
    validity.load_state_dict({})
    assert validity.best == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_kl": 0.0}, r"model\.grpo\.guard\.max_kl=0: expected more than 0"),
        ({"max_kl": float("nan")}, "max_kl=nan: expected more than 0"),
        ({"min_valid_share_of_best": 1.0}, "min_valid_share_of_best=1: expected .* less than 1"),
        ({"over_iterations": 0}, "over_iterations=0: expected at least 1"),
        ({"max_kl": 1.0}, r"needs a reference policy.*kl_coef=0 keeps none"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingGuard(GuardSettings(**settings), kl_is_known=False)
