"""The client against real HTTP on loopback: retries, tiers, breaker, journal, secrets."""

from __future__ import annotations

import asyncio
import logging
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import (
    HANG,
    Response,
    Scripted,
    against,
    completion,
    dead_url,
    error,
    scripted,
)

from aflow_grpo.errors import ConfigError, ExecutorError, Unavailable, WorkflowFault
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.session import Request
from aflow_grpo.llm.tiers import Tier, WriterTier
from aflow_grpo.records import FaultKind, Usage

SECRET = "sk-very-secret-0123456789"
GOOD = completion("hello")


async def _one_call(client: ExecutorClient, endpoint: Scripted) -> tuple[str, Usage, int]:
    session = client.session(7)
    text = await session("a prompt", system="a role")
    return text, session.usage, len(endpoint.requests)


def test_a_call_sends_what_the_tier_says_and_counts_what_it_cost() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        session = client.session(7)
        assert await session("a prompt", system="a role") == "hello"
        assert await session("bare", temperature=0.7, max_tokens=5) == "hello"
        first, second = endpoint.requests
        assert first["messages"] == [
            {"role": "system", "content": "a role"},
            {"role": "user", "content": "a prompt"},
        ]
        assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.0, 1.0, 2048)
        assert second["messages"] == [{"role": "user", "content": "bare"}]
        assert (second["temperature"], second["max_tokens"]) == (0.7, 5)
        assert first["seed"] != second["seed"] and 0 <= first["seed"] < 2**31
        cost = 2 * (100 * 0.15e-6 + 10 * 0.6e-6)
        assert session.usage.cost_usd == pytest.approx(cost, rel=1e-12)
        assert session.usage == client.usage
        assert (session.usage.calls, session.usage.attempts) == (2, 2)
        assert endpoint.headers[0]["Authorization"] == "Bearer test-key"

    against([GOOD], scenario)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_retried(status: int) -> None:
    text, usage, requests = against([error(status), error(status), GOOD], _one_call)
    assert (text, requests) == ("hello", 3)
    assert (usage.calls, usage.attempts) == (1, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_pass_is_never_retried(status: int) -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> int:
        with pytest.raises(Unavailable, match=rf"HTTP {status}") as caught:
            await client.session(1)("x")
        assert caught.value.kind is FaultKind.ENDPOINT
        return len(endpoint.requests)

    assert against([error(status)], scenario) == 1


def test_a_spent_quota_is_not_retried_although_it_is_a_429() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> int:
        with pytest.raises(Unavailable, match="insufficient_quota"):
            await client.session(1)("x")
        return len(endpoint.requests)

    assert against([error(429, "insufficient_quota")], scenario) == 1


@pytest.mark.parametrize(
    "headers", [{"retry_after": "0.3"}, {"retry_after_ms": "300"}, {"retry_after": "x"}]
)
def test_retry_after_is_honoured_and_nonsense_is_ignored(headers: dict[str, str]) -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await client.session(1)("x")
        return loop.time() - begin

    def script(index: int) -> Response:
        return error(429, **headers) if index == 1 else GOOD

    async def warmed(client: ExecutorClient, endpoint: Scripted) -> float:
        await client.session(0)("warm up: imports and the first connection")
        return await scenario(client, endpoint)

    seconds = against(script, warmed)
    assert (seconds >= 0.3) == ("x" not in headers.values())


def test_a_retry_after_beyond_patience_goes_to_the_next_tier_at_once() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> int:
        with pytest.raises(Unavailable):
            await client.session(1)("x")
        return len(endpoint.requests)

    in_an_hour = formatdate(2_000_000_000, usegmt=True)
    assert against([error(429, retry_after="3600")], scenario) == 1
    assert against([error(503, retry_after=in_an_hour)], scenario) == 1


@pytest.mark.parametrize(
    "body",
    ["<html>busy</html>", "", "[]", {"choices": []}, {"choices": [{"message": {"content": 3}}]}],
)
def test_a_malformed_body_is_retried(body: Any) -> None:
    text, usage, requests = against([(200, {}, body), GOOD], _one_call)
    assert (text, requests, usage.attempts) == ("hello", 2, 2)
    assert usage.billed_usd > usage.cost_usd


def test_a_hanging_endpoint_is_given_up_after_timeout_s() -> None:
    text, usage, _ = against([(HANG, {}, ""), GOOD], _one_call, timeout_s=0.2)
    assert (text, usage.attempts) == ("hello", 2)


def test_a_reply_without_usage_is_not_free() -> None:
    _, _, body = completion("x" * 400)
    del body["usage"]
    _, usage, _ = against([(200, {}, body)], _one_call)
    assert usage.completion_tokens == 100
    assert usage.cost_usd > 0


def test_a_null_content_is_an_empty_reply_and_surrogates_are_mended() -> None:
    assert against([completion(None)], _one_call)[0] == ""  # type: ignore[arg-type]
    assert against([completion("a\ud800b")], _one_call)[0] == "a?b"


def test_a_prompt_with_a_lone_surrogate_is_sent() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        assert await client.session(1)("a\ud800b") == "hello"
        assert endpoint.requests[0]["messages"][0]["content"] == "a?b"

    against([GOOD], scenario)


def test_a_prompt_that_fits_nowhere_is_the_workflows_fault() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        with pytest.raises(WorkflowFault, match="does not fit") as caught:
            await client.session(1)("x")
        assert caught.value.kind is FaultKind.EXCEPTION

    against([error(400, "context_length_exceeded")], scenario)


def test_when_the_first_tier_is_down_the_second_answers() -> None:
    async def run() -> None:
        async with scripted([GOOD]) as endpoint:
            down = Tier(
                name="down", base_url=dead_url(), api_key="k", api_key_env="", backoff_s=0.001
            )
            client = ExecutorClient([down, endpoint.tier(name="backup")])
            session = client.session(1)
            assert await session("x") == "hello"
            assert session.tiers_used == ("backup",)
            assert session.usage.attempts == down.max_attempts + 1
            assert client.counters["down"].failed == 1
            assert client.counters["backup"].answered == 1
            await client.aclose()

    asyncio.run(run())


def test_when_no_tier_answers_it_is_unavailable_and_the_attempts_are_counted() -> None:
    async def run() -> None:
        tier = Tier(base_url=dead_url(), api_key="k", api_key_env="", backoff_s=0, max_attempts=3)
        client = ExecutorClient([tier])
        session = client.session(1)
        with pytest.raises(Unavailable, match="main: no connection") as caught:
            await session("x")
        assert caught.value.kind is FaultKind.ENDPOINT
        assert session.usage == Usage(attempts=3) == client.usage
        await client.aclose()

    asyncio.run(run())


def test_the_breaker_skips_a_dead_tier_and_tries_it_again_after_the_cooldown() -> None:
    clock_s = [0.0]

    async def run() -> None:
        state = {"down": True}

        def first(_: int) -> Response:
            return error(500) if state["down"] else completion("first")

        async with scripted(first) as one, scripted([completion("second")]) as two:
            tiers = [one.tier(name="one", max_attempts=2), two.tier(name="two")]
            client = ExecutorClient(
                tiers, breaker_threshold=4, breaker_cooldown_s=30.0, clock=lambda: clock_s[0]
            )
            ask = client.session(1)
            assert [await ask("x") for _ in range(5)] == ["second"] * 5
            assert len(one.requests) == 4  # two calls of two attempts; then it is left alone
            clock_s[0] = 30.0
            assert await ask("x") == "second"
            assert len(one.requests) == 5  # one probe
            state["down"] = False
            assert await ask("x") == "second"
            clock_s[0] = 60.0
            assert [await ask("x") for _ in range(2)] == ["first"] * 2
            await client.aclose()

    asyncio.run(run())


def test_the_last_tier_is_never_skipped() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.session(1)("x")
        assert await client.session(1)("x") == "hello"

    against([error(500)] * 12 + [GOOD], scenario)


def test_no_more_attempts_are_in_flight_than_allowed() -> None:
    async def run() -> None:
        async with scripted([(HANG, {}, "")]) as endpoint:
            client = ExecutorClient([endpoint.tier(max_concurrent=3, timeout_s=60)])
            calls = [asyncio.create_task(client.session(n)("x")) for n in range(8)]
            while len(endpoint.requests) < 3:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(endpoint.requests) == 3
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await client.aclose()

    asyncio.run(run())


def test_equal_calls_at_once_make_one_request_and_one_pays() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        sessions = [client.session(1) for _ in range(5)]
        assert await asyncio.gather(*(s("x") for s in sessions)) == ["hello"] * 5
        assert len(endpoint.requests) == 1
        assert sorted(s.usage.billed_usd > 0 for s in sessions) == [False] * 4 + [True]
        assert {s.usage.cost_usd for s in sessions} == {sessions[0].usage.cost_usd}
        assert client.usage.attempts == 1

    against([GOOD], scenario)


def test_a_cancelled_caller_does_not_take_the_reply_from_others() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        first = asyncio.create_task(client.session(1)("x"))
        second = asyncio.create_task(client.session(1)("x"))
        while not endpoint.requests:
            await asyncio.sleep(0.005)
        first.cancel()
        assert await second == "hello"
        alone = asyncio.create_task(client.session(2)("y"))
        await asyncio.sleep(0)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        assert await client.session(2)("y") == "hello"
        assert [r["messages"][0]["content"] for r in endpoint.requests].count("x") == 1

    against([GOOD], scenario)


def test_the_key_is_in_no_log_no_error_and_no_journal(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "j.db")
    told = f"Incorrect API key provided: {SECRET}. You can find yours at ..."
    script = [error(401, "invalid_api_key", told), error(400, "bad", told), error(500, "", told)]

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for number in range(2):
            with pytest.raises(Unavailable) as caught:
                await client.session(number)("x")
            assert SECRET not in repr(caught.value) + str(caught.value)
        assert await client.session(3)("x") == "hello"
        assert SECRET not in repr(client.tiers) + repr(client.session(1)) + repr(client)

    with caplog.at_level(logging.DEBUG):
        against([*script, GOOD], scenario, journal=journal, api_key=SECRET)
    journal.close()
    assert "cannot be used as it is configured" in caplog.text
    assert all(SECRET not in record.getMessage() for record in caplog.records)
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_wrong_key_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for number in range(3):
            with pytest.raises(Unavailable):
                await client.session(number)("x")

    against([error(401)], scenario)
    assert caplog.text.count("cannot be used as it is configured") == 1


def test_a_client_without_price_or_key_or_tiers_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ExecutorError, match=r"'mystery'.*llm\.tiers\[0\]\.price"):
        ExecutorClient([Tier(model="mystery", api_key="k")])
    with pytest.raises(ExecutorError, match=r"'mystery'.*model\.policy\.tier\.price"):
        ExecutorClient([WriterTier(model="mystery", api_key="k")])
    with pytest.raises(ExecutorError, match="No API key for tier 'main'"):
        ExecutorClient([Tier()])
    with pytest.raises(ConfigError, match=r"llm\.tiers is empty"):
        ExecutorClient([])


def test_proxies_of_the_environment_do_not_catch_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, dead_url())
    assert against([GOOD], _one_call)[0] == "hello"


def test_an_outage_is_told_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    script = [error(400), error(400), GOOD, error(400)]

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for seed in range(4):
            await client.ask(Request("p", "", seed=seed))

    against(script, scenario, max_attempts=1)
    told = [record for record in caplog.records if "gave no answer" in record.message]
    assert [record.levelname for record in told] == ["WARNING", "WARNING"]
