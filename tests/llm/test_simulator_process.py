"""The simulator as a process and as an HTTP endpoint, asked by the real openai client."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, problems, system

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.simulator.faults import FaultSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import to_dict

WORLD = [*problems("math", 8), *problems("qa", 8), *problems("code", 8)]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(WORLD, MARKERS) as running:
        yield running


def ended(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process is gone (or a zombie that nobody reaps) within a time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if sys.platform == "linux":
                with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                    if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                        return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        threading.Event().wait(0.02)
    return False


def ask_all(tier: Tier, prompts: list[tuple[int, str, str]]) -> tuple[dict[int, str], int]:
    """Replies by session seed, and the number of HTTP attempts."""

    async def run() -> tuple[dict[int, str], int]:
        client = ExecutorClient([tier])

        async def one(seed: int, operator: str, prompt: str) -> tuple[int, str]:
            return seed, await client.session(seed)(prompt, system=system(operator))

        replies = dict(await asyncio.gather(*(one(*prompt) for prompt in prompts)))
        attempts = client.usage.attempts
        await client.aclose()
        return replies, attempts

    return asyncio.run(run())


def workload() -> list[tuple[int, str, str]]:
    operators = ("custom", "programmer", "review", "answer_generate")
    return [(n, operators[n % 4], WORLD[n % len(WORLD)].text) for n in range(60)]


def test_replies_do_not_depend_on_order_or_on_the_process(simulator: Simulator) -> None:
    prompts = workload()
    shuffled = random.Random(1).sample(prompts, len(prompts))
    first, _ = ask_all(simulator.tier(), prompts)
    second, _ = ask_all(simulator.tier(max_concurrent=2), shuffled)
    with Simulator(list(reversed(WORLD)), MARKERS) as other:
        third, _ = ask_all(other.tier(), shuffled)
    assert first == second == third
    assert len(set(first.values())) > 30


def test_injected_trouble_is_retried_and_changes_no_reply(simulator: Simulator) -> None:
    faults = FaultSettings(rate_429=0.2, rate_500=0.2, rate_hang=0.1, retry_after_s=0.01)
    calm, calm_attempts = ask_all(simulator.tier(), workload())
    with Simulator(WORLD, MARKERS, SimulatorSettings(faults=faults)) as troubled:
        tier = troubled.tier(timeout_s=1.5, backoff_s=0.001, max_attempts=20)
        rough, attempts = ask_all(tier, workload())
    assert rough == calm
    assert calm_attempts == 60
    assert 90 <= attempts <= 150  # each attempt fails with probability 1/2: 120 expected


def test_latency_is_waited_for() -> None:
    with Simulator(WORLD, MARKERS, SimulatorSettings(latency_ms=20)) as slow:
        begin = time.monotonic()
        ask_all(slow.tier(max_concurrent=1), workload()[:20])
        assert time.monotonic() - begin > 0.1


def test_a_wrong_key_is_refused_where_one_is_set() -> None:
    with Simulator(WORLD, MARKERS, SimulatorSettings(api_key="right")) as guarded:
        assert ask_all(guarded.tier(), workload()[:1])[1] == 1

        async def run() -> None:
            client = ExecutorClient([guarded.tier(api_key="wrong")])
            with pytest.raises(Exception, match="HTTP 401"):
                await client.session(1)("x")
            await client.aclose()

        asyncio.run(run())


def test_close_leaves_no_process_and_may_be_called_twice() -> None:
    simulator = Simulator(WORLD, MARKERS).start()
    pid = simulator.pid
    assert pid is not None and simulator.start() is simulator and simulator.pid == pid
    simulator.close()
    simulator.close()
    assert simulator.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ExecutorError, match=r"call start\(\) first"):
        _ = simulator.base_url


_PARENT = """
import os, sys, threading
from aflow_grpo.llm.simulator import Simulator
simulator = Simulator([], {})
if sys.argv[1] == "main":
    simulator.start()
else:
    starter = threading.Thread(target=simulator.start)
    starter.start()
    starter.join()
if sys.argv[2] == "held" and os.fork() == 0:  # holds the simulator's pipe until the test ends
    sys.stdin.read()
    os._exit(0)
print(simulator.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("thread", "pipe"), [("main", "held"), ("other", "held"), ("other", "")])
def test_kill_9_of_the_parent_ends_the_simulator(thread: str, pipe: str) -> None:
    command = [sys.executable, "-c", _PARENT, thread, pipe]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)  # the starting thread has ended, the child lives on
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment in /proc")
def test_the_child_has_no_keys_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with Simulator([], {}) as simulator:
        assert simulator.tier().api_key_env == ""
        with open(f"/proc/{simulator.pid}/environ", "rb") as environ:
            assert b"sk-very-secret" not in environ.read()


def test_a_child_that_does_not_start_is_an_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    simulator = Simulator([], {})
    with pytest.raises(ExecutorError, match="did not start"):
        simulator.start()
    assert simulator.pid is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": -1.0},
        {"latency_ms": -1.0},
        {"visibility": 2.5},
        {"latency_spread": "wide"},
        {"models": ()},
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ConfigError, match=rf"llm\.simulator\.{name}=.*: expected "):
        SimulatorSettings(**wrong)


@given(
    st.builds(
        SimulatorSettings,
        skill_seed=st.integers(0, 9),
        visibility=st.floats(0, 2),
        models=st.lists(st.text(min_size=1), min_size=1).map(tuple),
        faults=st.builds(FaultSettings, seed=st.integers(0, 9), rate_cut=st.floats(0, 1)),
    )
)
def test_settings_reach_the_child_as_they_are(settings: SimulatorSettings) -> None:
    assert SimulatorSettings.from_json(json.loads(json.dumps(to_dict(settings)))) == settings
