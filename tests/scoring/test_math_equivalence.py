"""The process that compares formulas: its time limits hold, and nothing gets out of it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import psutil
import pytest

from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_aflow import score_math_aflow
from aflow_grpo.scoring.math_scorer import score_math

TIMEOUT_S = 1.0
LEEWAY_S = 20.0
"""A killed worker is started again for the next question; a busy machine takes its time."""

HOSTILE = [
    "9**9**9**9",
    "9^{9^{9^{9}}}",
    r"\sum_{k=1}^{100000000} k^{k}",
    "1000000!",
    "{" * 100_000,
    "{" * 400,
    "(" * 400 + "x",
    r"\frac{" * 5000 + "1",
    r"\frac{1}{" * 40 + "x" + "}" * 40,
    "\\sqrt" * 90 + "x",
    "x" * 499,
    "\x00\ud7ff\n\r{}",
    '"}\n{"rule": "sympy"}',
]


def _child(equivalence: Equivalence) -> psutil.Process:
    process = equivalence._process
    assert process is not None
    return psutil.Process(process.pid)


@pytest.mark.parametrize("rule", ["verify", "sympy"])
def test_hostile_formulas_end_in_time_and_the_worker_serves_on(rule: str) -> None:
    async def scenario() -> None:
        async with Equivalence(TIMEOUT_S) as equivalence:
            for text in HOSTILE:
                started = time.monotonic()
                for answer, gold in ((text, "x+2"), ("x+2", text)):
                    verdict = await equivalence.compare(answer, gold, rule)  # type: ignore[arg-type]
                    assert verdict != "equal"
                assert time.monotonic() - started < LEEWAY_S, text[:40]
            assert await equivalence.equal("x+1", "1+x")

    asyncio.run(scenario())


def test_no_formula_runs_as_a_program(tmp_path: Path) -> None:
    target = tmp_path / "made"
    programs = [
        f"__import__('os').system('touch {target}')",
        f"open('{target}', 'w')",
        f"[c for c in ().__class__.__base__.__subclasses__()] or open('{target}','w')",
        f"(lambda: exec(\"open('{target}','w')\"))()",
        f"x.func.__globals__['__builtins__']['open']('{target}', 'w')",
    ]

    async def scenario() -> None:
        async with Equivalence(TIMEOUT_S) as equivalence:
            for program in programs:
                for text in (program, rf"\boxed{{{program}}}", f"The answer is {program}"):
                    assert not (await score_math(text, "x+2", equivalence)).correct
                    assert not (await score_math_aflow(text, "x+2", equivalence)).correct
                for rule in ("verify", "sympy"):
                    assert await equivalence.compare(program, "x+2", rule) != "equal"  # type: ignore[arg-type]

    asyncio.run(scenario())
    assert not target.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="landlock and seccomp are Linux's")
def test_the_worker_is_locked_and_its_environment_empty() -> None:
    async def scenario() -> None:
        async with Equivalence(TIMEOUT_S) as equivalence:
            assert await equivalence.equal("x+1", "1+x")
            child = _child(equivalence)
            status = Path(f"/proc/{child.pid}/status").read_text()
            assert "NoNewPrivs:\t1" in status
            assert "Seccomp:\t2" in status

    asyncio.run(scenario())


def test_timeout_is_no_equality_and_says_so() -> None:
    async def scenario() -> None:
        async with Equivalence(TIMEOUT_S) as equivalence:
            score = await score_math(r"\boxed{9^{9^{9^{9}}}}", "5", equivalence)
            assert (score.correct, score.value) == (False, 0.0)
            assert "timeout while comparing" in score.detail

    asyncio.run(scenario())


def test_concurrent_callers_get_their_own_answers() -> None:
    async def scenario() -> None:
        async with Equivalence(10.0) as equivalence:
            asked = [equivalence.equal(f"x+{n}", f"{n % 7}+x") for n in range(40)]
            assert await asyncio.gather(*asked) == [n < 7 for n in range(40)]

    asyncio.run(scenario())


def test_a_cancelled_caller_leaves_the_next_one_in_step() -> None:
    async def scenario() -> None:
        async with Equivalence(10.0) as equivalence:
            assert await equivalence.equal("x+1", "1+x")
            slow = asyncio.create_task(equivalence.equal(r"9^{9^{9^{9}}}", "x"))
            await asyncio.sleep(0)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert not await equivalence.equal("x+1", "x+2")
            assert await equivalence.equal("x+3", "3+x")

    asyncio.run(scenario())


def test_a_worker_that_dies_is_replaced() -> None:
    async def scenario() -> None:
        async with Equivalence(10.0) as equivalence:
            assert await equivalence.equal("x+1", "1+x")
            child = _child(equivalence)
            child.kill()
            assert await equivalence.compare("x+2", "2+x") in ("failed", "equal")
            assert await equivalence.equal("x+3", "3+x")

    asyncio.run(scenario())


def test_nothing_starts_before_the_first_question_nor_stays_after_closing() -> None:
    async def scenario() -> None:
        equivalence = Equivalence(10.0)
        assert equivalence._process is None
        assert (await score_math("5", "5", equivalence)).correct
        assert equivalence._process is None
        assert await equivalence.equal("x+1", "1+x")
        child = _child(equivalence)
        await equivalence.aclose()
        assert not child.is_running()

    asyncio.run(scenario())


def test_too_long_formulas_are_never_sent() -> None:
    async def scenario() -> None:
        equivalence = Equivalence()
        assert await equivalence.compare("x" * 501, "x") == "different"
        assert equivalence._process is None

    asyncio.run(scenario())
