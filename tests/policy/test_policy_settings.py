"""The policy's settings refuse what cannot work, in the words of their key."""

from __future__ import annotations

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy import LoraSettings, SamplingSettings


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (LoraSettings, {"rank": 0}, "lora.rank=0: expected at least 1"),
        (LoraSettings, {"alpha": 0}, "lora.alpha=0"),
        (LoraSettings, {"dropout": 1.0}, "lora.dropout=1"),
        (LoraSettings, {"target_modules": []}, "target_modules is empty"),
        (LoraSettings, {"target_modules": ["q_proj", "lm_head"]}, "names lm_head"),
        (SamplingSettings, {"temperature": 0.0}, "sampling.temperature=0: expected more than 0"),
        (SamplingSettings, {"top_p": 0.0}, "sampling.top_p=0"),
        (SamplingSettings, {"top_p": 1.1}, "sampling.top_p=1.1"),
        (SamplingSettings, {"max_new_tokens": 0}, "max_new_tokens=0: expected at least 1"),
        (SamplingSettings, {"max_prompt_tokens": 1}, "max_prompt_tokens=1: expected at least 8"),
    ],
)
def test_wrong_settings_are_named(settings, change, message):
    with pytest.raises(ConfigError, match=message):
        settings(**change)


def test_an_unknown_name_of_the_room_is_an_attribute_error():
    import aflow_grpo.policy

    with pytest.raises(AttributeError, match="no attribute 'Polcy'"):
        _ = aflow_grpo.policy.Polcy
