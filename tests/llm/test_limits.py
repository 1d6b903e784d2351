"""Requests and tokens per minute, on a loop whose clock jumps: minutes pass in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.llm.limits import RateLimits

T = TypeVar("T")
ROUNDING_S = 1e-3


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next timer whenever nothing is ready to run.

    It moves a little in any case, as clocks do: a timer that is due now may be set again for now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        self._now_s += 1e-9
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now_s = max(self._now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)


def departures(
    limits: RateLimits, calls: list[tuple[int, int]], *, settle: bool = True, denser: int = 1
) -> list[tuple[float, int]]:
    """(second, tokens) of each call, all asked for at once; each is (prompt, reply) tokens.

    The prompts have `denser` times the tokens that were expected.
    """
    left: list[tuple[float, int]] = []

    async def one(prompt: int, reply: int) -> None:
        counted = await limits.admit(prompt, 2048)
        left.append((round(asyncio.get_running_loop().time(), 5), denser * prompt + reply))
        if settle:
            limits.settle(counted, denser * prompt, reply)

    async def everything() -> None:
        await asyncio.gather(*(one(*call) for call in calls))

    run(everything())
    return left


def worst_minute(left: list[tuple[float, int]], weigh: bool) -> int:
    """Most calls (or their tokens) in any 60 s."""
    return max(
        sum(tokens if weigh else 1 for at, tokens in left if 0 <= at - start < 60 - ROUNDING_S)
        for start, _ in left
    )


def test_without_limits_nobody_waits() -> None:
    left = departures(RateLimits(None, None), [(10**9, 10**9)] * 50)
    assert {at for at, _ in left} == {0.0}


def test_sixty_a_minute_is_a_short_burst_and_then_nine_in_ten_seconds() -> None:
    left = departures(RateLimits(60, None), [(1, 1)] * 61)
    seconds = [at for at, _ in left]
    assert seconds[:6] == [0.0] * 6, "a tenth at once"
    assert seconds[6] == pytest.approx(60 / 55)
    assert seconds[-1] == pytest.approx(60.0), "the sixty-first belongs to the next minute"


@settings(max_examples=25, deadline=None)
@given(per_min=st.integers(1, 400), count=st.integers(1, 150))
def test_no_minute_sees_more_requests_than_allowed(per_min: int, count: int) -> None:
    left = departures(RateLimits(per_min, None), [(1, 1)] * count)
    assert len(left) == count
    assert worst_minute(left, weigh=False) <= per_min


@settings(max_examples=25, deadline=None)
@given(
    per_min=st.integers(2_000, 50_000),
    calls=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=5, max_size=60),
)
def test_tokens_that_were_underestimated_are_paid_back(
    per_min: int, calls: list[tuple[int, int]]
) -> None:
    left = departures(RateLimits(None, per_min), calls)
    # The estimate of one call may be wrong before the next one pays for it.
    assert worst_minute(left, weigh=True) <= per_min + 1 + 2 * 1800
    hours = left[-1][0] / 3600
    total = sum(tokens for _, tokens in left[:-1])
    assert total <= per_min / 10 + hours * 60 * per_min + 1 + 2 * 1800


def test_replies_shorter_than_the_guess_leave_room_for_more() -> None:
    calls = [(100, 20)] * 400
    exact = departures(RateLimits(None, 12_000), calls)
    blind = departures(RateLimits(None, 12_000), calls, settle=False)
    minutes = 400 * 120 / 12_000
    assert exact[-1][0] / 60 == pytest.approx(minutes / 0.9, rel=0.05)
    assert blind[-1][0] > 2.5 * exact[-1][0], "256 tokens were assumed of each reply"


def test_prompts_with_more_tokens_than_expected_are_paid_back() -> None:
    """Chinese, say: a token a character, where four characters were expected."""
    left = departures(RateLimits(None, 12_000), [(100, 20)] * 200, denser=4)
    assert left[-1][0] / 60 == pytest.approx(200 * 420 / 12_000 / 0.9, rel=0.05)


def test_a_call_larger_than_the_limit_waits_and_passes() -> None:
    left = departures(RateLimits(None, 1000), [(5000, 100), (10, 10)])
    assert left[0][0] == pytest.approx((5000 + 256 - 100) / 901 * 60)
    assert left[1][0] > left[0][0], "nobody overtakes"


def test_a_caller_that_leaves_gives_its_turn_back() -> None:
    async def scenario() -> float:
        limits = RateLimits(60, 6000)
        await limits.admit(500, 100)
        leaver = asyncio.create_task(limits.admit(5000, 100))
        await asyncio.sleep(20)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        await limits.admit(1000, 100)  # what the other one had gathered by then is its
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(20.0)
