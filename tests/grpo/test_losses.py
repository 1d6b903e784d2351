"""The loss: worked numbers and gradients of every option; wrong inputs are named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.grpo.objective import LossConfig

LN3 = math.log(3)


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
        ("sequence_mean", ((1 + 1.1 + 0.9) / 3 + 2 * 1.2) / -2),  # mean of token means
        ("token_mean", (1 + 1.1 + 0.9 + 2 * 1.2) / -4),  # mean over four tokens
        ("constant", (1 + 1.1 + 0.9 + 2 * 1.2) / -(2 * 10)),  # two sequences of constant length 10
    ],
)
def test_aggregation_over_uneven_lengths(aggregation, expected):
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    inputs = inputs_of([[1.0, 1.1, 0.9], [1.2, 7.0, 7.0]], [1.0, 2.0], mask)
    config = LossConfig(aggregation=aggregation, max_length=10)
    normaliser = loss_normaliser([3, 1], config)
    assert grpo_loss(inputs, config, normaliser=normaliser).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("estimator", "how", "value", "slope"),
    [
        # The ratio is 2 and d = ln 3. By log pi, k1 has slope 1, k2 -d, k3 1 - exp(d) = -2.
        ("k2", "classic", LN3**2 / 2, -LN3),
        ("k3", "classic", 2 - LN3, -2),
        # Times the ratio: w k has slope w (k + k').
        ("k1", "ratio", -2 * LN3, 2 * (-LN3 + 1)),
        ("k2", "ratio", LN3**2, 2 * (LN3**2 / 2 - LN3)),
        ("k3", "ratio", 2 * (2 - LN3), 2 * (2 - LN3 - 2)),
        # The value of one, the slope of k2.
        ("k1", "straight_through", -LN3, -LN3),
        ("k2", "straight_through", LN3**2 / 2, -LN3),
        ("k3", "straight_through", 2 - LN3, -LN3),
    ],
)
def test_kl_estimators_and_their_gradients(estimator, how, value, slope):
    reference = torch.full((1, 1), math.log(6.0), dtype=torch.float64)
    inputs = inputs_of([[2.0]], [0.0], ref_logprobs_BT=reference)
    config = LossConfig(kl_coef=0.5, kl_estimator=estimator, kl_gradient=how)
    outputs = grpo_loss(inputs, config, normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(0.5 * value)
    assert outputs.metrics["kl"] == pytest.approx(value)
    outputs.loss.backward()
    assert inputs.logprobs_BT.grad.item() == pytest.approx(0.5 * slope)


def test_which_kl_gradients_are_those_of_the_kl():
    # Two tokens, pi = (0.6, 0.4), reference (0.2, 0.8): exact expectations over the tokens. By the
    # first logit, KL has the slope p q (ln(p/p') - ln(q/q')) with q = 1 - p.
    p, q = 0.6, 0.4
    slope = p * q * (math.log(p / 0.2) - math.log(q / 0.8))
    reference = torch.tensor([[0.2, 0.8]], dtype=torch.float64).log()

    def expected(estimator, how):
        logit = torch.tensor(math.log(p / q), dtype=torch.float64, requires_grad=True)
        logprobs = torch.stack([logit, torch.zeros_like(logit)]).log_softmax(0).unsqueeze(0)
        config = LossConfig(kl_coef=1.0, kl_estimator=estimator, kl_gradient=how)
        total = 0.0
        for token, weight in enumerate((p, q)):
            mask = torch.tensor([[token == 0, token == 1]])
            advantages = torch.zeros(1, dtype=torch.float64)
            inputs = LossInputs(logprobs, logprobs.detach(), advantages, mask, reference)
            total = total + weight * grpo_loss(inputs, config, normaliser=1.0).loss
        total.backward()
        return logit.grad.item()

    for exact in (("k1", "ratio"), ("k3", "ratio"), ("k2", "classic")):
        assert expected(*exact) == pytest.approx(slope), exact
    for estimator in ("k1", "k2", "k3"):
        assert expected(estimator, "straight_through") == pytest.approx(slope)
    assert abs(expected("k2", "ratio") - slope) > 0.01, "k2 is no unbiased estimate"
    # k3 as it stands has that of KL(reference || pi), whose slope by the first logit is p - p'.
    assert expected("k3", "classic") == pytest.approx(p - 0.2)


def test_the_sequence_ratio_is_the_exponential_of_the_mean():
    # Ratios 2 and 0.5 and 8: the mean log is ln 2, hence s = 2, whatever stands outside the mask.
    mask = torch.tensor([[1, 1, 1, 0]], dtype=torch.bool)
    inputs = inputs_of([[2.0, 0.5, 8.0, 99.0]], [-3.0], mask)
    outputs = grpo_loss(inputs, LossConfig(ratio="sequence"), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(6.0)
    assert outputs.metrics["ratio_mean"] == pytest.approx(2.0)
    assert outputs.metrics["ratio_max"] == pytest.approx(2.0)
    outputs.loss.backward()
    # d s / d log pi_t = s / 3
    assert inputs.logprobs_BT.grad.tolist() == [pytest.approx([2.0, 2.0, 2.0, 0.0])]


def test_the_sequence_ratio_is_clipped_for_the_whole_sequence():
    inputs = inputs_of([[2.0, 0.5, 8.0]], [1.0])
    outputs = grpo_loss(inputs, LossConfig(ratio="sequence", clip_high=4e-4), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(-1.0004)
    assert outputs.metrics["clip_fraction"] == 1.0
    outputs.loss.backward()
    assert inputs.logprobs_BT.grad.abs().max() == 0


def test_a_log_ratio_is_limited_before_it_is_exponentiated():
    config = LossConfig(log_ratio_limit=1.0, clip_low=1.0, clip_high=math.inf)
    inputs = inputs_of([[math.exp(0.9), math.exp(1.1), math.exp(-3.0)]], [1.0])
    outputs = grpo_loss(inputs, config, normaliser=1.0)
    expected = (math.exp(0.9) + math.e + 1 / math.e) / -3
    assert outputs.loss.item() == pytest.approx(expected)
    assert outputs.metrics["log_ratio_limited"] == pytest.approx(2 / 3)
    outputs.loss.backward()
    assert inputs.logprobs_BT.grad.tolist() == [pytest.approx([-math.exp(0.9) / 3, 0.0, 0.0])]


def test_the_log_ratio_to_the_reference_is_limited_too():
    # The policy's own ratio is 1; d is 3 and 0.5, the limit 1: e - 2 in place of exp(3) - 4.
    reference = torch.tensor([[3.0, 0.5]], dtype=torch.float64)
    inputs = inputs_of([[1.0, 1.0]], [0.0], ref_logprobs_BT=reference)
    outputs = grpo_loss(inputs, LossConfig(kl_coef=1.0, log_ratio_limit=1.0), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx((math.e - 2 + math.exp(0.5) - 1.5) / 2)
    assert outputs.metrics["log_ratio_limited"] == 0.5
    outputs.loss.backward()
    assert inputs.logprobs_BT.grad.tolist() == [pytest.approx([0.0, (1 - math.exp(0.5)) / 2])]


def test_the_correction_weighs_the_policy_term_alone():
    # rho = exp(0 - ln 0.5) = 2; without it the policy term is -1.1 and the KL is 2 - ln 3.
    inputs = inputs_of(
        [[1.1]],
        [1.0],
        ref_logprobs_BT=torch.tensor([[math.log(3.3)]], dtype=torch.float64),
        entropy_BT=torch.ones(1, 1, dtype=torch.float64),
        sampler_logprobs_BT=torch.tensor([[math.log(0.5)]], dtype=torch.float64),
    )
    config = LossConfig(kl_coef=0.1, entropy_coef=0.01, correction_cap=5.0)
    outputs = grpo_loss(inputs, config, normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(2 * -1.1 + 0.1 * (2 - LN3) - 0.01)
    assert outputs.metrics["correction_mean"] == pytest.approx(2.0)
    assert outputs.metrics["correction_capped"] == 0.0
    capped = grpo_loss(inputs, replace(config, correction_cap=1.5), normaliser=1.0)
    assert capped.loss.item() == pytest.approx(1.5 * -1.1 + 0.1 * (2 - LN3) - 0.01)
    assert capped.metrics["correction_capped"] == 1.0


def test_entropy_is_paid_for_and_reported():
    entropy = torch.tensor([[0.5, 1.5]], dtype=torch.float64)
    inputs = inputs_of([[1.0, 1.0]], [0.0], entropy_BT=entropy)
    outputs = grpo_loss(inputs, LossConfig(entropy_coef=0.1), normaliser=1.0)
    assert outputs.loss.item() == pytest.approx(-0.1)
    assert outputs.metrics["entropy"] == pytest.approx(1.0)


def test_metrics_without_reference_and_entropy():
    outputs = grpo_loss(inputs_of([[1.0, 2.0]], [1.0]), LossConfig(), normaliser=1.0)
    assert outputs.metrics == pytest.approx(
        {"clip_fraction": 0.5, "ratio_mean": 1.5, "ratio_max": 2.0, "log_ratio_limited": 0.0}
    )


def test_metrics_are_of_the_policys_own_tokens_and_the_correction_of_all():
    # The second row was given instead of drawn. Its ratio is clipped and limited, its entropy and
    # its distance from the reference are large; rho is 1 there, and 2 in the first row.
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    ratios = [[1.0, 2.0, 7.0], [9.0, 9.0, 9.0]]
    half = math.log(0.5)
    away = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    inputs = inputs_of(
        ratios,
        [1.0, 1.0],
        mask,
        ref_logprobs_BT=torch.tensor(ratios, dtype=torch.float64).log() + away,
        entropy_BT=torch.tensor([[0.5, 1.5, 9.0], [4.0, 4.0, 4.0]], dtype=torch.float64),
        sampler_logprobs_BT=torch.tensor([[half] * 3, [0.0] * 3], dtype=torch.float64),
        off_policy_B=torch.tensor([False, True]),
    )
    config = LossConfig(kl_coef=0.1, correction_cap=1.5, log_ratio_limit=2.0)
    found = grpo_loss(inputs, config, normaliser=1.0).metrics
    own = {"clip_fraction": 0.5, "ratio_mean": 1.5, "ratio_max": 2.0, "log_ratio_limited": 0.0}
    assert {name: found[name] for name in own} == pytest.approx(own)
    assert found["kl"] == pytest.approx(0.0)
    assert found["entropy"] == pytest.approx(1.0)
    assert found["correction_capped"] == pytest.approx(2 / 5)
    assert found["correction_mean"] == pytest.approx((2 * 1.5 + 3 * 1.0) / 5)


def test_metrics_of_a_micro_batch_without_a_token_of_the_policys_own_are_zero():
    inputs = inputs_of(
        [[2.0]],
        [1.0],
        sampler_logprobs_BT=torch.zeros(1, 1, dtype=torch.float64),
        off_policy_B=torch.tensor([True]),
    )
    found = grpo_loss(inputs, LossConfig(), normaliser=1.0).metrics
    assert found.pop("correction_mean") == 1.0 and found.pop("correction_capped") == 0.0
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "constant"])
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
    with pytest.raises(ValueError, match=r"off_policy_B has shape \(2,\), expected \(1,\)"):
        grpo_loss(replace(inputs, off_policy_B=torch.ones(2) > 0), LossConfig(), normaliser=1.0)


def test_a_constant_length_has_to_be_known():
    with pytest.raises(ValueError, match=r"needs max_length: give it to resolve\(\)"):
        loss_normaliser([1, 2], LossConfig(aggregation="constant"))
