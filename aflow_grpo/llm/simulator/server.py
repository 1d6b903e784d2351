"""The HTTP half of the simulator: an OpenAI-compatible endpoint on 127.0.0.1.

Chat completions (not streamed), the list of models, a health check, OpenAI's error bodies, and the
faults that are asked for. uvicorn speaks HTTP; the application is plain ASGI, because a router and
request objects would add half to the CPU that a request costs. Not here: what a request may say
(`shapes`), which fault comes when (`faults`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.simulator.faults import Fault, Faults
from aflow_grpo.llm.simulator.shapes import Refused, error_body
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.seeds import derive_seed

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable as Receive
    from uvicorn._types import ASGISendCallable as Send
    from uvicorn._types import HTTPScope, Scope

__all__ = ["SimulatorServer"]

_HOST = "127.0.0.1"
_LOG = logging.getLogger(__name__)
_JSON_HEADERS = ((b"content-type", b"application/json"),)
_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502</body></html>"
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that none sends into a closing one."""
_GRACE_S = 1
_LIMITED = (429, "rate_limit_exceeded", "Rate limit reached.", "requests")
_OVERLOADED = (503, None, "The server is overloaded.", "server_error")
_ERRORS: Mapping[Fault, tuple[int, str | None, str, str]] = {
    Fault.RATE_LIMITED: _LIMITED,
    Fault.RATE_LIMITED_BARE: _LIMITED,
    Fault.INTERNAL: (500, None, "The server had an error.", "server_error"),
    Fault.UNAVAILABLE: _OVERLOADED,
}
"""Faults that are error bodies: HTTP status, code, message, type."""


class _Gone(Exception):
    """Nobody waits for the response any more."""


class SimulatorServer:
    """Serves one world on a port of this machine.

    It takes connections from the start and answers them in `run`.

    Args:
        world: What it replies.
        port: 0 takes a free one.

    Raises:
        ConfigError: The port is taken, or not for this user.
    """

    def __init__(self, world: World, port: int = 0) -> None:
        self._world = world
        self._settings = world.settings
        self._faults = Faults(world.settings.faults)
        self._socket = _bound(port)
        self._socket.listen(_BACKLOG)
        self.port = int(self._socket.getsockname()[1])
        """Where it listens."""
        self._asked = asyncio.Event()
        self._asked_s = math.inf
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._application,
                interface="asgi3",
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",  # what goes wrong in here is logged here, with its trace
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    async def run(self) -> None:
        """Serve until cancelled, or until SIGINT or SIGTERM.

        After a signal, requests under way get a second to end; then it is raised again.
        """
        outage = asyncio.create_task(self._refuse_connections())
        try:
            await self._uvicorn.serve([self._socket])
        finally:
            outage.cancel()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            match scope["method"], scope["path"]:
                case "POST", "/v1/chat/completions":
                    await self._chat(scope, receive, send)
                case "GET", "/v1/models":
                    self._check_outage()
                    await _send_json(send, {"object": "list", "data": self._models()})
                case "GET", "/health":
                    self._check_outage()
                    await _send_json(send, {"status": "ok"})
                case method, path:
                    raise Refused(404, "unknown_url", f"Unknown request URL: {method} {path}.")
        except Refused as error:
            await _send_json(send, error_body(error), error.status, error.retry_after_s)
        except _Gone:
            pass
        except Exception:
            _LOG.exception("The simulator failed at a request.")
            failed = Refused(500, None, "The simulator failed; see its log.", kind="server_error")
            await _send_json(send, error_body(failed), failed.status)

    async def _chat(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        if not self._asked.is_set():
            self._asked.set()
            self._asked_s = asyncio.get_running_loop().time()
        self._check_outage()
        self._check_key(scope)
        digest = hashlib.sha256(raw).digest()
        fault = self._faults.transport(digest)
        await self._fail(fault, scope, receive)
        try:
            body = json.loads(raw)
        except ValueError:
            raise Refused(400, "invalid_json", "The body is not JSON.") from None
        completion = self._world.completion(body, self._faults.content(digest))
        delay_s = self._latency_s(digest) + self._settings.faults.slow_s * (fault is Fault.SLOW)
        if delay_s:
            await _wait(receive, delay_s)
        if fault in (Fault.BAD_GATEWAY, Fault.NOT_JSON):
            status = 502 if fault is Fault.BAD_GATEWAY else 200
            await _send(send, status, _GATEWAY_PAGE, [(b"content-type", b"text/html")])
        elif fault is Fault.DROPPED_MIDWAY:
            await self._send_half(completion, scope, receive, send)
        else:
            await _send(send, 200, _encoded(completion, fault), _JSON_HEADERS)

    async def _fail(self, fault: Fault | None, scope: HTTPScope, receive: Receive) -> None:
        """Do what a fault does in place of an answer, if it does."""
        if fault is not None and fault in _ERRORS:
            status, code, message, kind = _ERRORS[fault]
            wait_s = self._settings.faults.retry_after_s * (fault is Fault.RATE_LIMITED)
            raise Refused(status, code, message, kind=kind, retry_after_s=wait_s)
        if fault is Fault.DROPPED:
            self._transport(scope).abort()
        if fault in (Fault.DROPPED, Fault.HANG):
            await _wait(receive, None)

    async def _send_half(
        self, completion: Mapping[str, Any], scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        """Announce a whole body, send half of it and close the connection."""
        data = json.dumps(completion).encode()
        headers = [*_JSON_HEADERS, (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = data[: len(data) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        self._transport(scope).close()
        await _wait(receive, None)

    def _transport(self, scope: HTTPScope) -> asyncio.Transport:
        """The connection that a request came by."""
        transports = [each.transport for each in self._uvicorn.server_state.connections]
        client = scope["client"]
        return next(each for each in transports if each.get_extra_info("peername") == client)

    def _check_key(self, scope: HTTPScope) -> None:
        expected = self._settings.api_key
        if expected and (b"authorization", f"Bearer {expected}".encode()) not in scope["headers"]:
            raise Refused(401, "invalid_api_key", "Incorrect API key provided.")

    def _check_outage(self) -> None:
        faults = self._settings.faults
        if not faults.outage_s or faults.outage != "unavailable":
            return
        since_s = asyncio.get_running_loop().time() - self._asked_s - faults.outage_start_s
        if 0 <= since_s < faults.outage_s:
            status, code, message, kind = _OVERLOADED
            raise Refused(status, code, message, kind=kind)

    async def _refuse_connections(self) -> None:
        """Close the port for the time of the outage, if that is how it shows."""
        faults = self._settings.faults
        if not faults.outage_s or faults.outage != "refused":
            return
        await self._asked.wait()
        await asyncio.sleep(faults.outage_start_s)
        for server in self._uvicorn.servers:
            server.close()
        # Bound, so that nobody else gets the port, but nobody listens.
        port = _bound(self.port)
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(faults.outage_s)
        await self._uvicorn.startup([port])

    def _latency_s(self, digest: bytes) -> float:
        mean_s = self._settings.latency_ms / 1000
        if not mean_s or self._settings.latency_spread == "none":
            return mean_s
        uniform = (derive_seed("latency", digest.hex()) + 0.5) / 2**31
        return -math.log(uniform) * mean_s

    def _models(self) -> list[dict[str, Any]]:
        return [
            {"id": name, "object": "model", "created": 0, "owned_by": "simulator"}
            for name in self._settings.models
        ]


def _bound(port: int) -> socket.socket:
    # asyncio turns off Nagle's delay, 40 ms a reply, only where the protocol is spelt out.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        bound.close()
        why = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise ConfigError(
            f"port {port} on {_HOST}: {why}. Give another one, or 0 for one that is free."
        ) from None
    return bound


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def _wait(receive: Receive, seconds: float | None) -> None:
    """Wait; `None` until the client has gone.

    Raises:
        _Gone: The client has gone.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] == "http.request":
                pass
            raise _Gone


def _encoded(completion: Mapping[str, Any], fault: Fault | None) -> bytes:
    """The completion as JSON, spoilt as the fault says."""
    if fault is Fault.NO_CHOICES:
        completion = {**completion, "choices": []}
    if fault is Fault.WRONG_TYPES:
        [choice] = completion["choices"]
        message = {**choice["message"], "content": {"text": choice["message"]["content"]}}
        usage = dict.fromkeys(completion["usage"], "many")
        completion = {**completion, "choices": [{**choice, "message": message}], "usage": usage}
    data = json.dumps(completion).encode()
    return data[: len(data) // 2] if fault is Fault.TRUNCATED else data


async def _send_json(
    send: Send, body: Mapping[str, Any], status: int = 200, retry_after_s: float = 0.0
) -> None:
    headers = list(_JSON_HEADERS)
    if retry_after_s:
        headers.append((b"retry-after", f"{retry_after_s:g}".encode()))
    await _send(send, status, json.dumps(body).encode(), headers)


async def _send(
    send: Send, status: int, data: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    length = (b"content-length", str(len(data)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": data})
