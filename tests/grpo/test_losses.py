"""The loss: worked numbers, gradients, and exactness over every split into micro-batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.losses import LossConfig, LossInputs, grpo_loss, loss_normaliser


def inputs_of(ratios, advantages, mask=None, **extra):
    """Old log-probs are 0, so that log-probs are the logs of the ratios."""
    logprobs = torch.tensor(ratios, dtype=torch.float64).log().requires_grad_()
    return LossInputs(
        logprobs_BT=logprobs,
        old_logprobs_BT=torch.zeros_like(logprobs),
        advantages_B=torch.tensor(advantages, dtype=torch.float64),
        mask_BT=torch.ones(logprobs.shape, dtype=torch.bool) if mask is None else mask,
        **extra,
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.1, 2.0, -2.2, 0),
        (1.5, 2.0, -2.4, 1),  # 1.2 x 2
        (0.5, 2.0, -1.0, 0),  # a gain lost: not clipped
        (0.5, -2.0, 1.6, 1),  # 0.8 x 2
        (1.5, -2.0, 3.0, 0),  # a loss grown: not clipped
        (1.5, 0.0, 0.0, 0),
    ],
)
def test_clipping(ratio, advantage, expected, clipped):
    inputs = inputs_of([[ratio]], [advantage])
    outputs = grpo_loss(inputs, LossConfig(), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(expected)
    assert outputs.metrics["clip_fraction"] == clipped
    outputs.loss.backward()
    # d loss / d logp = -ratio x A, and 0 where the clip holds.
    gradient = 0.0 if clipped else -ratio * advantage
    assert inputs.logprobs_BT.grad.item() == pytest.approx(gradient)


def test_higher_clip_leaves_room_above_only():
    config = LossConfig(clip_low=0.1, clip_high=0.5)
    found = [
        grpo_loss(inputs_of([[r]], [a]), config, normaliser=1.0).loss.item()
        for r, a in [(1.4, 1.0), (1.9, 1.0), (0.5, -1.0)]
    ]
    assert found == pytest.approx([-1.4, -1.5, 0.9])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("grpo", ((1 + 1.1 + 0.9) / 3 + 2 * 1.2) / -2),  # mean of token means
        ("token", (1 + 1.1 + 0.9 + 2 * 1.2) / -4),  # mean over four tokens
        ("dr_grpo", (1 + 1.1 + 0.9 + 2 * 1.2) / -(2 * 10)),  # two sequences of constant length 10
    ],
)
def test_aggregation_over_uneven_lengths(aggregation, expected):
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    inputs = inputs_of([[1.0, 1.1, 0.9], [1.2, 7.0, 7.0]], [1.0, 2.0], mask)
    config = LossConfig(aggregation=aggregation, max_length=10)
    normaliser = loss_normaliser([3, 1], config)
    assert grpo_loss(inputs, config, normaliser=normaliser).loss.item() == pytest.approx(expected)


def test_kl_is_k3_and_differentiated_as_it_stands():
    # log pi = 0 and log pi_ref = ln 2: k3 = 2 - ln 2 - 1; its derivative by log pi is 1 - 2 = -1.
    reference = torch.full((1, 1), math.log(2.0), dtype=torch.float64)
    inputs = inputs_of([[1.0]], [0.0], ref_logprobs_BT=reference)
    outputs = grpo_loss(inputs, LossConfig(kl_coef=0.5), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(0.5 * (1 - math.log(2)))
    assert outputs.metrics["kl"] == pytest.approx(1 - math.log(2))
    outputs.loss.backward()
    assert inputs.logprobs_BT.grad.item() == pytest.approx(-0.5)


def test_entropy_is_paid_for_and_reported():
    entropy = torch.tensor([[0.5, 1.5]], dtype=torch.float64)
    inputs = inputs_of([[1.0, 1.0]], [0.0], entropy_BT=entropy)
    outputs = grpo_loss(inputs, LossConfig(entropy_coef=0.1), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(-0.1)
    assert outputs.metrics["entropy"] == pytest.approx(1.0)


def test_metrics_without_reference_and_entropy():
    outputs = grpo_loss(inputs_of([[1.0, 2.0]], [1.0]), LossConfig(), normaliser=1.0)
    assert outputs.metrics == pytest.approx(
        {"clip_fraction": 0.5, "ratio_mean": 1.5, "ratio_max": 2.0}
    )


@pytest.mark.parametrize("aggregation", ["grpo", "token", "dr_grpo"])
def test_a_row_without_tokens_changes_nothing(aggregation):
    config = LossConfig(aggregation=aggregation, max_length=4)
    alone = inputs_of([[1.1, 0.9]], [1.0])
    mask = torch.tensor([[1, 1], [0, 0]], dtype=torch.bool)
    beside = inputs_of([[1.1, 0.9], [1.0, 1.0]], [1.0, 5.0], mask)
    losses = [
        grpo_loss(i, config, normaliser=loss_normaliser(lengths, config)).loss
        for i, lengths in ((alone, [2]), (beside, [2, 0]))
    ]
    assert_close(*losses)
    losses[1].backward()
    assert beside.logprobs_BT.grad[1].tolist() == [0.0, 0.0]


def test_what_lies_outside_the_mask_is_never_read():
    mask = torch.tensor([[1, 0]], dtype=torch.bool)
    poison = torch.tensor([[0.1, math.nan]], dtype=torch.float64)
    logprobs = poison.clone().requires_grad_()
    inputs = LossInputs(logprobs, poison, torch.ones(1), mask, poison, poison)
    outputs = grpo_loss(inputs, LossConfig(kl_coef=0.1, entropy_coef=0.1), normaliser=1.0)
    outputs.loss.backward()
    assert math.isfinite(outputs.loss.item())
    assert all(math.isfinite(value) for value in outputs.metrics.values())
    assert logprobs.grad[0, 1] == 0.0


def test_a_step_without_any_token_has_loss_zero():
    config = LossConfig()
    mask = torch.zeros(2, 3, dtype=torch.bool)
    inputs = inputs_of([[2.0] * 3] * 2, [1.0, 1.0], mask)
    outputs = grpo_loss(inputs, config, normaliser=loss_normaliser([0, 0], config))
    assert outputs.loss.item() == 0.0


@st.composite
def _batches(draw):
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    seed = draw(st.integers(0, 10_000))
    cuts = draw(st.sets(st.integers(1, len(lengths)), max_size=3))
    left = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    return lengths, seed, sorted(cuts | {len(lengths)}), left


def padded(rows, left, width):
    """Rows as one tensor of `width`, each padded on the side that `left` names, and its mask."""
    out = torch.full((len(rows), width), 0.3, dtype=torch.float64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for b, row in enumerate(rows):
        part = slice(width - len(row), width) if left[b] else slice(0, len(row))
        out[b, part] = row
        mask[b, part] = True
    return out, mask


@given(_batches(), st.sampled_from(["grpo", "token", "dr_grpo"]))
@settings(max_examples=60, deadline=None)
def test_gradient_is_invariant_to_micro_batches_and_padding_side(batch, aggregation):
    lengths, seed, cuts, left = batch
    config = LossConfig(kl_coef=0.1, entropy_coef=0.05, aggregation=aggregation, max_length=8)
    normaliser = loss_normaliser(lengths, config)
    generator = torch.Generator().manual_seed(seed)
    # The rows' log-probs depend on shared weights, as a policy's do.
    weights = torch.randn(4, generator=generator, dtype=torch.float64)
    features = [torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in lengths]
    others = [torch.randn(3, n, generator=generator, dtype=torch.float64) for n in lengths]
    advantages = torch.randn(len(lengths), generator=generator, dtype=torch.float64)

    def gradient(parts, sides):
        shared = weights.clone().requires_grad_()
        total = 0.0
        for part in parts:
            width = max(1, max((lengths[b] for b in part), default=1))
            side = [sides[b] for b in part]
            logprobs, mask = padded([features[b] @ shared for b in part], side, width)
            old, ref, entropy = (
                padded([others[b][k] for b in part], side, width)[0] for k in range(3)
            )
            inputs = LossInputs(logprobs, old, advantages[part], mask, ref, entropy.exp())
            loss = grpo_loss(inputs, config, normaliser=normaliser).loss
            loss.backward()
            total += loss.item()
        return total, shared.grad

    rows = list(range(len(lengths)))
    whole = gradient([rows], [False] * len(rows))
    starts = [0, *cuts[:-1]]
    split = gradient([rows[a:b] for a, b in zip(starts, cuts, strict=True)], left)
    assert split[0] == pytest.approx(whole[0], abs=1e-10)
    assert_close(split[1], whole[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_low": 1.5}, "clip_low=1.5: expected 0 to 1"),
        ({"clip_high": -0.1}, "clip_high=-0.1"),
        ({"kl_coef": -1.0}, "kl_coef=-1"),
        ({"entropy_coef": -1.0}, "entropy_coef=-1"),
        ({"aggregation": "dr_grpo"}, "max_length=0"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(LossConfig(), **change)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LossConfig(kl_coef=0.1), "kl_coef=0.1 needs ref_logprobs_BT"),
        (LossConfig(entropy_coef=0.1), "entropy_coef=0.1 needs entropy_BT"),
    ],
)
def test_a_missing_input_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        grpo_loss(inputs_of([[1.0]], [1.0]), config, normaliser=1.0)


def test_shapes_must_fit():
    inputs = inputs_of([[1.0, 1.0]], [1.0])
    with pytest.raises(ValueError, match=r"advantages_B has shape \(2,\)"):
        grpo_loss(replace(inputs, advantages_B=torch.ones(2)), LossConfig(), normaliser=1.0)
    with pytest.raises(ValueError, match="mask_BT has shape"):
        grpo_loss(
            replace(inputs, mask_BT=torch.ones(1, 3, dtype=torch.bool)),
            LossConfig(),
            normaliser=1.0,
        )
