"""The policy: a causal language model that writes workflows, how it samples, and its warm start.

`Policy` is in this process and can be trained, `EndpointPolicy` is behind an OpenAI-compatible
endpoint and can only be judged. Both are loaded on first use, so that the rooms' torch-free modules
import quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aflow_grpo.policy.endpoint import EndpointPolicy
    from aflow_grpo.policy.policy import Policy
    from aflow_grpo.policy.settings import LoraSettings, SamplingSettings

__all__ = ["EndpointPolicy", "LoraSettings", "Policy", "SamplingSettings"]


def __getattr__(name: str) -> object:
    if name == "EndpointPolicy":
        from aflow_grpo.policy.endpoint import EndpointPolicy

        return EndpointPolicy
    if name == "Policy":
        from aflow_grpo.policy.policy import Policy

        return Policy
    if name in ("LoraSettings", "SamplingSettings"):
        from aflow_grpo.policy import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
