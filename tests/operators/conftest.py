"""What the operator tests share: one event loop and one sandbox per file."""

import asyncio
from collections.abc import Iterator

import pytest

from aflow_grpo.sandbox.pool import Sandbox


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that outlives single tests."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def sandbox(runner: asyncio.Runner) -> Iterator[Sandbox]:
    """A started sandbox, on that loop."""
    sandbox = Sandbox(workers=1)
    runner.run(sandbox.start())
    yield sandbox
    runner.run(sandbox.aclose())
