"""Truncated importance correction: worked numbers, unknown rows, texts of somebody else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aflow_grpo.grpo.correction import correction_weights
from aflow_grpo.grpo.objective import LossConfig

MASK = torch.tensor([[1, 1, 1, 0]], dtype=torch.bool)


def weights(*differences: float, mask: Tensor = MASK, **settings: object) -> list[float]:
    """ρ where log π_old is -1 and log μ is smaller by the differences."""
    off_policy = settings.pop("off_policy_B", None)
    old = torch.full((1, len(differences)), -1.0, dtype=torch.float64, requires_grad=True)
    sampler = old.detach() - torch.tensor([differences], dtype=torch.float64)
    config = LossConfig(**settings)  # type: ignore[arg-type]
    found = correction_weights(old, sampler, mask, config, off_policy)  # type: ignore[arg-type]
    assert not found.requires_grad
    return found[0].tolist()  # type: ignore[no-any-return]


def test_per_token_and_per_sequence() -> None:
    token = weights(0.1, -0.3, 1.0, 9.0)
    assert token == pytest.approx([math.exp(0.1), math.exp(-0.3), 2.0, 1.0])
    sequence = weights(0.1, -0.3, 1.0, 9.0, correction="sequence")
    assert sequence == pytest.approx([2.0, 2.0, 2.0, 1.0])
    uncapped = weights(0.1, -0.3, 1.0, 9.0, correction="sequence", correction_cap=math.inf)
    assert uncapped == pytest.approx([math.exp(0.8)] * 3 + [1.0])


def test_it_can_be_switched_off() -> None:
    assert weights(0.1, -0.3, 1.0, 9.0, correction="off") == [1.0] * 4


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_row_whose_log_probs_nobody_knows_has_weight_one(level: str) -> None:
    assert weights(0.5, math.nan, -0.5, 0.0, correction=level) == [1.0] * 4
    # Outside the mask a NaN is no news.
    assert weights(0.5, 0.0, 0.0, math.nan, correction=level)[0] == pytest.approx(math.exp(0.5))


def test_a_given_text_is_weighted_by_the_policys_own_probability() -> None:
    # Log-prob 0 says that the text was certain: ρ is π_old, here exp(-1).
    given = weights(-1.0, -1.0, -1.0, 0.0)
    assert given == pytest.approx([math.exp(-1)] * 3 + [1.0])


def test_a_text_of_somebody_else_is_weighted_per_token_at_either_level() -> None:
    mine, theirs = torch.tensor([False]), torch.tensor([True])
    row = (-1.0, -2.0, -3.0, 0.0)
    per_token = [math.exp(-1), math.exp(-2), math.exp(-3), 1.0]
    assert weights(*row, correction="sequence", off_policy_B=theirs) == pytest.approx(per_token)
    product = [math.exp(-6)] * 3 + [1.0]
    assert weights(*row, correction="sequence", off_policy_B=mine) == pytest.approx(product)
    assert weights(*row, correction="off", off_policy_B=theirs) == [1.0] * 4


def test_extreme_differences_stay_finite() -> None:
    found = weights(1e4, -1e4, math.inf, 0.0, correction_cap=math.inf)
    assert found == pytest.approx([math.exp(20), math.exp(-20), math.exp(20), 1.0])


def test_weights_of_a_true_sampler_average_to_one() -> None:
    # E_μ[π/μ] = 1: exact over two tokens with μ = (0.5, 0.5), π = (0.7, 0.3).
    total = sum(0.5 * weights(math.log(p / 0.5), mask=MASK[:, :1])[0] for p in (0.7, 0.3))
    assert total == pytest.approx(1.0)
