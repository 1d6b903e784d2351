"""Verdicts do not depend on how busy the machine is: processor seconds decide."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sandbox_steps import Steps

from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox

_BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
_PER_CORE = 3

# Some 0.2 s of computing, whatever the machine: it counts its own processor time.
_WORK = (
    "import time\ndef f(x):\n    end = time.process_time() + 0.2\n"
    "    while time.process_time() < end: pass\n    return x\n"
)


@pytest.fixture(scope="module")
def busy_machine() -> Iterator[None]:
    """Every core has several processes that want it."""
    count = _PER_CORE * len(os.sched_getaffinity(0))
    running = [
        subprocess.Popen([sys.executable, "-S", "-c", _BUSY], start_new_session=True)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def loaded(busy_machine: None) -> Iterator[Steps]:
    with asyncio.Runner() as runner:
        sandbox = Sandbox(mode="jail", wall_factor=30)
        runner.run(sandbox.start())
        try:
            yield Steps(runner, sandbox)
        finally:
            runner.run(sandbox.aclose())


def test_a_right_program_passes_on_a_busy_machine(loaded: Steps) -> None:
    """Four fifths of the limit in processor time, and more than the limit by the clock."""
    result = loaded.run(_WORK, "[f(i) for i in range(2)]", timeout_s=0.5)
    assert result.values[0].value == [0, 1], result
    assert 0.4 <= result.cpu_seconds < 0.5
    assert result.seconds > 0.5  # by the clock it would have failed


def test_a_slow_program_fails_at_the_same_point(loaded: Steps) -> None:
    result = loaded.run(_WORK, "f(0)", "[f(i) for i in range(9)]", timeout_s=0.5)
    assert result.values[0].value == 0
    assert result.values[1].error == "did not finish within 0.5 s of processor time"
    assert 0.49 < result.cpu_seconds < 0.6


@pytest.mark.parametrize(
    "test",
    ["assert f(1) == 1 and f(2) == 2", "for i in (1, 2):\n    assert f(i) == i"],
    ids=["plain", "replayed"],
)
def test_judgements_hold_on_a_busy_machine(loaded: Steps, test: str) -> None:
    verdict = loaded.wait(judge(loaded.sandbox, _WORK, "f", [test], timeout_s=0.5))
    assert verdict.all_passed, verdict


def test_the_sandbox_s_own_limit_is_the_judge_s() -> None:
    async def scenario() -> str:
        async with Sandbox(mode="jail", timeout_s=0.2, wall_factor=50) as sandbox:
            code = "def f(x):\n    while True: pass"
            return (await judge(sandbox, code, "f", ["assert f(1) == 1"])).messages[0]

    assert "did not finish within 0.2 s of processor time" in asyncio.run(scenario())


def test_the_same_candidate_has_the_same_verdict_every_time(loaded: Steps) -> None:
    candidate = (
        "import random\ndef f(x):\n"
        "    return sorted({'a', 'b', 'c'}, key=hash)[0] + str(random.randint(0, x))\n"
    )
    said = [
        loaded.wait(judge(loaded.sandbox, candidate, "f", ["assert f(99) == ''"])).messages
        for _ in range(4)
    ]
    assert len(set(said)) == 1 and "returned" in said[0][0]
