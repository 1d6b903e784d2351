"""Tiled log-probabilities equal the full computation, in value and in gradient, for less."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from aflow_grpo.grpo.logprobs import token_logprobs

TILES = [None, (1, 1), (3, 4), (10, 11), (4, 100)]
B, T, H, V = 2, 5, 8, 11


def problem(dtype=torch.float64, *, frozen=False, bias=False):
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(B, T, H, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(V, H, generator=generator, dtype=dtype).requires_grad_(not frozen)
    bias_V = torch.randn(V, generator=generator, dtype=dtype) if bias else None
    if bias_V is not None:
        bias_V.requires_grad_(not frozen)
    targets = torch.randint(V, (B, T), generator=generator)
    return hidden, weight, bias_V, targets


def by_hand(hidden, weight, bias, targets, temperature):
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    logprobs = (
        logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    ).log_softmax(-1)
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen, -(logprobs.exp() * logprobs).sum(-1)


def both(loss, *, tile, temperature=1.0, **kind):
    """(log-probs, entropies, gradients) of the tiled and of the full computation."""
    results = []
    for compute in (
        lambda h, w, b, t: token_logprobs(h, w, t, temperature=temperature, bias_V=b, tile=tile),
        lambda h, w, b, t: by_hand(h, w, b, t, temperature),
    ):
        hidden, weight, bias_V, targets = problem(**kind)
        logprobs, entropy = compute(hidden, weight, bias_V, targets)
        loss(logprobs, entropy).backward()
        grads = [hidden.grad, weight.grad, None if bias_V is None else bias_V.grad]
        results.append([logprobs, entropy, *grads])
    return results


FACTORS = torch.arange(10.0).view(B, T) - 4
LOSSES = {
    "log-probability": lambda logprobs, entropy: (logprobs * FACTORS).sum(),
    "entropy": lambda logprobs, entropy: (entropy * FACTORS).sum(),
    "both": lambda logprobs, entropy: (logprobs * FACTORS + entropy.square()).sum(),
}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("temperature", "bias"), [(1.0, False), (0.7, True)])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient_equal_the_full_computation(tile, temperature, bias, frozen, loss):
    found, expected = both(
        LOSSES[loss], tile=tile, temperature=temperature, bias=bias, frozen=frozen
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_gradcheck(frozen, with_entropy):
    *inputs, targets = problem(frozen=frozen, bias=True)

    def outputs(hidden, weight, bias):
        found = token_logprobs(
            hidden, weight, targets, temperature=0.8, bias_V=bias, with_entropy=with_entropy,
            tile=(3, 4),
        )  # fmt: skip
        return found if with_entropy else found[0]

    assert torch.autograd.gradcheck(outputs, inputs)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 13), positions=st.integers(1, 12),
    vocabulary=st.integers(1, 12), scale=st.sampled_from([1e-3, 1.0, 300.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_tiles_of_any_sizes(rows, columns, positions, vocabulary, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(vocabulary, 4, generator=generator, dtype=torch.float64) * scale
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    found = token_logprobs(hidden, weight, targets, temperature=1.0, tile=(rows, columns))
    expected = by_hand(hidden, weight, None, targets, 1.0)
    assert_close(found, expected, rtol=1e-12, atol=1e-11)
    (grad,) = torch.autograd.grad(found[0].sum(), hidden)
    (wanted,) = torch.autograd.grad(expected[0].sum(), hidden)
    assert_close(grad, wanted, rtol=1e-12, atol=1e-11)


def test_two_equal_logits_are_a_coin():
    logprobs, entropy = token_logprobs(
        torch.zeros(1, 1, 4), torch.ones(2, 4), torch.tensor([[1]]), temperature=1.0
    )
    assert logprobs.item() == pytest.approx(-math.log(2))
    assert entropy.item() == pytest.approx(math.log(2))


def test_a_certain_token_has_no_surprise_and_no_entropy():
    """Logits of 10,000 and -10,000 overflow every exponential that is not taken of a difference."""
    hidden = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    weight = torch.tensor([[1e4], [-1e4], [0.0]])
    logprobs, entropy = token_logprobs(
        hidden, weight, torch.tensor([0, 0]), temperature=1.0, tile=(1, 1)
    )
    (logprobs.sum() + entropy.sum()).backward()
    assert logprobs.tolist() == [0.0, -2e4]
    assert entropy.tolist() == [0.0, 0.0]
    assert hidden.grad.tolist() == [[0.0], [2e4]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_after_the_head(dtype):
    hidden, weight, _, targets = problem(dtype)
    logprobs, entropy = token_logprobs(hidden, weight, targets, temperature=1.0, tile=(4, 3))
    assert logprobs.dtype is entropy.dtype is torch.float32
    assert_close((logprobs, entropy), by_hand(hidden, weight, None, targets, 1.0))


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_gradients_are_as_good_as_autograds(loss):
    """Both are compared with the gradients in fp64 of the same half-precision numbers."""
    exact_inputs = [t.detach().double().requires_grad_() for t in problem(torch.bfloat16)[:2]]
    targets = problem()[-1]
    LOSSES[loss](*by_hand(*exact_inputs, None, targets, 1.0)).backward()
    found, autograd = both(LOSSES[loss], tile=(4, 3), dtype=torch.bfloat16)
    for place, exact in zip((2, 3), exact_inputs, strict=True):
        assert found[place].dtype is torch.bfloat16

        def error(result, place=place, exact=exact):
            return (result[place].double() - exact.grad).norm() / exact.grad.norm()

        assert error(found) < max(1.2 * error(autograd), 2**-8)


def test_autocast_chooses_the_precision_of_the_product():
    hidden, weight, _, targets = problem(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, _ = token_logprobs(hidden, weight, targets, temperature=1.0)
        logits = hidden @ weight.T
    assert logits.dtype is torch.bfloat16
    expected = logits.float().log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    assert_close(logprobs, expected)
    logprobs.sum().backward()
    assert hidden.grad.dtype is weight.grad.dtype is torch.float32


# What it costs


class Watch(TorchDispatchMode):
    """What is computed within it."""

    largest = 0
    """Most values in any tensor that an operation returned."""
    multiplied = 0
    """Multiplications of all matrix products."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        if function.overloadpacket in (
            torch.ops.aten.mm,
            torch.ops.aten.addmm,
            torch.ops.aten.addmm_,
        ):
            left, right = args[-2:]
            self.multiplied += left.numel() * right.shape[1]
        return result


def products(*, frozen=False, grad=True, with_entropy=True, loss=None):
    """Products of all positions with the whole head: (forward, backward)."""
    hidden, weight, _, targets = problem(frozen=frozen)
    with Watch() as forward, torch.set_grad_enabled(grad):
        found = token_logprobs(
            hidden, weight, targets, temperature=1.0, with_entropy=with_entropy, tile=(3, 4)
        )
    with Watch() as backward:
        if loss is not None:
            loss(*found).backward()
    one = B * T * V * H
    return forward.multiplied / one, backward.multiplied / one


@pytest.mark.parametrize("with_entropy", [False, True])
def test_a_pass_without_gradient_is_one_product(with_entropy):
    assert products(grad=False, with_entropy=with_entropy) == (1, 0)


@pytest.mark.parametrize(
    ("frozen", "loss", "expected"),
    [
        (True, "log-probability", (2, 0)),
        (True, "both", (2, 2)),
        (False, "log-probability", (2, 2)),
        (False, "both", (2, 3)),
    ],
)
def test_an_entropy_that_is_only_looked_at_costs_no_backward_pass(frozen, loss, expected):
    assert products(frozen=frozen, loss=LOSSES[loss]) == expected


def test_a_pass_without_gradient_keeps_nothing():
    hidden, weight, _, targets = problem()
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks, torch.no_grad():
        found = token_logprobs(hidden, weight, targets, temperature=1.0)
    assert not kept
    assert not any(tensor.requires_grad for tensor in found)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("frozen", [False, True])
def test_no_tensor_is_as_large_as_the_logits(loss, frozen):
    hidden = torch.randn(32, 8, requires_grad=True)
    weight = torch.randn(500, 8, requires_grad=not frozen)
    factors = torch.randn(32)
    with Watch() as seen:
        logprobs, entropy = token_logprobs(
            hidden, weight, torch.zeros(32, dtype=torch.long), temperature=0.9, tile=(8, 50)
        )
        (logprobs * factors + (0 if loss == "log-probability" else entropy)).sum().backward()
    assert seen.largest <= (400 if frozen else weight.numel()) < 32 * 500


# Bad input


def test_no_position_at_all():
    hidden = torch.zeros(0, 4, requires_grad=True)
    logprobs, entropy = token_logprobs(
        hidden, torch.ones(3, 4), torch.zeros(0, dtype=torch.long), temperature=1.0
    )
    assert logprobs.shape == entropy.shape == (0,)
    logprobs.sum().backward()
    assert hidden.grad.shape == (0, 4)


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
