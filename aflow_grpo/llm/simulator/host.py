"""Starts the simulator as a child process and stops it; the child cannot outlive this process.

The child reads its world (problems, operator markers, settings) as one line of JSON from its
standard input and answers with its port. When that pipe closes, whatever the reason, it exits; on
Linux the kernel also kills it when this process dies. Its environment holds no keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.simulator.settings import SIMULATED_MODEL, SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Problem, to_dict

__all__ = ["Simulator"]

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_ROOT = Path(__file__).resolve().parents[3]


class Simulator:
    """A simulated gpt-4o-mini on this machine.

    Args:
        problems: The world: what it knows the answers to (and gets wrong now and then).
        markers: Operator attribute -> the opening of its system message.
        settings: Skill and faults.

    Example:
        >>> with Simulator(problems, markers) as simulator:
        ...     client = ExecutorClient([simulator.tier()])
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        markers: Mapping[str, str],
        settings: SimulatorSettings | None = None,
    ) -> None:
        self._problems = problems
        self._markers = markers
        self._settings = settings or SimulatorSettings()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> Simulator:
        """Start the child and wait until it serves; when it runs already, do nothing.

        Raises:
            ExecutorError: It did not come up.
        """
        if self._process is not None:
            return self
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aflow_grpo.llm.simulator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the trainer, which then closes this
        )
        try:
            self._port = self._greet(self._process)
        except BaseException:
            self._process.kill()  # it may still be starting and would notice the pipe's end late
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the child and wait for its end; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone already
            process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    @property
    def base_url(self) -> str:
        """Where it listens, e.g. ``http://127.0.0.1:40123/v1``."""
        if self._process is None:
            raise ExecutorError("The simulator is not running: call start() first.")
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def digest(self) -> str:
        """Names this world: equal digests answer equal requests alike."""
        world = json.dumps(self._world(), sort_keys=True)
        return hashlib.sha256(world.encode()).hexdigest()

    @property
    def pid(self) -> int | None:
        """The child's process id; None when it does not run."""
        return None if self._process is None else self._process.pid

    def tier(self, **changes: Any) -> Tier:
        """A tier that asks this simulator; `changes` are further fields of `Tier`."""
        fields: dict[str, Any] = {
            "name": "simulator",
            "model": SIMULATED_MODEL,
            "base_url": self.base_url,
            "api_key": self._settings.api_key or "simulated",
            "api_key_env": "",  # a real key has no business here
        }
        return Tier(**{**fields, **changes})

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _world(self) -> dict[str, Any]:
        return {
            "problems": [to_dict(problem) for problem in self._problems],
            "markers": dict(self._markers),
            "settings": to_dict(self._settings),
        }

    def _greet(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdin is not None and process.stdout is not None
        world = {
            **self._world(),
            # The kernel's signal follows the starting thread, so only the main one may arm it.
            "die_with_parent": threading.current_thread() is threading.main_thread(),
        }
        try:
            process.stdin.write(json.dumps(world).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
            return int(json.loads(process.stdout.readline())["port"]) if ready else self._fail()
        except (BrokenPipeError, ValueError):
            return self._fail()

    def _fail(self) -> int:
        raise ExecutorError(
            f"The simulator did not start within {_START_TIMEOUT_S:g} s; its own message is above."
        )


def _environment() -> dict[str, str]:
    """What the child needs to run, and no keys."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {**environment, "PYTHONPATH": str(_ROOT)}
