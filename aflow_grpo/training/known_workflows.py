"""Workflows that the policy did not write, in its tokens, and their execution while it trains.

Not here: what they are for (`demonstrations`, `exploring`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.policy.policy import Policy
from aflow_grpo.records import Completion, Problem, Rollout
from aflow_grpo.rollout import RolloutRequest
from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.workflow.library import library

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["as_written_for", "execute", "local", "writable"]


def execute(module: GRPOModule, requests: Sequence[RolloutRequest]) -> list[Rollout]:
    """The rollouts of the requests, in their order."""
    if not requests:
        return []
    running = rollout_callback_of(module.trainer).open_batch(module.trainer)
    try:
        for request in requests:
            running.submit(request)
        running.end()
        return running.result()
    except BaseException:
        running.cancel()
        raise


def as_written_for(
    policy: Policy,
    problem: Problem,
    token_ids: Sequence[int],
    logprobs: Sequence[float] | None = None,
) -> Completion:
    """A workflow as if it were drawn for this problem.

    Args:
        policy: Whose tokens they are.
        problem: Its prompt is the completion's.
        token_ids: The end token included.
        logprobs: Of whoever drew it, in nats; None: 0, since nobody drew it for this problem.
    """
    prompt, tokenizer = policy.encode(problem.visible), policy.tokenizer
    return Completion(
        text=str(tokenizer.decode(list(token_ids[:-1]), clean_up_tokenization_spaces=False)),
        prompt_ids=prompt.ids,
        token_ids=tuple(token_ids),
        logprobs=tuple(logprobs) if logprobs is not None else (0.0,) * len(token_ids),
        finished=True,
        context_cut=prompt.context_cut,
    )


def writable(policy: Policy, problem: Problem) -> list[Completion]:
    """The domain's fixed workflows that the policy could write, as if it had."""
    prompt, tokenizer = policy.encode(problem.visible), policy.tokenizer
    end, longest = policy.end_id, policy.sampling.max_new_tokens
    found = []
    for source in library(problem.domain).values():
        text = json.dumps({"prompts": dict(source.prompts), "graph_code": source.graph_code})
        ids = tokenizer.encode(text, add_special_tokens=False)
        same = tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        if same and len(ids) < longest:
            found.append(
                Completion(
                    text=text,
                    prompt_ids=prompt.ids,
                    token_ids=(*ids, end),
                    logprobs=(0.0,) * (len(ids) + 1),
                    finished=True,
                    context_cut=prompt.context_cut,
                )
            )
    return found


def local(policy: BasePolicy) -> Policy:
    """The policy as one in this process.

    Raises:
        ConfigError: It has no tokens here.
    """
    if not isinstance(policy, Policy):
        raise ConfigError(
            f"model.grpo.demonstrations: {policy.describe()} has no tokens here to imitate. Set "
            "it to null, or use a policy in this process."
        )
    return policy
