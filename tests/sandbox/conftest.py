"""Started sandboxes that a whole test module shares: one event loop each, stepped by the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_steps import Steps

from aflow_grpo.sandbox.pool import Sandbox


def _started(**settings: Any) -> Iterator[Steps]:
    with asyncio.Runner() as runner:
        sandbox = Sandbox(**settings)
        runner.run(sandbox.start())
        try:
            yield Steps(runner, sandbox)
        finally:
            runner.run(sandbox.aclose())


@pytest.fixture(scope="module")
def jail() -> Iterator[Steps]:
    """A jail with short limits; never anything weaker, since tests attack it."""
    limits = {"timeout_s": 5.0, "wall_factor": 4.0, "memory_mb": 512, "max_output_bytes": 20_000}
    yield from _started(mode="jail", **limits)


@pytest.fixture(scope="module")
def monty() -> Iterator[Steps]:
    """The fallback back-end with short limits."""
    yield from _started(mode="monty", timeout_s=2.0, memory_mb=128, max_output_bytes=20_000)
