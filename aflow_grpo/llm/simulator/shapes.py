"""OpenAI's JSON: what a request says, what a completion and an error look like.

Not here: HTTP (`server`), what a reply says (`replies`), objects asked for (`structured`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aflow_grpo.llm.simulator.structured import ReplyFormat, read_format
from aflow_grpo.llm.simulator.wire import texts_of
from aflow_grpo.seeds import derive_seed

__all__ = ["CHARS_PER_TOKEN", "ChatRequest", "Refused", "completion_body", "error_body"]

CHARS_PER_TOKEN = 4
_MESSAGE_TOKENS = 4
_MAX_CONTEXT_TOKENS = 128_000
_MAX_TOKENS = 2048
_ONE_OF: Mapping[str, tuple[Any, ...]] = {
    "stream": (None, False),
    "n": (None, 1),
    "logprobs": (None, False),
    "tools": (None, []),
}
"""Parameters whose other values the simulator does not imitate, and those that change nothing."""


class Refused(Exception):
    """An error response.

    Args:
        status: HTTP status.
        code: OpenAI's name of the error; None where it gives none.
        message: For a person.
        param: Which parameter of the request is to blame.
        kind: OpenAI's `type`.
        retry_after_s: What the client is asked to wait; 0: nothing is said.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class ChatRequest:
    """The body of a chat completion request, checked."""

    model: str
    system: str
    user: str
    seed: int
    max_tokens: int
    format: ReplyFormat | None
    """The object that the reply has to be; None: plain text."""

    @classmethod
    def read(cls, body: Any, *, structured_outputs: bool) -> ChatRequest:
        """Check a decoded body.

        Raises:
            Refused: As OpenAI would, or a parameter asks for what the simulator does not do.
        """
        if not isinstance(body, dict):
            raise Refused(400, "invalid_json", "The body is not a JSON object.")
        for name, known in _ONE_OF.items():
            if body.get(name) not in known:
                message = f"Unsupported value: {name} is not supported by the simulator."
                raise Refused(400, "unsupported_parameter", message, param=name)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            message = "messages: expected a list of messages."
            raise Refused(400, "missing_parameter", message, param="messages")
        try:
            system, user = texts_of(messages)
        except (ValueError, AttributeError, TypeError) as error:
            raise Refused(400, "invalid_type", str(error), param="messages") from None
        limit = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        return cls(
            str(body.get("model")),
            system,
            user,
            _whole(body, "seed", 0),
            _whole(body, limit, _MAX_TOKENS),
            _format(body, f"{system}\n{user}", structured_outputs),
        )

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the messages, by their length.

        Raises:
            Refused: They do not fit the model's context.
        """
        tokens = _tokens(self.system) + _tokens(self.user) + 2 * _MESSAGE_TOKENS
        if tokens > _MAX_CONTEXT_TOKENS:
            message = (
                f"This model's maximum context length is {_MAX_CONTEXT_TOKENS} tokens. However, "
                f"your messages resulted in {tokens} tokens."
            )
            raise Refused(400, "context_length_exceeded", message, param="messages")
        return tokens


def completion_body(
    model: str, text: str, finish: str, prompt_tokens: int, *, refusal: str | None = None
) -> dict[str, Any]:
    """A chat completion.

    Args:
        model: Who replied.
        text: Its words.
        finish: Why it stopped: `stop` or `length`.
        prompt_tokens: Of the request.
        refusal: Replaces the words where an object was asked for and the model refuses.
    """
    completion_tokens = _tokens(refusal or text)
    content = None if refusal else text
    return {
        "id": f"chatcmpl-{derive_seed(text):08x}",
        "object": "chat.completion",
        "created": 0,  # no clock: the reply is a function of the request
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def error_body(error: Refused) -> dict[str, Any]:
    """An error as OpenAI words it."""
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }


def _format(body: Mapping[str, Any], prompt: str, supported: bool) -> ReplyFormat | None:
    wanted = body.get("response_format")
    if wanted is not None and not supported:
        message = "Unsupported parameter: 'response_format' is not supported with this model."
        raise Refused(400, "unsupported_parameter", message, param="response_format")
    try:
        return read_format(wanted, prompt)
    except ValueError as error:
        raise Refused(400, None, str(error), param="response_format") from None


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{name}: expected a whole number, got {value!r}."
        raise Refused(400, "invalid_value", message, param=name)
    return value


def _tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)
