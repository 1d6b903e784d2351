"""Presets: worked numbers for each, what is overridden, what is refused by the key's name."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.advantages import group_advantages
from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.grpo.presets import PRESETS, LossSettings, PresetName, resolve

# One group of two: rewards 3 and 1, of 2 tokens and 1. The mean is 2, the standard deviation
# sqrt(2); a leave-one-out advantage is the difference of the two.
RATIOS = [[1.5, 0.9], [0.5, 99.0]]
STD = 1 / (math.sqrt(2) + 1e-4)
K3 = 2 - math.log(2) - 1  # the reference gives every token twice the policy's probability
ENTROPY = 0.5
GSPO_1 = 1 + 4e-4  # the geometric mean of 1.5 and 0.9 is 1.16, and is clipped
EXPECTED = {
    # Clipped: min(1.5, 1.2) = 1.2 for the first token; for A < 0, max(0.5, 0.8) = 0.8.
    "default": -(STD * (1.2 + 0.9) / 2 - STD * 0.8) / 2 - 0.01 * ENTROPY,
    "grpo": -(STD * (1.2 + 0.9) / 2 - STD * 0.8) / 2 + 0.04 * K3,
    "dr_grpo": -((1.2 + 0.9) - 0.8) / (2 * 10),
    "dapo": -STD * ((1.28 + 0.9) - 0.8) / 3,
    "gspo": -STD * (GSPO_1 - (1 - 3e-4)) / 2,
    "rloo": -(2 * (1.5 + 0.9) - 2 * 0.5) / 2,
    "seed": -((1.2 + 0.9) / 2 - 0.8) / 2 + 0.04 * K3,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_worked_numbers(preset: Any) -> None:
    objective = resolve(LossSettings(preset), max_length=10)
    advantages = group_advantages(
        torch.tensor([3.0, 1.0], dtype=torch.float64),
        torch.zeros(2, dtype=torch.long),
        None,
        objective.advantage,
    )
    logprobs = torch.tensor(RATIOS, dtype=torch.float64).log()
    inputs = LossInputs(
        logprobs_BT=logprobs,
        old_logprobs_BT=torch.zeros_like(logprobs),
        advantages_B=advantages,
        mask_BT=torch.tensor([[1, 1], [1, 0]], dtype=torch.bool),
        ref_logprobs_BT=logprobs + math.log(2),
        entropy_BT=torch.full_like(logprobs, ENTROPY),
    )
    normaliser = loss_normaliser([2, 1], objective.loss)
    found = grpo_loss(inputs, objective.loss, normaliser=normaliser).loss.item()
    assert found == pytest.approx(EXPECTED[preset], rel=1e-12)


def test_every_preset_has_a_name_an_equation_and_a_source() -> None:
    assert tuple(PRESETS) == get_args(PresetName)
    for name, preset in PRESETS.items():
        assert preset().preset == name
        text = preset.__doc__ or ""
        assert "L   = -" in text and "Source: " in text and "TRL 1.16: " in text, name


def test_what_is_set_wins_over_the_preset() -> None:
    changed: dict[str, Any] = {
        "advantage_scale": "batch_std", "advantage_ddof": 0, "advantage_eps": 0.5,
        "advantage_clip": 3.0, "clip_low": 0.1, "clip_high": 0.3, "ratio": "sequence",
        "log_ratio_limit": 10.0, "kl_coef": 0.2, "kl_estimator": "k2", "kl_gradient": "ratio",
        "entropy_coef": 0.03, "aggregation": "constant", "max_length": 7, "correction": "sequence",
        "correction_cap": 5.0, "overlong": "mask", "zero_variance": "drop", "resample_limit": 4,
    }  # fmt: skip
    found = resolve(LossSettings("rloo", **changed), max_length=99)
    assert found.settings() == {"preset": "rloo", **changed}
    assert found.loss.correction == "sequence"


def test_settings_and_effective_settings_have_the_same_keys() -> None:
    effective = resolve(LossSettings()).settings()
    assert set(effective) == set(LossSettings.__dataclass_fields__)
    assert None not in effective.values()


def test_zero_is_a_value_and_null_is_none() -> None:
    assert resolve(LossSettings("grpo", kl_coef=0.0)).loss.kl_coef == 0
    assert resolve(LossSettings("grpo", kl_coef=None)).loss.kl_coef == 0.04


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        (LossSettings("dr_grpo"), 384),
        (LossSettings("dr_grpo", max_length=100), 100),
        (LossSettings("dr_grpo", max_length=0), 384),
        (LossSettings("rloo"), 1),
        (LossSettings("grpo"), 0),
        (LossSettings("grpo", aggregation="constant"), 384),
    ],
)
def test_the_constant_length_is_the_policys_unless_named(
    settings: LossSettings, length: int
) -> None:
    assert resolve(settings, max_length=384).loss.max_length == length


@pytest.mark.parametrize(
    ("correction", "level"),
    [(None, "token"), ("auto", "token"), ("off", "off"), ("sequence", "sequence")],
)
def test_auto_corrects_per_token_where_the_caller_decides(correction: Any, level: str) -> None:
    found = resolve(LossSettings("gspo", correction=correction))
    assert (found.correction, found.loss.correction) == (correction or "auto", level)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_low": 1.5}, r"clip_low=1\.5: expected 0 to 1"),
        ({"clip_high": -0.1}, r"clip_high=-0\.1: expected 0 or more"),
        ({"kl_coef": -1.0}, r"kl_coef=-1: expected 0 or more"),
        ({"kl_coef": math.nan}, r"kl_coef=nan: expected 0 or more"),
        ({"entropy_coef": -1.0}, r"entropy_coef=-1: expected 0 or more"),
        ({"max_length": -5}, r"max_length=-5: expected 0 or more"),
        ({"log_ratio_limit": 0.0}, r"log_ratio_limit=0: expected more than 0"),
        ({"correction_cap": 0.0}, r"correction_cap=0: expected more than 0"),
        ({"advantage_ddof": 2}, r"advantage_ddof=2: expected 0 or 1"),
        ({"advantage_eps": -1e-9}, r"advantage_eps=-1e-09: expected 0 or more"),
        ({"advantage_clip": 0.0}, r"advantage_clip=0: expected more than 0"),
        ({"resample_limit": 0}, r"resample_limit=0: expected 1 or more"),
        ({"preset": "grpo", "kl_estimator": "k1"}, r"kl_gradient=classic: the gradient of .*k1"),
    ],
)
def test_wrong_settings_are_named_where_they_are_set(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.grpo\.loss\.{message}"):
        LossSettings(**wrong)
