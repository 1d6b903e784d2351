"""What must not matter to the loss: micro-batches, accumulation, padding side, ranks; exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import OPTIONS, Batch, made_batch, objective_of
from torch.testing import assert_close

from aflow_grpo.grpo.advantages import group_advantages
from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.grpo.objective import Objective

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def gradient(
    batch: Batch, parts: list[list[int]], left: list[bool], objective: Objective, normaliser: float
) -> tuple[float, torch.Tensor]:
    """Loss and gradient by the shared weights, accumulated over micro-batches."""
    shared = batch.weights.clone().requires_grad_()
    total = 0.0
    for extra, part in enumerate(parts):
        inputs = batch.inputs(part, left, shared, extra)
        loss = grpo_loss(inputs, objective.loss, normaliser=normaliser).loss
        loss.backward()
        total += loss.item()
    assert shared.grad is not None
    return total, shared.grad


def shares(rows: list[int], cuts: list[int]) -> list[list[int]]:
    starts = [0, *cuts[:-1]]
    return [rows[a:b] for a, b in zip(starts, cuts, strict=True)]


@st.composite
def _splits(draw: st.DrawFn) -> tuple[list[int], int, list[int], list[bool]]:
    """Lengths (empty rows too), a seed, where the rows are cut, and each row's padding side."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=7))
    cuts = draw(st.sets(st.integers(1, len(lengths)), max_size=4)) | {len(lengths)}
    left = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    return lengths, draw(st.integers(0, 10_000)), sorted(cuts), left


@pytest.mark.parametrize("name", OPTIONS)
@given(split=_splits())
@settings(max_examples=8, deadline=None)
def test_micro_batches_and_padding_change_nothing(
    name: str, split: tuple[list[int], int, list[int], list[bool]]
) -> None:
    lengths, seed, cuts, left = split
    objective, batch = objective_of(name), made_batch(lengths, seed)
    normaliser = loss_normaliser(lengths, objective.loss)
    rows = list(range(len(lengths)))
    whole = gradient(batch, [rows], [False] * len(rows), objective, normaliser)
    parted = gradient(batch, shares(rows, cuts), left, objective, normaliser)
    assert math.isfinite(whole[0])
    assert parted[0] == pytest.approx(whole[0], rel=1e-11, abs=1e-11)
    assert_close(parted[1], whole[1], **EXACT)


@pytest.mark.parametrize("name", OPTIONS)
@given(st.data())
@settings(max_examples=6, deadline=None)
def test_ranks_with_shares_of_the_rows_add_up(name: str, data: st.DataObject) -> None:
    # Uneven groups, one of a single member, and ranks that have no row at all.
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    groups_B = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    count, world = len(groups_B), data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    rewards_B = torch.randn(count, generator=generator, dtype=torch.float64)
    valid_B = torch.rand(count, generator=generator) > 0.2
    objective = objective_of(name)
    advantages_B = group_advantages(rewards_B, groups_B, valid_B, objective.advantage)
    lengths = [0 if not valid else 1 + b % 5 for b, valid in enumerate(valid_B.tolist())]
    batch = made_batch(lengths, seed, advantages_B)
    left = [False] * count
    normaliser = loss_normaliser(lengths, objective.loss)
    whole = gradient(batch, [list(range(count))], left, objective, normaliser)
    # Distributed training averages the ranks' gradients, hence the division by the world's size.
    ranks = [
        gradient(batch, [list(range(rank, count, world))], left, objective, normaliser / world)
        for rank in range(world)
    ]
    assert_close(sum(g for _, g in ranks) / world, whole[1], **EXACT)
    assert sum(loss for loss, _ in ranks) / world == pytest.approx(whole[0], rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_lies_outside_the_mask_is_never_read(name: str) -> None:
    objective = objective_of(name)
    poison = torch.tensor([[-0.1, math.nan, -0.7], [math.nan] * 3], dtype=torch.float64)
    logprobs = poison.clone().requires_grad_()
    inputs = LossInputs(
        logprobs_BT=logprobs,
        old_logprobs_BT=poison - 0.1,
        advantages_B=torch.tensor([1.0, math.nan], dtype=torch.float64),  # of a row without tokens
        mask_BT=torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.bool),
        ref_logprobs_BT=poison + 0.1,
        entropy_BT=poison.abs(),
        sampler_logprobs_BT=poison - 0.3,
    )
    outputs = grpo_loss(inputs, objective.loss, normaliser=2.0)
    outputs.loss.backward()
    assert math.isfinite(outputs.loss.item()) and outputs.loss.item() != 0
    assert all(math.isfinite(value) for value in outputs.metrics.values()), outputs.metrics
    assert logprobs.grad is not None
    assert logprobs.grad[0, 1] == 0 and logprobs.grad[1].tolist() == [0, 0, 0]
    assert (logprobs.grad[0, ::2].isfinite()).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_extreme_log_ratios_have_finite_gradients(name: str) -> None:
    # In single precision exp(89) is infinite, and infinity times 0 is NaN.
    objective = objective_of(name)
    for far, advantage in product([-1e4, -200.0, 200.0, 1e4, math.inf], [1.0, 0.0, -1.0]):
        logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        inputs = LossInputs(
            logprobs_BT=logprobs,
            old_logprobs_BT=torch.tensor([[-1.0 - far, -2.0]]),
            advantages_B=torch.tensor([advantage]),
            mask_BT=torch.ones(1, 2, dtype=torch.bool),
            ref_logprobs_BT=torch.tensor([[-1.0 + far, -2.0]]),
            entropy_BT=torch.ones(1, 2),
            sampler_logprobs_BT=torch.tensor([[-1.0, -2.0]]),
        )
        outputs = grpo_loss(inputs, objective.loss, normaliser=1.0)
        outputs.loss.backward()
        assert outputs.loss.isfinite(), (far, advantage)
        assert logprobs.grad is not None and logprobs.grad.isfinite().all(), (far, advantage)
        assert outputs.metrics["log_ratio_limited"] >= 0.5


def test_without_the_limit_they_have_not() -> None:
    loss = replace(objective_of("default").loss, log_ratio_limit=math.inf)
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    inputs = LossInputs(
        logprobs_BT=logprobs,
        old_logprobs_BT=torch.tensor([[-201.0]]),
        advantages_B=torch.ones(1),
        mask_BT=torch.ones(1, 1, dtype=torch.bool),
        entropy_BT=torch.ones(1, 1),
    )
    grpo_loss(inputs, loss, normaliser=1.0).loss.backward()
    assert logprobs.grad is not None and logprobs.grad.isnan().all()


def test_a_nan_of_the_policy_stays_one() -> None:
    objective = objective_of("default")
    batch = made_batch([2], 0)
    inputs = batch.inputs([0], [False], batch.weights * math.nan, 0)
    assert math.isnan(grpo_loss(inputs, objective.loss, normaliser=1.0).loss.item())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_without_any_token_has_loss_zero(name: str) -> None:
    objective, batch = objective_of(name), made_batch([0, 0], 0)
    for parts in ([[0, 1]], [[]]):
        normaliser = loss_normaliser([0, 0], objective.loss)
        loss, grad = gradient(batch, parts, [False, False], objective, normaliser)
        assert loss == 0 and grad.tolist() == [0, 0, 0, 0]
