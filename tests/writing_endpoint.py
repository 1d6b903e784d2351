"""A real OpenAI-compatible endpoint on loopback that writes workflows of the library."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scripted_endpoint import Response, Scripted, completion, scripted

from aflow_grpo.records import DOMAINS, Domain
from aflow_grpo.training.event_loop import EventLoopThread
from aflow_grpo.workflow.policy_prompt import good_example

__all__ = ["CHECK", "writing_endpoint", "written"]

CHECK = "Hi"
"""What an endpoint is asked before a run."""
PROMPT_TOKENS, COMPLETION_TOKENS = 900, 150


def written(domain: Domain) -> str:
    """A workflow that runs directly."""
    source = good_example(domain)
    return json.dumps({"prompts": dict(source.prompts), "graph_code": source.graph_code})


@contextmanager
def writing_endpoint(
    answer: Callable[[str], Response] | None = None, *, finish_reason: str = "stop"
) -> Iterator[Scripted]:
    """Serve from a thread of its own until the block ends.

    Args:
        answer: From the user's message; None writes a good workflow for the problem's domain.
        finish_reason: Why every answer ends.
    """
    loop = EventLoopThread()
    served: list[Scripted] = []

    def respond(index: int) -> Response:
        message = served[0].requests[index]["messages"][-1]["content"]
        status, headers, body = (answer or _write)(message)
        if status == 200:
            body["choices"][0]["finish_reason"] = finish_reason
        return status, headers, body

    serving = scripted(respond)
    served.append(loop.run(_entered(serving)))
    try:
        yield served[0]
    finally:
        loop.run(_left(serving))
        loop.close()


async def _entered(serving: Any) -> Scripted:
    endpoint: Scripted = await serving.__aenter__()
    return endpoint


async def _left(serving: Any) -> None:
    await serving.__aexit__(None, None, None)


def _write(message: str) -> Response:
    if message == CHECK:
        return completion("Hello")
    domain = next(d for d in DOMAINS if f"# Problem ({d})" in message)
    return completion(
        written(domain), prompt_tokens=PROMPT_TOKENS, completion_tokens=COMPLETION_TOKENS
    )
