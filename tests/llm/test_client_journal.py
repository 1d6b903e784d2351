"""The client and its journal: nothing is asked twice, nothing paid is forgotten; real HTTP."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from scripted_endpoint import Response, Scripted, against, completion, error, scripted

from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.session import Request
from aflow_grpo.records import Usage

GOOD = completion("hello")


async def _one_call(client: ExecutorClient, endpoint: Scripted) -> tuple[str, Usage, int]:
    session = client.session(7)
    text = await session("a prompt", system="a role")
    return text, session.usage, len(endpoint.requests)


def test_the_journal_answers_after_a_restart_without_a_request(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    _, paid, _ = against([GOOD], _one_call, journal=journal)
    journal.close()
    journal = Journal(tmp_path / "j.db")
    text, free, requests = against([error(500)], _one_call, journal=journal)
    journal.close()
    assert (text, requests) == ("hello", 0)
    assert free == Usage(1, 0, paid.prompt_tokens, paid.completion_tokens, paid.cost_usd, 0.0)
    assert paid.billed_usd == paid.cost_usd > 0


def test_what_a_lower_tier_answered_is_not_asked_again(tmp_path: Path) -> None:
    async def run(first: list[Response]) -> tuple[str, int]:
        async with scripted(first) as one, scripted([completion("stand-in")]) as two:
            tiers = [
                one.tier(name="one", max_attempts=1),
                two.tier(name="two", model="gpt-4.1-nano"),
            ]
            client = ExecutorClient(tiers, journal=journal)
            text = await client.session(1)("x")
            await client.aclose()
            return text, len(one.requests) + len(two.requests)

    journal = Journal(tmp_path / "j.db")
    assert asyncio.run(run([error(500)])) == ("stand-in", 2)
    assert asyncio.run(run([completion("late")])) == ("stand-in", 0)
    journal.close()


def test_two_scopes_share_a_journal_and_no_reply(tmp_path: Path) -> None:
    async def run() -> list[str]:
        replies = []
        async with scripted([completion("one"), completion("two"), error(500)]) as endpoint:
            for scope in ("", "world", "", "world"):
                client = ExecutorClient([endpoint.tier()], journal=journal, scope=scope)
                replies.append(await client.session(1)("x"))
                await client.aclose()
        return replies

    journal = Journal(tmp_path / "j.db")
    assert asyncio.run(run()) == ["one", "two", "one", "two"]
    journal.close()


@pytest.mark.parametrize("said", ["stop", "length", None])
def test_why_a_reply_ended_is_told_by_the_endpoint_and_by_the_journal(
    said: str | None, tmp_path: Path
) -> None:
    _, _, body = completion("hello")
    body["choices"][0]["finish_reason"] = said
    request = Request("x", "", seed=1)

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> tuple[str, int]:
        reply = await client.ask(request)
        return reply.finish_reason, len(endpoint.requests)

    journal = Journal(tmp_path / "j.db")
    assert against([(200, {}, body)], scenario, journal=journal) == (said or "", 1)
    assert against([error(500)], scenario, journal=journal) == (said or "", 0)
    journal.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The table of the calls, in the order in which they were written."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM calls ORDER BY rowid")]


def test_every_tier_that_was_asked_has_a_row_with_what_it_was_paid(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)

    async def run() -> tuple[Usage, Usage]:
        broken: Response = (200, {}, "broken")
        async with scripted([error(503), broken]) as one, scripted([GOOD]) as two:
            tiers = [
                one.tier(name="one", max_attempts=3, max_tokens=1000),
                two.tier(name="two", model="gpt-4.1-nano"),
            ]
            client = ExecutorClient(tiers, journal=journal, run="r")
            session = client.session(7)
            assert await session.branch(3, "review")("x") == "hello"
            assert session.calls[0].model == "gpt-4.1-nano"
            await client.aclose()
            return session.usage, client.usage

    usage, total = asyncio.run(run())
    journal.close()
    one, two = rows(path)
    assert [(row["tier"], row["answered"], row["attempts"]) for row in (one, two)] == [
        ("one", 0, 3),
        ("two", 1, 1),
    ]
    assert {
        (row["run"], row["execution"], row["place"], row["operator"]) for row in (one, two)
    } == {("r", 7, "3.0", "review")}
    assert "no chat completion" in one["fault"] and not two["fault"]
    # 1 byte of prompt and 16 for the message round it, each a token at most: twice, in full.
    assert one["billed_usd"] == pytest.approx(2 * (17 * 0.15e-6 + 1000 * 0.6e-6), rel=1e-12)
    assert (one["cost_usd"], one["reply"]) == (0.0, "")
    assert two["billed_usd"] == two["cost_usd"] == pytest.approx(100 * 0.1e-6 + 10 * 0.4e-6)
    assert usage.cost_usd == two["cost_usd"], "the list cost is that of the answer alone"
    assert usage.billed_usd == pytest.approx(one["billed_usd"] + two["billed_usd"])
    assert (usage.attempts, total) == (4, usage)
    assert 0 < one["started_s"] <= two["started_s"] and min(one["seconds"], two["seconds"]) > 0


def test_a_tier_that_was_skipped_has_no_row(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> None:
        async with scripted([error(500)]) as one, scripted([GOOD]) as two:
            tiers = [one.tier(name="one", max_attempts=1), two.tier(name="two")]
            client = ExecutorClient(tiers, journal=journal, breaker_threshold=1)
            for seed in range(4):
                await client.session(seed)("x")
            await client.aclose()

    asyncio.run(run())
    journal.close()
    assert [row["tier"] for row in rows(tmp_path / "j.db")] == ["one", *["two"] * 4]


def test_cached_input_is_cheaper_on_the_bill_and_not_in_the_list_cost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    _, _, body = completion("hello", prompt_tokens=2000, completion_tokens=10)
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 1500}
    _, usage, _ = against([(200, {}, body)], _one_call, journal=journal)
    journal.close()
    assert usage.cost_usd == pytest.approx(2000 * 0.15e-6 + 10 * 0.6e-6, rel=1e-12)
    assert usage.billed_usd == pytest.approx(
        500 * 0.15e-6 + 1500 * 0.075e-6 + 10 * 0.6e-6, rel=1e-12
    )
    (row,) = rows(tmp_path / "j.db")
    assert (row["cached_tokens"], row["billed_usd"]) == (1500, usage.billed_usd)


@pytest.mark.parametrize(
    ("cache", "requests"),
    [("off", [True, True, True]), ("run", [True, False, True]), ("shared", [True, False, False])],
)
def test_the_cache_answers_from_nothing_from_the_run_or_from_all_runs(
    cache: Literal["off", "run", "shared"], requests: list[bool], tmp_path: Path
) -> None:
    """The same call, by run a, by run a resumed, by run b."""
    journal = Journal(tmp_path / "j.db")

    async def run() -> list[bool]:
        asked = []
        async with scripted([GOOD]) as endpoint:
            for name in ("a", "a", "b"):
                before = len(endpoint.requests)
                client = ExecutorClient([endpoint.tier()], journal=journal, cache=cache)
                client.join_run(name)
                session = client.session(1)
                assert await session("x") == "hello"
                asked.append(len(endpoint.requests) > before)
                assert session.usage.cost_usd > 0
                assert (session.usage.billed_usd > 0) is asked[-1]
                assert session.calls[0].model == "gpt-4o-mini", "known from the journal, too"
                await client.aclose()
        return asked

    assert asyncio.run(run()) == requests
    assert len(journal) == sum(requests), "every call is kept, whatever may answer"
    journal.close()


def test_an_answer_is_on_disk_before_anybody_has_it(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for seed in range(20):
            assert await client.session(seed)("x") == "hello"
            assert len(rows(path)) == seed + 1, "as another process sees the file"

    against([GOOD], scenario, journal=journal)
    journal.close()


def test_what_was_answered_to_somebody_who_left_is_journaled_and_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        call = asyncio.create_task(client.session(1)("x"))
        while not client.counters["one"].answered:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.usage.billed_usd == pytest.approx(100 * 0.15e-6 + 10 * 0.6e-6)
        assert client.usage.attempts == 1
        assert (client.usage.calls, client.usage.cost_usd) == (0, 0.0), "nobody's workflow used it"

    against([GOOD], scenario, journal=journal)
    assert len(journal) == 1
    journal.close()
