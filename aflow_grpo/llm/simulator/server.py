"""The HTTP half of the simulator: an OpenAI-compatible endpoint on 127.0.0.1.

Chat completions (not streamed), the list of models, a health check, and OpenAI's error bodies. The
injected failures hit a request's first attempt only, so that a retry gets through; the reply itself
never depends on them. aiohttp's plain server, without router and middlewares, halves the CPU that a
request costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from aflow_grpo.llm.simulator.code_replies import reply_with_code
from aflow_grpo.llm.simulator.replies import Call, reply, unknown_reply
from aflow_grpo.llm.simulator.settings import SimulatorSettings
from aflow_grpo.llm.simulator.skill import Skill
from aflow_grpo.llm.simulator.wire import ProblemIndex, operator_of, texts_of
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["World", "serve"]

_CHARS_PER_TOKEN = 4
_MESSAGE_TOKENS = 4
_MAX_CONTEXT_TOKENS = 128_000
_REFUSAL = "I'm sorry, but I can't help with that request."
_HANG_S = 3600.0


class _Refused(Exception):
    """An error response."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class World:
    """What the simulator knows and how it replies; no HTTP."""

    def __init__(
        self, problems: Iterable[Problem], markers: Mapping[str, str], settings: SimulatorSettings
    ) -> None:
        self.settings = settings
        self._markers = markers
        self._index = ProblemIndex(problems)
        self._skill = Skill(settings.skill_seed, settings.noise)

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The response body for a request body; a pure function of it."""
        system, user = _messages(body)
        model = body.get("model")
        if model not in self.settings.models:
            raise _Refused(404, "model_not_found", f"The model {model!r} does not exist.")
        prompt_tokens = _tokens(system) + _tokens(user) + 2 * _MESSAGE_TOKENS
        if prompt_tokens > _MAX_CONTEXT_TOKENS:
            message = f"The maximum context length is {_MAX_CONTEXT_TOKENS} tokens."
            raise _Refused(400, "context_length_exceeded", message)
        text = self.text(system, user, _whole(body, "seed", 0))
        limit = _whole(body, "max_tokens", 2048) * _CHARS_PER_TOKEN
        finish = "length" if len(text) > limit else "stop"
        text = text[:limit]
        return _completion_body(str(model), text, finish, prompt_tokens)

    def text(self, system: str, user: str, seed: int) -> str:
        """The reply to one system and one user message."""
        rng = random.Random(derive_seed("reply", seed, user))
        if rng.random() < self.settings.rate_malformed:
            return _REFUSAL
        operator = operator_of(system, self._markers)
        problem = self._index.find(user)
        if problem is None:
            return unknown_reply(operator, user, rng)
        call = Call(operator, problem, user, rng, self._skill)
        return reply_with_code(call) if problem.domain == "code" else reply(call)


async def serve(world: World) -> tuple[web.ServerRunner, int]:
    """Listen on a free port of 127.0.0.1; returns the runner (to clean up) and the port."""
    runner = web.ServerRunner(web.Server(_Handler(world), access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, int(runner.addresses[0][1])


class _Handler:
    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings
        self._attempts: set[bytes] = set()
        self._troubled = world.settings.rate_429 + world.settings.rate_500
        self._troubled += world.settings.rate_hang

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            match request.method, request.path:
                case "POST", "/v1/chat/completions":
                    return _json(await self._complete(request))
                case "GET", "/v1/models":
                    return _json({"object": "list", "data": self._models()})
                case "GET", "/health":
                    return _json({"status": "ok"})
            raise _Refused(404, "unknown_url", f"Unknown request: {request.method} {request.path}")
        except _Refused as error:
            return _error(error)

    async def _complete(self, request: web.BaseRequest) -> dict[str, Any]:
        expected = self._settings.api_key
        if expected and request.headers.get("Authorization") != f"Bearer {expected}":
            raise _Refused(401, "invalid_api_key", "Incorrect API key provided.")
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            raise _Refused(400, "invalid_json", "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise _Refused(400, "invalid_json", "The body is not a JSON object.")
        if self._troubled:
            await self._trouble(raw)
        completion = self._world.completion(body)
        if self._settings.latency_ms:
            uniform = (derive_seed("latency", hashlib.sha256(raw).hexdigest()) + 0.5) / 2**31
            await asyncio.sleep(-math.log(uniform) * self._settings.latency_ms / 1000)
        return completion

    async def _trouble(self, raw: bytes) -> None:
        """Fail a request's first attempt at the rates that are set."""
        digest = hashlib.sha256(raw).digest()
        if digest in self._attempts:
            return
        self._attempts.add(digest)
        draw = (derive_seed("trouble", digest.hex()) + 0.5) / 2**31
        settings = self._settings
        if draw < settings.rate_429:
            raise _Refused(429, "rate_limit_exceeded", "Slow down.", settings.retry_after_s)
        if draw < settings.rate_429 + settings.rate_500:
            raise _Refused(500, "server_error", "The server had an error.")
        if draw < self._troubled:
            await asyncio.sleep(_HANG_S)

    def _models(self) -> list[dict[str, Any]]:
        return [{"id": name, "object": "model", "created": 0} for name in self._settings.models]


def _messages(body: Mapping[str, Any]) -> tuple[str, str]:
    messages = body.get("messages")
    if body.get("stream"):
        raise _Refused(400, "unsupported_parameter", "stream: the simulator does not stream.")
    if not isinstance(messages, list) or not messages:
        raise _Refused(400, "missing_parameter", "messages: expected a list of messages.")
    try:
        return texts_of(messages)
    except (ValueError, AttributeError) as error:
        raise _Refused(400, "invalid_type", str(error)) from None


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Refused(400, "invalid_value", f"{name}: expected a whole number, got {value!r}.")
    return value


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)


def _completion_body(model: str, text: str, finish: str, prompt_tokens: int) -> dict[str, Any]:
    completion_tokens = _tokens(text)
    return {
        "id": f"chatcmpl-{derive_seed(text):08x}",
        "object": "chat.completion",
        "created": 0,  # no clock: the reply is a function of the request
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _json(body: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=json.dumps(body).encode(), status=status, content_type="application/json"
    )


def _error(error: _Refused) -> web.Response:
    kind = "invalid_request_error" if error.status < 429 else "server_error"
    body = {"error": {"message": str(error), "type": kind, "param": None, "code": error.code}}
    response = _json(body, error.status)
    if error.retry_after_s:
        response.headers["Retry-After"] = f"{error.retry_after_s:g}"
    return response
