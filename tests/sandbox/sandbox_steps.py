"""Steps of a sandbox's event loop, for tests that are no coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.sandbox.results import SandboxResult


class Steps:
    """A started sandbox and its loop, for tests that are no coroutines."""

    def __init__(self, runner: asyncio.Runner, sandbox: Sandbox) -> None:
        self._runner = runner
        self.sandbox = sandbox

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` in the sandbox's loop."""
        return self._runner.run(work)

    def run(self, source: str, *expressions: str, **options: Any) -> SandboxResult:
        """Evaluate in the sandbox's loop."""
        result: SandboxResult = self.wait(self.sandbox.evaluate(source, expressions, **options))
        return result
