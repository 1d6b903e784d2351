"""The simulator's process: reads its world from standard input, says its port, serves until EOF.

Started by `host.Simulator`. It ends when its standard input closes, so also when the parent is
killed. Should another process hold the pipe's other end (a fork of the parent), the kernel's
parent-death signal ends it on Linux, and elsewhere a look at the parent's id twice a second.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from typing import Any

from aflow_grpo.llm.simulator.server import SimulatorServer
from aflow_grpo.llm.simulator.settings import SimulatorSettings
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import Problem

_PR_SET_PDEATHSIG = 1
_WATCH_S = 0.5
_LISTS = ("alternatives", "public_tests", "hidden_tests")


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the signal was armed
            os._exit(1)


def _problem(fields: dict[str, Any]) -> Problem:
    return Problem(**{**fields, **{name: tuple(fields[name]) for name in _LISTS}})


def _world(message: dict[str, Any]) -> World:
    return World(
        [_problem(fields) for fields in message["problems"]],
        message["markers"],
        SimulatorSettings.from_json(message["settings"]),
    )


async def _until_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(_WATCH_S)


async def _serve_until_eof(world: World, parent: int) -> None:
    ended = asyncio.Event()
    stdin = sys.stdin.fileno()

    def on_input() -> None:
        if not os.read(stdin, 4096):
            ended.set()

    asyncio.get_running_loop().add_reader(stdin, on_input)
    server = SimulatorServer(world)
    print(json.dumps({"port": server.port}), flush=True)
    waits = [
        asyncio.create_task(each) for each in (server.run(), ended.wait(), _until_orphaned(parent))
    ]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    # Nobody is left who waits for replies, so what is under way ends with the loop.


def main() -> None:
    """Run the simulator's process."""
    parent = os.getppid()
    line = sys.stdin.buffer.readline()
    if not line:  # the parent is gone already
        return
    message = json.loads(line)
    if message["die_with_parent"]:
        _die_with_parent(parent)
    asyncio.run(_serve_until_eof(_world(message), parent))


if __name__ == "__main__":
    main()
