"""The client and its journal: nothing is asked twice, nothing paid is forgotten; real HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
