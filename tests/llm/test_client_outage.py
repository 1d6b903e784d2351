"""Queues, outages and callers that leave, against real servers on loopback."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from scripted_endpoint import HANG, completion, scripted
from switchable_endpoint import GOOD, switchable, until

from aflow_grpo.errors import Unavailable
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal


def test_calls_return_to_the_first_tier_when_its_server_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing but the calls themselves finds out that it is back."""
    clock_s = [0.0]

    async def run() -> None:
        async with switchable() as first, scripted([completion("stand-in")]) as backup:
            first.open.set()
            tiers = [first.tier(name="first", max_attempts=2), backup.tier(name="backup")]
            client = ExecutorClient(
                tiers, breaker_threshold=4, breaker_cooldown_s=30, clock=lambda: clock_s[0]
            )
            session = client.session(1)
            assert [await session("x") for _ in range(3)] == ["hello"] * 3
            await first.down()
            assert [await session("x") for _ in range(5)] == ["stand-in"] * 5
            attempts = client.counters["first"].attempts
            assert attempts == 3 + 4, "two calls of two attempts, then it is left alone"
            await first.up()
            assert await session("x") == "stand-in", "the cooldown is not over"
            clock_s[0] = 30.0
            assert [await session("x") for _ in range(4)] == ["hello"] * 4
            assert client.counters["first"].attempts == attempts + 4
            shares = {name: counters.share for name, counters in client.counters.items()}
            assert shares == {"first": 7 / 13, "backup": 6 / 13}
            await client.aclose()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert caplog.text.count("Tier 'first' is down") == 1
    assert "calls go to 'backup'" in caplog.text
    assert caplog.text.count("Tier 'first' answers again; calls return to it") == 1


def test_two_thousand_queued_calls_hold_no_more_connections_than_allowed() -> None:
    async def run() -> None:
        async with switchable() as server:
            client = ExecutorClient([server.tier(max_concurrent=16, timeout_s=60)])
            calls = [asyncio.create_task(client.session(n)("x")) for n in range(2000)]
            await until(lambda: server.arrived == 16)
            await asyncio.sleep(0.1)
            assert (server.arrived, len(server.server.connections)) == (16, 16)
            for call in calls[40:]:
                call.cancel()
            server.open.set()
            assert await asyncio.gather(*calls[:40]) == ["hello"] * 40
            assert (server.arrived, len(server.server.connections)) == (40, 16)
            await client.aclose()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(run())


def test_a_call_in_the_queue_does_not_run_its_timeout_and_blames_nobody() -> None:
    async def run() -> None:
        async with scripted([(HANG, {}, ""), GOOD]) as endpoint:
            tier = endpoint.tier(max_concurrent=1, timeout_s=0.5, max_attempts=1)
            client = ExecutorClient([tier], breaker_threshold=2)
            first, second = (asyncio.create_task(client.session(n)("x")) for n in range(2))
            with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
                await first
            assert await second == "hello"
            counters = client.counters["one"]
            assert (counters.answered, counters.failed, counters.attempts) == (1, 1, 2)
            await client.aclose()

    asyncio.run(run())


def test_an_answer_on_its_way_to_somebody_who_leaves_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> None:
        async with switchable() as server:
            client = ExecutorClient([server.tier(max_concurrent=1)], journal=journal, run="r")
            sent, queued = (asyncio.create_task(client.session(n)("x")) for n in range(2))
            await until(lambda: server.arrived)
            for call in (sent, queued):
                call.cancel()
            await asyncio.gather(sent, queued, return_exceptions=True)
            server.open.set()
            await client.drain()
            assert server.arrived == 1, "the one in the queue was never sent"
            assert (len(journal), client.counters["one"].answered) == (1, 1)
            assert client.usage.billed_usd == journal.billed_usd("r") > 0
            assert await client.session(0)("x") == "hello"
            assert server.arrived == 1, "and it is not paid for again"
            await client.aclose()

    asyncio.run(run())
    journal.close()


def test_somebody_who_left_gets_no_second_attempt_and_no_second_tier(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> None:
        async with scripted([(HANG, {}, "")]) as one, scripted([GOOD]) as two:
            tiers = [one.tier(name="one", timeout_s=0.3), two.tier(name="two")]
            client = ExecutorClient(tiers, journal=journal, run="r")
            call = asyncio.create_task(client.session(1)("x"))
            await until(lambda: one.requests)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await client.drain()
            assert (len(one.requests), len(two.requests)) == (1, 0)
            assert journal.billed_usd("r") > 0, "it may have been charged"
            await client.aclose()

    asyncio.run(run())
    journal.close()


def test_a_call_that_is_cut_off_is_on_the_bill(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> float:
        async with switchable() as server:
            client = ExecutorClient([server.tier(max_tokens=1000)], journal=journal, run="r")
            call = asyncio.create_task(client.session(1)("x"))
            await until(lambda: server.arrived)
            await client.aclose()
            await asyncio.gather(call, return_exceptions=True)
            return client.usage.billed_usd

    billed_usd = asyncio.run(run())
    assert 1000 * 0.6e-6 < billed_usd < 1000 * 0.6e-6 + 100 * 0.15e-6
    assert journal.billed_usd("r") == billed_usd
    journal.close()
