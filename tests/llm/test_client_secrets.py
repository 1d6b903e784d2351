"""A key appears nowhere: endpoints that repeat it in every field, errors that carry the request."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import HANG, Response, Scripted, completion, dead_url, error, scripted

from aflow_grpo.errors import ExecutorError, Unavailable
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.session import Reply, Request
from aflow_grpo.llm.tiers import Tier

SECRET = "sk-very/secret+0123456789=="
TOLD = f"Incorrect key {SECRET}. Authorization: Bearer {SECRET}"


def _finish_reason_with_the_key() -> Response:
    status, headers, body = completion(f"Your key is {SECRET}, is it not?")
    body["choices"][0]["finish_reason"] = SECRET
    return status, headers, body


ENDPOINTS: dict[str, Response] = {
    "message": error(400, "bad", TOLD),
    "code": error(400, SECRET, "no"),
    "unauthorised": error(401, SECRET, TOLD),
    "server": error(500, SECRET, TOLD),
    "plain text": (502, {}, TOLD),
    "error is text": (400, {}, {"error": TOLD}),
    "no envelope": (422, {}, {"message": TOLD, "code": SECRET}),
    "header": error(429, "slow", TOLD, retry_after=SECRET),
    "not json": (200, {}, TOLD),
    "wrong types": (200, {}, {"choices": [{"message": {"content": [SECRET]}}]}),
    "key as a key": (200, {}, {SECRET: {SECRET: SECRET}}),
    "redirect": (307, {"Location": f"http://127.0.0.1:9/{SECRET}"}, TOLD),
    "hang": (HANG, {}, ""),
    "reply": _finish_reason_with_the_key(),
}


def whole(exception: BaseException | None) -> str:
    """Everything that can be printed of an exception and of what it hangs together with."""
    if exception is None:
        return ""
    shown = "".join(traceback.format_exception(exception))
    details = f"{exception!r} {exception.args!r} {vars(exception)!r} {pickle.dumps(exception)!r}"
    return shown + details + whole(exception.__cause__) + whole(exception.__context__)


def _ask(tiers: list[Tier], journal: Journal) -> tuple[Reply, str]:
    """The reply of `ask`, and what the exception of a session shows, if there is one."""

    async def run() -> tuple[Reply, str]:
        client = ExecutorClient(tiers, journal=journal)
        reply = await client.ask(Request("x", "", seed=1))
        shown = whole(reply.fault)
        session = client.session(2)
        try:
            shown += await session("x")
        except Unavailable as unavailable:
            shown += whole(unavailable)
        shown += repr([client, client.tiers, client.counters, session, session.calls])
        await client.aclose()
        return reply, shown

    return asyncio.run(run())


@pytest.mark.parametrize("response", list(ENDPOINTS.values()), ids=list(ENDPOINTS))
def test_an_endpoint_that_repeats_the_key_gets_it_nowhere(
    response: Response, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> list[Tier]:
        async with scripted([response]) as endpoint:
            tier = endpoint.tier(api_key=SECRET, timeout_s=0.3, max_attempts=2)
            reply, shown = await asyncio.to_thread(_ask, [tier], journal)
            seen.extend([repr(reply), shown])
            return [tier]

    seen: list[str] = []
    with caplog.at_level(logging.DEBUG):
        tiers = asyncio.run(run())
    journal.close()
    seen += [record.getMessage() for record in caplog.records]
    seen += [repr(tiers), caplog.text]
    assert all(SECRET not in text for text in seen)
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_neither_does_a_server_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "j.db")
    tier = Tier(base_url=dead_url(), api_key=SECRET, api_key_env="", max_attempts=1)
    with caplog.at_level(logging.DEBUG):
        reply, shown = _ask([tier], journal)
    journal.close()
    assert reply.fault is not None
    assert SECRET not in shown + repr(reply) + caplog.text


def test_nor_the_question_before_a_run(caplog: pytest.LogCaptureFixture) -> None:
    async def run(endpoint: Scripted) -> str:
        client = ExecutorClient([endpoint.tier(api_key=SECRET)])
        with pytest.raises(ExecutorError) as caught:
            await client.check()
        await client.aclose()
        return whole(caught.value)

    async def everything() -> list[Any]:
        async with scripted([error(403, SECRET, TOLD)]) as one, scripted([(200, {}, TOLD)]) as two:
            return [await run(one), await run(two)]

    with caplog.at_level(logging.DEBUG):
        shown = asyncio.run(everything())
    assert SECRET not in "".join(shown) + caplog.text
