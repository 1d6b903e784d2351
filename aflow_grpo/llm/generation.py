"""What is sent to a generation server and what has to come back: token ids and log-probabilities.

The form is that of vLLM's `/v1/completions`: OpenAI's, with the prompt as token ids and
`return_token_ids`. An answer is taken as it is or not at all: ids that do not fit their
log-probabilities, or log-probabilities that are none, would train the policy on what it never drew.
Light, and without HTTP; that is `generation_server`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

__all__ = ["Asked", "Drawing", "Garbage", "WrongAnswer", "read_drawing", "read_gap", "request_body"]

_TOLERANCE = 1e-4
"""By which a log-probability may exceed 0: rounding of the server's softmax, in nats."""
_IMPOSSIBLE = -9000.0
"""What vLLM writes for minus infinity is below."""


@dataclass(frozen=True)
class Asked:
    """One completion to be drawn."""

    prompt_ids: tuple[int, ...]
    seed: int
    """Non-negative; unused at temperature 0."""
    max_tokens: int
    """Longest completion, the end token included."""
    temperature: float
    """0 takes the most probable token."""
    top_p: float
    end_ids: tuple[int, ...]
    """Tokens that end a completion, and the only ones that do."""


@dataclass(frozen=True)
class Drawing:
    """What a server drew."""

    token_ids: list[int]
    """The end token included, where there is one."""
    logprobs: list[float]
    """One per token, in nats."""
    finished: bool
    """False when it was cut at `max_tokens`."""


class WrongAnswer(ValueError):
    """A status of success, and a body that is not what was asked for; the message says what is."""


class Garbage(WrongAnswer):
    """Not even of the right kind: something on the way answered, or cut the body. It may pass."""


def request_body(model: str, asked: Asked) -> dict[str, Any]:
    """The JSON body of a completion.

    Everything that changes the distribution is named: a server may take its defaults from the
    model's `generation_config.json`, and Qwen2.5's has top_k 20 and a repetition penalty.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(asked.prompt_ids),
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,  # `stop_token_ids` alone decide
        "stop_token_ids": list(asked.end_ids),
        "logprobs": 0,
        "return_token_ids": True,
    }
    if asked.temperature > 0:
        body["seed"] = asked.seed
    return body


def read_drawing(text: str, asked: Asked) -> Drawing:
    """What a server answered to `asked`.

    Raises:
        WrongAnswer: It is not a completion of this prompt with token ids and log-probabilities.
    """
    choice = _choice(text)
    ids, prompt_ids = choice.get("token_ids"), choice.get("prompt_token_ids")
    if not _are_ids(ids) or not _are_ids(prompt_ids):
        raise WrongAnswer(
            "the reply has no token ids (return_token_ids); vLLM gives them from 0.10.2 on"
        )
    if list(prompt_ids) != list(asked.prompt_ids):
        raise WrongAnswer("the server read another prompt than the token ids that it was sent")
    logprobs = _token_logprobs(choice, ids)
    if not 0 < len(ids) <= asked.max_tokens:
        raise WrongAnswer(f"{len(ids)} tokens were drawn where 1 to {asked.max_tokens} were asked")
    ends = [place for place, token in enumerate(ids) if token in asked.end_ids]
    if ends and ends[0] != len(ids) - 1:
        raise WrongAnswer(f"it goes on after the end token {ids[ends[0]]}")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise WrongAnswer(f"it ended with finish_reason {reason!r}; expected stop or length")
    if not ends and len(ids) < asked.max_tokens:
        told = "the server's --max-model-len is too small" if reason == "length" else "no end token"
        raise WrongAnswer(
            f"it ended after {len(ids)} of {asked.max_tokens} tokens ({reason}): {told}"
        )
    return Drawing(list(ids), logprobs, bool(ends))


def read_gap(texts: Sequence[str]) -> list[float]:
    """How far apart two tokens' log-probabilities are in each of some answers, in nats.

    The two are the outermost of those that all answers name; log-probabilities at temperature T
    lie 1 / T as far apart as at temperature 1. Zeros where no two tokens are named by all.

    Args:
        texts: Answers to one prompt, with `top_logprobs` of the first token.

    Raises:
        WrongAnswer: There are no such log-probabilities.
    """
    tables: list[dict[str, float]] = []
    for text in texts:
        try:
            tables.append(dict(_choice(text)["logprobs"]["top_logprobs"][0]))
        except (LookupError, TypeError) as error:
            raise WrongAnswer("the reply has no top_logprobs") from error
    common = sorted(set.intersection(*map(set, tables)), key=lambda token: tables[0][token])
    if len(common) < 2:
        return [0.0] * len(tables)
    return [table[common[-1]] - table[common[0]] for table in tables]


def _choice(text: str) -> Mapping[str, Any]:
    try:
        choice: Any = json.loads(text)["choices"][0]
    except (LookupError, TypeError, ValueError) as error:
        raise Garbage("the reply is no completion") from error
    if not isinstance(choice, dict):
        raise Garbage("the reply is no completion")
    return choice


def _are_ids(ids: Any) -> TypeGuard[list[int]]:
    return isinstance(ids, list) and all(type(token) is int and token >= 0 for token in ids)


def _token_logprobs(choice: Mapping[str, Any], ids: Sequence[int]) -> list[float]:
    holder = choice.get("logprobs")
    values = holder.get("token_logprobs") if isinstance(holder, dict) else None
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        raise WrongAnswer("the reply has no log-probabilities of its tokens")
    if len(values) != len(ids):
        raise WrongAnswer(f"the reply has {len(ids)} token ids and {len(values)} log-probabilities")
    wrong = [value for value in values if not _IMPOSSIBLE < value <= _TOLERANCE]
    if wrong:
        raise WrongAnswer(
            f"{wrong[0]} is no log-probability (serve with --logprobs-mode processed_logprobs)"
        )
    return [min(0.0, float(value)) for value in values]
