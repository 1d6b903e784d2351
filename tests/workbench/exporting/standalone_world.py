"""A recording server in front of any other, and a Python that has openai and nothing else."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import aiohttp
from aiohttp import web
from packaging.requirements import Requirement

__all__ = ["Recorded", "openai_alone", "recording", "run_file"]


class Recorded:
    """What was asked, body by body."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.bodies: list[bytes] = []

    def taken(self) -> list[bytes]:
        """The bodies since the last time, sorted, since some are sent at once."""
        bodies, self.bodies = sorted(self.bodies), []
        return bodies


@asynccontextmanager
async def recording(upstream: str) -> AsyncIterator[Recorded]:
    """A server that passes everything on to `upstream` and keeps the bodies."""
    async with aiohttp.ClientSession() as session:
        recorded = Recorded("")

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()
            recorded.bodies.append(body)
            headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
            async with session.post(
                f"{upstream}/chat/completions", data=body, headers=headers
            ) as reply:
                return web.Response(
                    status=reply.status, body=await reply.read(), content_type="application/json"
                )

        app = web.Application()
        app.router.add_post("/v1/chat/completions", forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        recorded.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield recorded
        finally:
            await runner.cleanup()


@functools.cache
def openai_alone() -> Path:
    """A folder with links to openai and what it needs; as good as a venv, in no time."""
    folder = Path(tempfile.mkdtemp(prefix="aflow-grpo-openai-alone-"))
    waiting, seen = ["openai"], set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        for line in distribution.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            (folder / top).symlink_to(distribution.locate_file(top))
    return folder


async def run_file(path: Path, base_url: str, *options: str) -> tuple[int, dict, str]:
    """Exit code, the JSON that it prints, and its stderr."""
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    environment = {
        "PYTHONPATH": str(openai_alone()),
        "OPENAI_API_KEY": "x",
        "OPENAI_BASE_URL": base_url,
    }
    process = await asyncio.create_subprocess_exec(
        python, "-S", str(path), "--json", *options,
        env=environment, cwd=path.parent,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, json.loads(out or b"{}"), err.decode()
