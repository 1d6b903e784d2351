"""A real OpenAI-compatible endpoint on loopback that answers by a script."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.tiers import Tier

Response = tuple[int, dict[str, str], Any]
"""Status, headers, body (a dict becomes JSON; text is sent as it is)."""
HANG = -1


def completion(text: str, *, prompt_tokens: int = 100, completion_tokens: int = 10) -> Response:
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
    }
    return 200, {}, body


def error(status: int, code: str = "", message: str = "no", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message, "code": code, "type": "x"}}


@dataclass
class Scripted:
    """Its address and what it was asked."""

    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def tier(self, **changes: Any) -> Tier:
        fields: dict[str, Any] = {
            "name": "one",
            "base_url": self.base_url,
            "api_key": "test-key",
            "api_key_env": "",
            "backoff_s": 0.001,
            "timeout_s": 5.0,
        }
        return Tier(**{**fields, **changes})


@asynccontextmanager
async def scripted(script: Callable[[int], Response] | list[Response]) -> AsyncIterator[Scripted]:
    """Serve `script`: a list is used up, its last entry repeats; a function gets the index."""
    endpoint = Scripted()

    async def answer(request: web.Request) -> web.Response:
        index = len(endpoint.requests)
        endpoint.requests.append(json.loads(await request.read()))
        endpoint.headers.append(dict(request.headers))
        choice = script[min(index, len(script) - 1)] if isinstance(script, list) else script(index)
        status, headers, body = choice
        if status == HANG:
            await asyncio.Event().wait()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            status=status, headers=headers, text=text, content_type="application/json"
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


def dead_url() -> str:
    """An address of this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def against(
    script: Callable[[int], Response] | list[Response],
    scenario: Callable[[ExecutorClient, Scripted], Awaitable[Any]],
    *,
    journal: Journal | None = None,
    **tier: Any,
) -> Any:
    """Run `scenario` with a client whose only tier is served by `script`."""

    async def run() -> Any:
        async with scripted(script) as endpoint:
            client = ExecutorClient([endpoint.tier(**tier)], journal=journal)
            try:
                return await scenario(client, endpoint)
            finally:
                await client.aclose()

    return asyncio.run(run())
