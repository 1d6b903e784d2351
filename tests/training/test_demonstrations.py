"""Demonstrations: which are found, that they are verified, what imitating them does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from made_rollouts import REPAIRED, problem, rollout
from torch.testing import assert_close

from aflow_grpo.data.sources import DataSource
from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.policy import EndpointPolicy, Policy
from aflow_grpo.records import Completion, Rollout, Status
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.demonstrations import (
    Demonstrations,
    DemonstrationSettings,
    imitation_loss,
)
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.workflow.library import library


@pytest.fixture(scope="module")
def module() -> GRPOModule:
    """A module whose policy is there; nobody changes its weights."""
    threads = torch.get_num_threads()
    policy = Policy("tiny")
    policy.setup()
    torch.set_num_threads(threads)
    return GRPOModule(policy.eval(), seed=3)


def written(number: int, total: float, **changes: Any) -> Rollout:
    """A right, direct workflow for problem `number`, recognisable by its tokens."""
    ids = (5, 6, 7 + int(total))
    completion = Completion("{}", (1, 2), ids, (-0.1, -0.2, -1 / 3), finished=True)
    return rollout(**{"group": number, "total": total, "correct": True, "completion": completion,
                      **changes})  # fmt: skip


def wrong(number: int, member: int = 0) -> Rollout:
    return rollout(group=number, member=member, total=-2.0)


def shown(demonstrations: Demonstrations, module: GRPOModule, batch: list[Rollout]) -> list[Any]:
    found = demonstrations.for_batch(module, batch)
    assert found.executed == []
    return found.demonstrations


def remembering(**settings: Any) -> Demonstrations:
    return Demonstrations(DemonstrationSettings(source="rollouts", **settings))


# Earlier rollouts


def test_the_best_right_workflow_of_earlier_iterations_comes_back_as_it_was_drawn(
    module: GRPOModule,
) -> None:
    demonstrations = remembering(weight=0.5, use="member")
    batch = [wrong(0), wrong(0, 1), wrong(1)]
    assert shown(demonstrations, module, batch) == []
    demonstrations.remember([written(0, 3.0), written(0, 8.0), written(0, 5.0), wrong(1)])
    demonstrations.remember([written(0, 8.0, completion=written(0, 1.0).completion), wrong(0)])
    (found,) = shown(demonstrations, module, batch)
    assert (found.group, found.reward, found.weight, found.use) == (0, 8.0, 0.5, "member")
    assert found.completion.token_ids == (5, 6, 15), "the first of two that are equally good"
    assert found.completion.logprobs == (-0.1, -0.2, -1 / 3)
    local: Any = module.policy
    assert found.completion.prompt_ids == local.encode(problem("math", 0).visible).ids
    assert found.completion.finished


@pytest.mark.parametrize(
    "unfit",
    [
        {"correct": False},
        {"source": REPAIRED},
        {"status": Status.UNAVAILABLE},
        {"completion": Completion("{}", (1,), (4,), (-1.0,), finished=False)},
        {"completion": Completion("{}", (), (), (), finished=True)},
    ],
)
def test_what_is_not_verified_is_not_remembered(module: GRPOModule, unfit: dict[str, Any]) -> None:
    demonstrations = remembering()
    demonstrations.remember([written(0, 9.0, **unfit)])
    assert shown(demonstrations, module, [wrong(0)]) == []


def test_solved_groups_need_none_unless_asked_for(module: GRPOModule) -> None:
    batch = [wrong(0), written(0, 1.0, member=1), wrong(1), written(1, 2.0, member=1), wrong(2)]
    for only_unsolved, groups in ((True, [2]), (False, [0, 1, 2])):
        demonstrations = remembering(only_unsolved=only_unsolved)
        demonstrations.remember([written(number, 4.0) for number in range(4)])
        assert [d.group for d in shown(demonstrations, module, batch)] == groups
    hidden = [replace(r, execution=replace(r.execution, status=Status.UNAVAILABLE)) for r in batch]
    assert shown(demonstrations, module, hidden) == [], "nothing is known of a masked group"


def test_problems_seen_long_ago_are_forgotten(module: GRPOModule) -> None:
    demonstrations = remembering(remembered_problems=2)
    demonstrations.remember([written(0, 4.0), written(1, 4.0)])
    demonstrations.remember([wrong(0), written(2, 4.0)])
    batch = [wrong(number) for number in range(3)]
    assert [d.group for d in shown(demonstrations, module, batch)] == [0, 2]


def test_state_survives_a_checkpoint(module: GRPOModule) -> None:
    first, second = remembering(), remembering()
    first.remember([written(0, 4.0), written(1, 7.0)])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    batch = [wrong(0), wrong(1)]
    assert shown(second, module, batch) == shown(first, module, batch) != []
    assert second.state_dict() == first.state_dict()


def test_without_settings_there_are_none(module: GRPOModule) -> None:
    demonstrations = Demonstrations(None)
    demonstrations.remember([written(0, 4.0)])
    assert shown(demonstrations, module, [wrong(0)]) == []
    assert demonstrations.state_dict() == {}


# The library


@pytest.fixture
def opened(module: GRPOModule, tmp_path: Path) -> Iterator[GRPOModule]:
    """The module with a trainer whose rollout callback is open."""
    callback = RolloutCallback(LLMSettings(simulator=SimulatorSettings(), journal=False))
    trainer: Any = L.Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[callback],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.datamodule = WorkflowDataModule(val=[DataSource("sample", split="val")])
    trainer.datamodule.setup("validate")
    callback.setup(trainer, module, "validate")
    module.trainer = trainer
    yield module
    callback.close()


def test_library_workflows_are_executed_and_only_right_ones_are_shown(opened: GRPOModule) -> None:
    data: Any = opened.trainer.datamodule  # type: ignore[attr-defined]
    every = data.problems("val")[:12]
    batch = [replace(wrong(group), problem=p) for group, p in enumerate(every)]
    batch[5] = replace(batch[5], score=replace(batch[5].score, correct=True))
    settings = DemonstrationSettings(source="library", use="member", weight=1.0)
    found = Demonstrations(settings).for_batch(opened, batch)
    assert [r.group for r in found.executed] == [g for g in range(12) if g != 5]
    assert all(r.execution.direct and r.execution.usage.calls for r in found.executed)
    right = {r.group: r for r in found.executed if r.score.correct}
    assert 0 < len(right) < len(found.executed), "some are right and some are not"
    assert [d.group for d in found.demonstrations] == sorted(right)
    local: Any = opened.policy
    for one in found.demonstrations:
        rollout, ids = right[one.group], one.completion.token_ids
        assert (one.completion, one.reward) == (rollout.completion, rollout.reward.total)
        assert ids[-1] == local.end_id == local.tokenizer.eos_token_id
        assert local.tokenizer.decode(list(ids[:-1])) == one.completion.text
        assert one.completion.logprobs == (0.0,) * len(ids)
        codes = [source.graph_code for source in library(rollout.problem.domain).values()]
        assert rollout.execution.source is not None
        assert rollout.execution.source.graph_code in codes
    assert len({r.execution.source.graph_code for r in found.executed if r.execution.source}) > 4
    again = Demonstrations(settings).for_batch(opened, batch)
    assert again.demonstrations == found.demonstrations


def test_no_workflow_is_shown_that_the_policy_could_not_write(opened: GRPOModule) -> None:
    data: Any = opened.trainer.datamodule  # type: ignore[attr-defined]
    batch = [replace(wrong(g), problem=p) for g, p in enumerate(data.problems("val")[:4])]
    local: Any = opened.policy
    before = local.sampling
    try:
        local.sampling = replace(before, max_new_tokens=40)
        found = Demonstrations(DemonstrationSettings(source="library")).for_batch(opened, batch)
    finally:
        local.sampling = before
    assert found == ([], [])


# What imitating does


def test_the_loss_is_the_weighted_mean_over_all_tokens(module: GRPOModule) -> None:
    demonstrations = remembering(weight=0.25, use="auxiliary")
    demonstrations.remember([written(0, 4.0), written(1, 2.0)])
    both = shown(demonstrations, module, [wrong(0), wrong(1)])
    logprobs = module.policy.score([d.completion for d in both]).logprobs_BT
    whole = imitation_loss(module.policy, both, tokens=6)
    assert_close(whole, -0.25 * logprobs.sum() / 6)
    parts = [imitation_loss(module.policy, [one], tokens=6) for one in both]
    assert_close(parts[0] + parts[1], whole)
    assert whole.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 0.0}, r"model\.grpo\.demonstrations\.weight=0: expected more than 0"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"remembered_problems": 0}, "remembered_problems=0: expected at least 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DemonstrationSettings(**settings)


def test_an_endpoint_has_no_tokens_to_imitate() -> None:
    demonstrations = remembering()
    demonstrations.remember([written(0, 4.0)])
    with pytest.raises(ConfigError, match=r"model\.grpo\.demonstrations: gpt-4o-mini at .* null"):
        demonstrations.for_batch(GRPOModule(EndpointPolicy()), [wrong(0)])
