"""Tiled log-probabilities equal the full computation, in value and in gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from aflow_grpo.grpo.logprobs import token_logprobs


def problem(dtype=torch.float64, *, frozen=False, bias=False):
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(2, 5, 8, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(11, 8, generator=generator, dtype=dtype).requires_grad_(not frozen)
    bias_V = torch.randn(11, generator=generator, dtype=dtype).requires_grad_() if bias else None
    targets = torch.randint(11, (2, 5), generator=generator)
    return hidden, weight, bias_V, targets


def by_hand(hidden, weight, bias, targets, temperature):
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    logprobs = (logits / temperature).log_softmax(-1)
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen, -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("tile", [None, 1, 3, 10, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradient_equal_the_full_computation(tile, temperature, bias):
    found, expected = [], []
    for results, compute in (
        (
            found,
            lambda h, w, b, t: token_logprobs(
                h, w, t, temperature=temperature, bias_V=b, tile=tile
            ),
        ),
        (expected, lambda h, w, b, t: by_hand(h, w, b, t, temperature)),
    ):
        hidden, weight, bias_V, targets = problem(bias=bias)
        logprobs, entropy = compute(hidden, weight, bias_V, targets)
        (logprobs * torch.arange(10.0).view(2, 5) + entropy.square()).sum().backward()
        results += [logprobs, entropy, hidden.grad, weight.grad]
        results += [bias_V.grad] if bias else []
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=0, atol=1e-12)


def test_two_equal_logits_are_a_coin():
    logprobs, entropy = token_logprobs(
        torch.zeros(1, 1, 4), torch.ones(2, 4), torch.tensor([[1]]), temperature=1.0
    )
    assert logprobs.item() == pytest.approx(-math.log(2))
    assert entropy.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("tile", [None, 2])
def test_a_frozen_head_gets_no_gradient(tile):
    hidden, weight, _, targets = problem(frozen=True)
    logprobs, entropy = token_logprobs(
        hidden, weight, targets, temperature=1.0, with_entropy=False, tile=tile
    )
    assert entropy is None
    logprobs.sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_half_precision_is_raised_after_the_head():
    hidden, weight, _, targets = problem(torch.bfloat16)
    logprobs, _ = token_logprobs(hidden, weight, targets, temperature=1.0)
    assert logprobs.dtype is torch.float32
    expected = (hidden @ weight.T).float().log_softmax(-1)
    assert_close(logprobs, expected.gather(-1, targets.unsqueeze(-1)).squeeze(-1))


def test_tiles_never_hold_all_logits():
    """The largest tensor that autograd keeps is a tile's input, not the logits of all positions."""
    hidden = torch.randn(64, 8, requires_grad=True)
    weight = torch.randn(1000, 8)
    sizes = []
    pack = torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    )
    with pack:
        token_logprobs(hidden, weight, torch.zeros(64, dtype=torch.long), temperature=1.0, tile=8)
    assert max(sizes, default=0) <= weight.numel()


def test_no_position_at_all():
    logprobs, entropy = token_logprobs(
        torch.zeros(0, 4), torch.ones(3, 4), torch.zeros(0, dtype=torch.long), temperature=1.0
    )
    assert logprobs.shape == entropy.shape == (0,)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="expected more than 0"):
        token_logprobs(
            torch.zeros(1, 4), torch.ones(3, 4), torch.tensor([0]), temperature=temperature
        )


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="do not fit targets"):
        token_logprobs(
            torch.zeros(2, 4), torch.ones(3, 4), torch.zeros(3, dtype=torch.long), temperature=1.0
        )
