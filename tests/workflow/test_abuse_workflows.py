"""Attacks by workflow code: none leaks, hangs, reaches the host, or makes up an operator call.

Each is judged by what it achieves, not by how it is refused: whatever the interpreter learns of
Python later must not change a verdict here. They run in the interpreter only, never without it.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from abuse_corpus import ACTS, READS, STRAINS, reporting
from abuse_world import World, descendants, world
from workflow_catalogue import call
from workflow_host import Host

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.records import FaultKind, WorkflowSource
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits, Outcome

_LIMITS = InterpreterLimits(max_feed_s=0.5, max_answer_chars=10_000, max_argument_chars=20_000)
_LONGEST_S = 8.0
"""The limit, the interpreter's grace, the host's own; and room for a busy machine."""
_MOST_MB = 300
_WORKERS = 1


class _Operators(Host):
    """Holds the secret as an attribute and in the exception behind a fault."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.session = secret

    async def __call__(
        self, index: int, attribute: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        answer = await super().__call__(index, attribute, arguments)
        if arguments.get("input") == "fail":
            raise WorkflowFault(FaultKind.EXCEPTION, "no") from KeyError(self.session)
        return answer


class _Attacked:
    """An open interpreter and its loop."""

    def __init__(self, runner: asyncio.Runner, interpreter: Interpreter, world_: World) -> None:
        self._runner = runner
        self._interpreter = interpreter
        self.world = world_
        self.host = _Operators("")

    def run(self, code: str, problem: str = "2+3?") -> Outcome:
        """Runs `code`; what it takes far too long for is a failure of the test."""
        self.host = _Operators(self.world.secret)
        ran = self._interpreter.run(
            WorkflowSource(self.world.arm(code)),
            problem=problem,
            entry_point="solve",
            call_operator=self.host,
        )
        return self._runner.run(asyncio.wait_for(ran, 2 * _LONGEST_S))

    def told(self, outcome: Outcome) -> str:
        """Everything that left the interpreter."""
        return f"{outcome!r} {self.host.calls!r}"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Attacked]:
    with asyncio.Runner() as runner, world(tmp_path_factory.mktemp("world")) as made:
        interpreter = Interpreter(workers=_WORKERS, limits=_LIMITS)
        runner.run(interpreter.__aenter__())
        try:
            yield _Attacked(runner, interpreter, made)
        finally:
            runner.run(interpreter.aclose())


_GROUPS = {"read": READS, "act": ACTS, "strain": STRAINS}
_ALL = {f"{kind}: {name}": code for kind in _GROUPS for name, code in _GROUPS[kind].items()}


@pytest.mark.parametrize("name", _ALL)
def test_attack_achieves_nothing(attacked: _Attacked, name: str) -> None:
    trusted = (builtins.len, builtins.open, json.dumps, os.getpid())
    below = len(descendants(os.getpid()))
    attacked.world.peak_mb = 0.0
    started = time.monotonic()
    outcome = attacked.run(_ALL[name])
    assert time.monotonic() - started < _LONGEST_S
    assert (outcome.answer is None) != (outcome.fault is None)
    assert attacked.world.leaks(attacked.told(outcome)) == []
    assert attacked.world.changes() == []
    assert attacked.world.peak_mb < _MOST_MB
    assert len(descendants(os.getpid())) <= max(below, _WORKERS)
    assert trusted == (builtins.len, builtins.open, json.dumps, os.getpid())
    made = attacked.host.calls
    assert len(made) <= _LIMITS.max_operator_calls
    for _, attribute, arguments in made:
        known = {parameter.name for parameter in TEN_OPERATORS.by_attribute[attribute].parameters}
        assert set(arguments) <= known | {"instruction"}
        assert len(str(arguments)) < 2 * _LIMITS.max_argument_chars


def test_the_next_workflow_is_unharmed(attacked: _Attacked) -> None:
    attacked.run(STRAINS["list bomb"])
    attacked.run(ACTS["patch builtins"])
    assert attacked.run(call("return len(problem), 0"), problem="abc").answer == "3"


def test_the_checks_would_notice(attacked: _Attacked, tmp_path: Path) -> None:
    """What an attack would have achieved, done by the test itself, is seen."""
    leaked = attacked.run(reporting("found = problem"), problem=attacked.world.secret)
    assert attacked.world.leaks(attacked.told(leaked)) == [attacked.world.secret]
    with world(tmp_path) as other:
        (tmp_path / "x").touch()
        (tmp_path / "secret.txt").write_text("")
        assert other.changes() == ["files: ['secret.txt', 'x']", "the file has changed"]


def test_the_corpus_is_large_and_says_what_it_does() -> None:
    assert len(_ALL) == len(READS) + len(ACTS) + len(STRAINS) >= 140
    assert all("found" in code or "return" in code for code in _ALL.values())
