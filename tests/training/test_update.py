"""One update under a real Trainer: what changes weights, what must not, and how many steps."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from made_rollouts import problem, rollout
from torch.testing import assert_close
from torch.utils.data import DataLoader

from aflow_grpo.grpo.presets import LossSettings
from aflow_grpo.policy import Policy, SamplingSettings
from aflow_grpo.records import Completion, Rollout, Status
from aflow_grpo.training import metrics as documentation
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.update import UpdateReport, update_policy

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    # The reference policy of the KL term is in eval mode on purpose.
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

GROUPS, MEMBERS = 3, 4
ENTROPY = LossSettings(entropy_coef=0.01)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny() -> Policy:
    """The shipped policy in double precision, so that rounding does not hide a difference."""
    return loaded(Policy("tiny", sampling=SamplingSettings(max_new_tokens=24)))


def loaded(policy: Policy) -> Policy:
    policy.setup()
    return policy.double()


@pytest.fixture(scope="module")
def sampled() -> list[Completion]:
    """Completions of uneven lengths, problem-major: member m of a group has 6 + 5 m tokens."""
    policy = tiny().eval()
    prompts = [
        policy.encode(problem("math", b // MEMBERS).visible) for b in range(GROUPS * MEMBERS)
    ]
    drawn = policy.sample(prompts, range(GROUPS * MEMBERS))
    return [replace(c, token_ids=c.token_ids[: 6 + 5 * (b % MEMBERS)]) for b, c in enumerate(drawn)]


@pytest.fixture(scope="module")
def batch(sampled: list[Completion]) -> list[Rollout]:
    """Three groups of four with different rewards."""
    dice = random.Random(5)
    return [
        rollout(total=dice.uniform(-10, 10), group=b // MEMBERS, member=b % MEMBERS, completion=c)
        for b, c in enumerate(sampled)
    ]


class _Updating(GRPOModule):
    """Trains on rollouts made beforehand, one list for each iteration."""

    def __init__(self, batches: Sequence[Sequence[Rollout]], **settings: Any) -> None:
        off = EvaluationSettings(at_start=False, at_end=False)
        policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=24))
        super().__init__(policy, evaluation=off, **settings)
        loaded(policy)
        self.batches = batches
        self.reports: list[UpdateReport] = []
        self.history: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.policy.train()
        generator = torch.random.get_rng_state()
        self.reports.append(update_policy(self, self.batches[self.iteration]))
        assert torch.equal(generator, torch.random.get_rng_state()), "the global generator moved"
        self.history.append(weights(self.policy))
        self.iteration += 1


@dataclass
class Updated:
    """What an update left behind."""

    policy: Policy
    reports: list[UpdateReport]
    history: list[torch.Tensor]
    """All weights in one row after each iteration."""
    steps: int
    """Optimiser steps that Lightning counted."""

    def metric(self, name: str, iteration: int = 0) -> float:
        return self.reports[iteration].metrics[f"train/{name}"]


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([t.flatten().clone() for t in policy.trainable_state_dict().values()])


def update(*batches: Sequence[Rollout], seed: int = 0, rate: float = 1e-3, **grpo: Any) -> Updated:
    module = _Updating(
        batches,
        grpo=GRPOSettings(**{"loss": ENTROPY, **grpo}),
        optimizer=OptimizerSettings(learning_rate=rate, warmup_steps=0, final_fraction=1.0),
        seed=seed,
    )
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=Path("unused"),
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(len(batches)), batch_size=1))  # type: ignore[arg-type]
    return Updated(module.policy, module.reports, module.history, trainer.global_step)


def with_rewards(batch: Sequence[Rollout], totals: Sequence[float]) -> list[Rollout]:
    return [
        replace(r, reward=replace(r.reward, total=total))
        for r, total in zip(batch, totals, strict=True)
    ]


def masked(one: Rollout, total: float) -> Rollout:
    hidden = replace(one, execution=replace(one.execution, status=Status.UNAVAILABLE))
    return replace(hidden, reward=replace(one.reward, total=total))


# What must not matter


@pytest.mark.parametrize(
    "loss",
    [
        replace(ENTROPY, aggregation="sequence_mean"),
        replace(ENTROPY, aggregation="token_mean"),
        replace(ENTROPY, aggregation="constant", max_length=24, kl_coef=0.05),
    ],
    ids=lambda loss: loss.aggregation,
)
def test_the_split_into_micro_batches_changes_nothing(
    batch: list[Rollout], loss: LossSettings
) -> None:
    # Transformers computes its norms in single precision whatever the weights are, and Adam turns
    # rounding of the smallest gradients into a share of the rate.
    whole = update(batch, micro_batch_size=32, loss=loss, rate=1e-4)
    for size in (4, 5):
        split = update(batch, micro_batch_size=size, loss=loss, rate=1e-4)
        assert_close(split.history[0], whole.history[0], rtol=0, atol=1e-6)
        found, expected = (u.reports[0].metrics for u in (split, whole))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert split.steps == whole.steps == 1
    assert (whole.history[0] - weights(tiny())).abs().max() > 5e-5, "nothing was learned"


@pytest.mark.parametrize("scale", ["group_std", "none"])
def test_masked_rollouts_do_not_influence_the_update(batch: list[Rollout], scale: str) -> None:
    kept = [r for r in batch if (r.group, r.member) not in {(0, 1), (2, 3)}]
    hidden = [
        r if r in kept else masked(r, total)
        for r, total in zip(batch, [1e6, -1e6] * 6, strict=True)
    ]
    alone = update(kept, loss=replace(ENTROPY, advantage_scale=scale))
    beside = update(hidden, loss=replace(ENTROPY, advantage_scale=scale))
    assert torch.equal(alone.history[0], beside.history[0])
    assert beside.metric("workflows") == len(batch)
    assert beside.metric("entropy") == alone.metric("entropy")


def test_a_group_with_one_survivor_teaches_nothing(batch: list[Rollout]) -> None:
    group = [r for r in batch if r.group == 0]
    lonely = [group[0], *(masked(r, 5.0) for r in group[1:])]
    updated = update(lonely)
    assert torch.equal(updated.history[0], weights(tiny()))
    assert not updated.reports[0].learned


# What must matter


def test_what_is_better_than_its_siblings_becomes_likelier(batch: list[Rollout]) -> None:
    totals = [10.0 if r.member % 2 else -10.0 for r in batch]
    after = update(
        with_rewards(batch, totals), rate=1e-5, loss=LossSettings(entropy_coef=0.0)
    ).policy
    completions = [r.completion for r in batch]
    with torch.no_grad():
        scored, before = after.score(completions), tiny().score(completions)
    gain_B = (scored.logprobs_BT - before.logprobs_BT).sum(1) / scored.mask_BT.sum(1)
    # To first order, the step raises the sum of advantage times mean gain.
    assert (torch.tensor(totals).sign() * gain_B).mean() > 1e-3


def test_a_batch_without_signal_changes_no_weight_and_counts(batch: list[Rollout]) -> None:
    silent = with_rewards(batch, [float(r.group) for r in batch])
    gone = [masked(r, 1.0) for r in batch]
    # The first batch leaves momentum behind, which must not move anything later.
    updated = update(batch, silent, gone, silent)
    assert [report.learned for report in updated.reports] == [True, False, False, False]
    assert updated.steps == 4
    for later in updated.history[1:]:
        assert torch.equal(later, updated.history[0])
    assert updated.metric("skipped_update", 0) == 0 and updated.metric("skipped_update", 1) == 1
    silence = [updated.metric("zero_variance_groups", i) for i in range(3)]
    assert silence == [0.0, 1.0, 0.0], "a group without a survivor is none"
    assert "train/grad_norm" not in updated.reports[1].metrics


def test_the_first_step_is_on_policy(batch: list[Rollout]) -> None:
    updated = update(batch)
    assert updated.steps == 1
    assert updated.metric("ratio_mean") == updated.metric("ratio_max") == 1.0
    assert updated.metric("clip_fraction") == 0.0


def test_epochs_and_minibatches_take_their_steps_and_clip(batch: list[Rollout]) -> None:
    updated = update(batch, ppo_epochs=2, minibatches=2, rate=1e-2)
    assert updated.steps == 4
    assert updated.metric("ratio_max") > 1.2
    assert updated.metric("ratio_mean") != 1.0
    assert 0 < updated.metric("clip_fraction") < 1
    wide = replace(ENTROPY, clip_low=1.0, clip_high=1e9)
    unclipped = update(batch, ppo_epochs=2, minibatches=2, rate=1e-2, loss=wide)
    assert unclipped.metric("clip_fraction") == 0.0
    assert not torch.equal(unclipped.history[0], updated.history[0])


def test_minibatches_are_drawn_from_the_seed(batch: list[Rollout]) -> None:
    one, again, other = (update(batch, minibatches=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.history[0], again.history[0])
    assert one.reports[0].metrics == again.reports[0].metrics
    assert not torch.equal(one.history[0], other.history[0])


def test_fewer_survivors_than_minibatches_are_averaged_over_the_steps_taken(
    batch: list[Rollout],
) -> None:
    group = [r for r in batch if r.group == 1]
    two = [*group[:2], *(masked(r, 0.0) for r in group[2:])]
    updated = update(two, minibatches=4, rate=1e-6)
    assert updated.steps == 2
    assert updated.metric("ratio_mean") == pytest.approx(1.0, abs=1e-3)
    assert updated.metric("entropy") > 0


def test_the_gradient_norm_is_that_before_clipping(batch: list[Rollout]) -> None:
    free, clipped = (update(batch, gradient_clip=limit) for limit in (0.0, 1e-6))
    assert free.metric("grad_norm") == clipped.metric("grad_norm") > 1e-3
    moved = [(u.history[0] - weights(tiny())).abs().max() for u in (free, clipped)]
    assert moved[1] < moved[0], "Adam's epsilon shows that the gradient was made tiny"


def test_every_metric_of_the_update_is_documented(batch: list[Rollout]) -> None:
    assert documentation.__doc__ is not None
    table = documentation.__doc__.split("The update")[1]
    rows = re.findall(r"^\| (``.*?) \|", table, re.M)
    documented = {name for row in rows for name in re.findall(r"``(\w+)``", row)}
    found = update(batch[:4], loss=replace(ENTROPY, kl_coef=0.1)).reports[0].metrics
    assert {name.removeprefix("train/") for name in found} == documented
    assert found["train/learning_rate"] == pytest.approx(1e-3)
    without = update(batch[:4]).reports[0].metrics
    assert found.keys() - without.keys() == {"train/kl"}
