"""The body of a chat completion: what is sent for a request, and what a reply's body says.

Read without a schema, field by field: what matters is checked, the rest may be anything. Not here:
sending it (`endpoint`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aflow_grpo.llm.session import Request
from aflow_grpo.llm.tiers import Tier

__all__ = ["Answer", "estimated_tokens", "most_tokens", "read_answer", "request_body"]

_CHARS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 16
"""More than any chat template adds around a message."""


@dataclass(frozen=True)
class Answer:
    """What a tier replied."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Of the prompt tokens, those that the endpoint had in its prompt cache."""
    finish_reason: str


def request_body(tier: Tier, request: Request, *, structured: bool) -> dict[str, Any]:
    """The JSON body for `request`.

    Args:
        tier: Gives the model, and the sampling defaults.
        request: What is asked.
        structured: Ask for a JSON object, where the request says how.
    """
    form = request.form if structured else None
    prompt = request.prompt if form is None else form.prompt
    messages = [{"role": "user", "content": _sendable(prompt)}]
    if request.system:
        messages.insert(0, {"role": "system", "content": _sendable(request.system)})
    body = {
        "model": tier.model,
        "messages": messages,
        "temperature": tier.temperature if request.temperature is None else request.temperature,
        "top_p": tier.top_p,
        "max_tokens": tier.max_tokens if request.max_tokens is None else request.max_tokens,
        "seed": request.seed,
    }
    if form is not None:
        body["response_format"] = form.response_format
    return body


def estimated_tokens(body: Mapping[str, Any]) -> int:
    """About how many tokens the prompt of `body` has."""
    return sum(len(message["content"]) for message in body["messages"]) // _CHARS_PER_TOKEN


def most_tokens(body: Mapping[str, Any]) -> int:
    """More tokens than the prompt of `body` can have: no token is shorter than a byte."""
    texts = [message["content"] for message in body["messages"]]
    if "response_format" in body:
        texts.append(json.dumps(body["response_format"]))
    return sum(len(text.encode()) + _TOKENS_PER_MESSAGE for text in texts)


def read_answer(text: str, body: Mapping[str, Any]) -> Answer:
    """What the endpoint replied to `body`.

    Raises:
        ValueError: `text` is no chat completion (or TypeError, LookupError, AttributeError).
    """
    reply = json.loads(text)
    choice = reply["choices"][0]
    content = choice["message"].get("content")
    finish = _text(choice.get("finish_reason") or "")
    if content is None:
        content = ""  # a refusal, or nothing but tool calls
    content = _sendable(_text(content))  # a lone surrogate fits in no database
    usage = reply.get("usage") or {}
    if usage.get("prompt_tokens") is None:  # some servers do not count; never free, so estimated
        return Answer(content, estimated_tokens(body), len(content) // _CHARS_PER_TOKEN, 0, finish)
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    tokens = (int(usage["prompt_tokens"]), int(usage["completion_tokens"]), int(cached))
    if min(tokens) < 0:
        raise ValueError("a negative number of tokens")
    return Answer(content, *tokens, finish)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _sendable(text: str) -> str:
    """`text` without lone surrogates, which a workflow may write and JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()
