"""The sandbox's life: start, concurrency, a lost zygote, and no process left behind."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.errors import ConfigError, SandboxUnavailable
from aflow_grpo.sandbox import pool
from aflow_grpo.sandbox.jail import JailBackend
from aflow_grpo.sandbox.pool import Sandbox, sandbox_report

_ROOT = Path(__file__).resolve().parents[2]


def _descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


def _zygote(sandbox: Sandbox) -> int:
    backend = sandbox._backend
    assert isinstance(backend, JailBackend)
    return backend.zygote_pid


def _all_end(pids: list[int], within_s: float = 5.0) -> bool:
    """Whether all processes end in time; a vanished one has ended."""
    deadline = time.monotonic() + within_s
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(handle)
    return True


async def _started_job(sandbox: Sandbox, source: str) -> tuple[asyncio.Task[Any], list[int]]:
    """A job under way, and its process (bubblewrap, if there, and the zygote are no jobs)."""
    idle = set(_descendants(_zygote(sandbox)))
    task = asyncio.create_task(sandbox.evaluate(source, ["x"]))
    while not (jobs := set(_descendants(_zygote(sandbox))) - idle):
        await asyncio.sleep(0.005)
    return task, sorted(jobs)


def test_start_and_close_may_be_repeated() -> None:
    async def scenario() -> None:
        sandbox = Sandbox(mode="jail")
        await sandbox.aclose()
        await sandbox.start()
        first = _zygote(sandbox)
        await sandbox.start()
        assert _zygote(sandbox) == first
        await sandbox.aclose()
        await sandbox.aclose()
        assert _all_end([first])
        async with sandbox:
            assert (await sandbox.evaluate("x = 1", ["x"])).values[0].value == 1

    asyncio.run(scenario())


def test_evaluate_before_start_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="start the sandbox first"):
        asyncio.run(Sandbox().evaluate("", []))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers: got 0, expected at least 1"),
        ({"timeout_s": 0}, "timeout_s: got 0"),
        ({"timeout_s": float("nan")}, "timeout_s: got nan"),
        ({"memory_mb": 1}, "memory_mb: got 1, expected at least 64"),
        ({"wall_factor": 0.5}, "wall_factor: got 0.5, expected at least 1"),
        ({"mode": "none"}, "mode: got 'none', expected auto, jail or monty"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sandbox(**settings)  # type: ignore[arg-type]


def test_workers_run_together_and_others_wait() -> None:
    async def scenario() -> tuple[float, float]:
        async with Sandbox(mode="jail", workers=2) as sandbox:
            job = sandbox.evaluate("import time\ntime.sleep(0.3)", ["1"])
            started = time.monotonic()
            jobs = [job, *(sandbox.evaluate("import time\ntime.sleep(0.3)", []) for _ in range(3))]
            results = await asyncio.gather(*jobs)
            assert all(result.status == "ok" for result in results)
            return time.monotonic() - started, max(result.seconds for result in results)

    total, longest = asyncio.run(scenario())
    assert 0.6 <= total < 1.15  # two rounds of two; one by one would take 1.2
    assert longest < 0.6  # waiting for a turn is not counted


def test_a_cancelled_job_is_killed_and_frees_its_worker() -> None:
    async def scenario() -> None:
        async with Sandbox(mode="jail", workers=1) as sandbox:
            task, jobs = await _started_job(sandbox, "while True: pass")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(_all_end, jobs)
            assert (await sandbox.evaluate("x = 2", ["x"])).values[0].value == 2

    asyncio.run(scenario())


def test_closing_ends_running_jobs_as_crashes() -> None:
    async def scenario() -> None:
        sandbox = Sandbox(mode="jail")
        await sandbox.start()
        task, jobs = await _started_job(sandbox, "while True: pass")
        zygote = _zygote(sandbox)
        await sandbox.aclose()
        result = await task
        assert (result.status, "was closed" in result.error) == ("crash", True)
        assert await asyncio.to_thread(_all_end, [zygote, *jobs])

    asyncio.run(scenario())


def test_a_killed_zygote_is_replaced_and_the_job_runs_again() -> None:
    async def scenario() -> None:
        async with Sandbox(mode="jail") as sandbox:
            task, jobs = await _started_job(sandbox, "import time\ntime.sleep(0.2)\nx = 5")
            first = _zygote(sandbox)
            os.kill(first, signal.SIGKILL)
            result = await task
            assert (result.status, result.values[0].value) == ("ok", 5)
            assert _zygote(sandbox) != first
            assert await asyncio.to_thread(_all_end, [first, *jobs])

    asyncio.run(scenario())


def test_a_job_under_which_two_zygotes_die_is_a_crash() -> None:
    async def scenario() -> None:
        async with Sandbox(mode="jail") as sandbox:
            idle = len(_descendants(_zygote(sandbox)))
            task = asyncio.create_task(sandbox.evaluate("while True: pass", ["1"]))
            killed: set[int] = set()
            while not task.done():
                zygote = _zygote(sandbox)
                if zygote not in killed and len(_descendants(zygote)) > idle:
                    os.kill(zygote, signal.SIGKILL)
                    killed.add(zygote)
                await asyncio.sleep(0.005)
            result = await task
            assert len(killed) == 2
            assert (result.status, result.values[0].ok) == ("crash", False)
            assert "lost its server process twice" in result.error
            assert (await sandbox.evaluate("x = 1", ["x"])).values[0].value == 1

    asyncio.run(scenario())


_HOST = """
import asyncio, signal, sys
from aflow_grpo.sandbox.pool import Sandbox

async def main():
    async with Sandbox(mode="jail") as sandbox:
        print("mode", sandbox.mode, flush=True)
        await sandbox.evaluate("while True: pass", [], timeout_s=60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
asyncio.run(main())
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_the_host_process(end: signal.Signals) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
    )
    try:
        assert host.stdout is not None
        with host.stdout as lines:
            assert lines.readline().startswith(b"mode jail")
            while len(below := _descendants(host.pid)) < 2:  # the zygote and its job
                assert host.poll() is None
            host.send_signal(end)
            assert host.wait(timeout=10) != 0
        assert _all_end(below)
    finally:
        host.kill()
        host.wait()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_is_used_where_it_is_installed() -> None:
    async def scenario() -> None:
        async with Sandbox() as sandbox:
            if sandbox.mode == "jail":
                pytest.skip("bubblewrap is installed but not usable here")
            assert sandbox.mode == "jail+bwrap"
            result = await sandbox.evaluate("import os", ["os.getpid() < 100", "os.listdir('/')"])
            assert result.values[0].value is True
            assert not result.values[1].ok
            everything = [_zygote(sandbox), *_descendants(_zygote(sandbox))]
        assert await asyncio.to_thread(_all_end, everything)

    asyncio.run(scenario())


def test_an_unusable_bubblewrap_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def scenario() -> str:
        async with Sandbox() as sandbox:
            return sandbox.mode

    assert asyncio.run(scenario()) == "jail"


def test_no_back_end_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match=r"needs Linux, this is darwin.*Use Linux 5\.13"):
        asyncio.run(Sandbox(mode="jail").start())


def test_auto_falls_back_to_monty(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Sandbox() as sandbox:
            assert sandbox.mode == "monty"
            assert (await sandbox.evaluate("x = 1", ["x + 1"])).values[0].value == 2

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        asyncio.run(scenario())


def test_report_is_for_people() -> None:
    report = sandbox_report()
    assert report["platform"].startswith(sys.platform)
    assert all(isinstance(text, str) and text for text in report.values())
    if sys.platform == "linux":
        assert {"landlock", "seccomp", "bubblewrap", "monty"} <= set(report)


def test_importing_the_sandbox_is_light() -> None:
    code = "import sys, aflow_grpo.sandbox.judge; sys.exit('pydantic_monty' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=_ROOT).returncode == 0
    assert sorted(pool.__all__) == ["Sandbox", "sandbox_report"]
