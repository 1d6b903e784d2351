"""The question before a run: do the endpoints answer? Real HTTP on loopback, and dead ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import HANG, Response, completion, dead_url, error, scripted

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.tiers import Tier, WriterTier
from aflow_grpo.records import Usage

SECRET = "sk-very-secret-0123456789"
GOOD = completion("Hello", prompt_tokens=8, completion_tokens=1)


def dead(name: str = "dead", **changes: Any) -> Tier:
    fields: dict[str, Any] = {"base_url": dead_url(), "api_key": "k", "api_key_env": ""}
    return Tier(name=name, **{**fields, "backoff_s": 0.001, **changes})


def checked(
    script: list[Response], others: Sequence[Tier] = (), journal: Journal | None = None, **tier: Any
) -> tuple[list[dict[str, Any]], Usage]:
    """What a tier served by `script` was asked by a check, and what the client counted."""

    async def run() -> tuple[list[dict[str, Any]], Usage]:
        async with scripted(script) as endpoint:
            client = ExecutorClient([endpoint.tier(**tier), *others], journal=journal)
            try:
                await client.check()
            finally:
                await client.aclose()
            return endpoint.requests, client.usage

    return asyncio.run(run())


def refused(script: list[Response], others: Sequence[Tier] = (), **tier: Any) -> str:
    with pytest.raises(ExecutorError) as caught:
        checked(script, others, **tier)
    return str(caught.value)


def test_an_endpoint_that_answers_is_asked_once_for_one_token(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    requests, usage = checked([GOOD], journal=journal, temperature=0.5)
    assert len(journal) == 0, "a check proves nothing later, so it is not kept"
    journal.close()
    assert len(requests) == 1
    assert requests[0].pop("messages") == [{"role": "user", "content": "Hi"}]
    rest = {"model": "gpt-4o-mini", "temperature": 0.5, "top_p": 1.0, "max_tokens": 1, "seed": 0}
    assert requests[0] == rest, "in the form of every later request"
    billed = 8 * 0.15e-6 + 1 * 0.6e-6
    assert usage == Usage(attempts=1, billed_usd=pytest.approx(billed, rel=1e-12))


@pytest.mark.parametrize(
    ("response", "attempts", "parts"),
    [
        (error(401, "invalid_api_key"), 1, ["HTTP 401", "valid key into llm.tiers[0].api_key"]),
        (error(403), 1, ["HTTP 403", "llm.tiers[0].api_key"]),
        (
            error(404, "model_not_found", "The model `gpt-4o-mimi` does not exist"),
            1,
            ["HTTP 404 model_not_found", "gpt-4o-mimi", "Correct llm.tiers[0].model"],
        ),
        (error(429, "insufficient_quota", "You exceeded your quota"), 1, ["quota", "Add credit"]),
        (error(400, "", "unknown field: seed"), 1, ["unknown field: seed", "its manual"]),
        (error(500), 2, ["HTTP 500", "try again later"]),
        (error(503, retry_after="30"), 1, ["HTTP 503", "try again later"]),
        ((200, {}, "<html>login</html>"), 2, ["no chat completion", "base_url (it ends with /v1)"]),
        ((HANG, {}, ""), 2, ["no answer within 0.2 s", "llm.tiers[0].base_url"]),
    ],
    ids=["key", "forbidden", "model", "quota", "request", "server", "wait", "page", "slow"],
)
def test_an_endpoint_that_fails_is_named_with_the_reason_and_a_remedy(
    response: Response, attempts: int, parts: list[str]
) -> None:
    seen: list[dict[str, Any]] = []

    async def run() -> str:
        async with scripted([response]) as endpoint:
            client = ExecutorClient([endpoint.tier(timeout_s=0.2)])
            with pytest.raises(ExecutorError) as caught:
                await client.check()
            await client.aclose()
            seen.extend(endpoint.requests)
            assert endpoint.base_url in str(caught.value)
            return str(caught.value)

    message = asyncio.run(run())
    assert len(seen) == attempts
    for part in ("llm.tiers", "'one'", "gpt-4o-mini", "llm.check_endpoints: false", *parts):
        assert part in message
    assert message.count("\n") == 2, "a few lines"


def test_a_server_that_is_not_running_is_told_from_one_that_is_slow() -> None:
    async def run() -> str:
        client = ExecutorClient([dead()])
        with pytest.raises(ExecutorError) as caught:
            await client.check()
        await client.aclose()
        return str(caught.value)

    message = asyncio.run(run())
    assert "no connection (ConnectionRefusedError)" in message and "Start the server" in message


def test_transient_trouble_gets_a_second_attempt() -> None:
    requests, _ = checked([error(502), GOOD])
    assert len(requests) == 2


def test_some_failing_tiers_are_warned_of_and_all_failing_ones_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checked([GOOD], [dead("backup")])
    assert "'backup'" in caplog.text and "llm.tiers[1].base_url" in caplog.text
    assert "'one'" not in caplog.text
    message = refused([error(401)], [dead("backup")])
    assert "'one'" in message and "HTTP 401" in message
    assert "'backup'" in message and "no connection" in message


def test_a_busy_endpoint_is_no_reason_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    requests, _ = checked([error(429, "rate_limit_exceeded", retry_after="30")])
    assert len(requests) == 1, "nobody waits half a minute to begin"
    assert "HTTP 429" in caplog.text and "max_concurrent" in caplog.text


def test_a_writers_endpoint_is_named_by_its_own_key() -> None:
    async def run() -> str:
        tier = WriterTier(base_url=dead_url(), api_key="k", api_key_env="", backoff_s=0)
        client = ExecutorClient([tier])
        with pytest.raises(ExecutorError) as caught:
            await client.check()
        await client.aclose()
        return str(caught.value)

    message = asyncio.run(run())
    assert message.startswith("model.policy.tier: ") and "model.policy.tier.base_url" in message
    assert "llm.tiers" not in message


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_no_part_of_a_key_is_shown(status: int, caplog: pytest.LogCaptureFixture) -> None:
    told = f"Incorrect key sk-very-********6789 (you sent {SECRET}), see https://x.org/?key=6789"
    with caplog.at_level(logging.DEBUG, logger="aflow_grpo"):
        message = refused([error(status, "bad", told)], api_key=SECRET)
    text = message + caplog.text
    assert all(part not in text for part in (SECRET, "sk-very", "6789", "secret"))
