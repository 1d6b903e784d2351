"""A real endpoint on loopback that holds its answers back, goes down and comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from scripted_endpoint import Scripted, completion

from aflow_grpo.llm.tiers import Tier

GOOD = completion("hello")


@dataclass
class Switchable:
    """A server that answers when `open` is set, and that can be taken down and brought back."""

    server: web.Server
    runner: web.ServerRunner
    port: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0
    site: web.TCPSite | None = None

    async def up(self) -> None:
        self.site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await self.site.start()
        self.port = self.runner.addresses[0][1]

    async def down(self) -> None:
        assert self.site is not None
        await self.site.stop()
        for connection in self.server.connections:
            connection.force_close()

    def tier(self, **changes: object) -> Tier:
        return Scripted(f"http://127.0.0.1:{self.port}/v1").tier(**changes)


@asynccontextmanager
async def switchable() -> AsyncIterator[Switchable]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        one.arrived += 1
        await one.open.wait()
        return web.Response(text=json.dumps(GOOD[2]), content_type="application/json")

    server = web.Server(answer, access_log=None)
    one = Switchable(server, web.ServerRunner(server, shutdown_timeout=0.05))
    await one.runner.setup()
    await one.up()
    try:
        yield one
    finally:
        await one.runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds."""
    while not condition():
        await asyncio.sleep(0.005)
