"""Sessions: seeds that hang on the call's number, counts that do not mix, replies in a form."""

from __future__ import annotations

import asyncio
import re

import pytest

from aflow_grpo.errors import Unavailable, WorkflowFault
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.records import FaultKind, Status, Usage

PRICED = Usage(1, 1, 10, 5, 0.25, 0.5)


class Backend:
    """Answers with the request's seed, later for earlier requests when `reverse` is set."""

    def __init__(self, *, reverse: bool = False, texts: list[str] | None = None) -> None:
        self.requests: list[Request] = []
        self._reverse = reverse
        self._texts = texts

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        number = len(self.requests)
        for _ in range(50 - number if self._reverse else 0):
            await asyncio.sleep(0)
        text = self._texts.pop(0) if self._texts else str(request.seed)
        return Reply(text, PRICED, f"tier-{number}")


class AnswerTag:
    def parse(self, text: str) -> str:
        match = re.search(r"<answer>(.*?)</answer>", text)
        if match is None:
            raise ValueError("no <answer> tag.")
        return match[1]


async def _talk(session: LLMSession) -> list[str]:
    own = [session("p") for _ in range(3)]
    branches = [session.branch(index)("p") for index in (1, 0)]
    return list(await asyncio.gather(*own, *branches))


def test_seeds_do_not_depend_on_the_order_of_replies() -> None:
    forwards = asyncio.run(_talk(LLMSession(Backend(), 1)))
    backwards = asyncio.run(_talk(LLMSession(Backend(reverse=True), 1)))
    assert forwards == backwards
    assert len(set(forwards)) == 5
    assert not set(forwards) & set(asyncio.run(_talk(LLMSession(Backend(), 2))))


def test_a_re_ask_keeps_the_seeds_of_the_other_calls() -> None:
    async def run(texts: list[str]) -> list[int]:
        backend = Backend(texts=texts)
        session = LLMSession(backend, 1)
        await session.call_with_format("p", AnswerTag())
        await session("q")
        return [request.seed for request in backend.requests]

    clean = asyncio.run(run(["<answer>1</answer>", "x"]))
    messy = asyncio.run(run(["nothing", "<answer>1</answer>", "x"]))
    assert [messy[0], messy[2]] == clean
    assert len(set(messy)) == 3


def test_a_malformed_reply_is_asked_for_once_more_with_the_complaint() -> None:
    backend = Backend(texts=["nothing", "<answer>42</answer>"])
    session = LLMSession(backend, 1)
    assert asyncio.run(session.call_with_format("p", AnswerTag(), system="s")) == "42"
    assert "no <answer> tag" in backend.requests[1].prompt
    assert backend.requests[1].prompt.startswith("p")
    assert session.usage.calls == 2


def test_a_reply_that_is_malformed_twice_is_a_typed_fault() -> None:
    session = LLMSession(Backend(texts=["nothing", "nothing again"]), 1)
    with pytest.raises(WorkflowFault, match="malformed twice: no <answer> tag") as caught:
        asyncio.run(session.call_with_format("p", AnswerTag()))
    assert caught.value.kind is FaultKind.MALFORMED_REPLY
    assert caught.value.kind.status is Status.ERROR, "the workflow's prompt, its own doing"
    assert session.usage.calls == 2


def test_counts_roll_up_to_the_parent_and_never_sideways() -> None:
    async def run() -> None:
        backend = Backend()
        session, other = LLMSession(backend, 1), LLMSession(backend, 2)
        left, right = session.branch(0), session.branch(1)
        await asyncio.gather(left("p"), left("p"), right("p"), session("p"), other("p"))
        assert (left.usage.calls, right.usage.calls) == (2, 1)
        assert (session.usage.calls, other.usage.calls) == (4, 1)
        assert session.usage == PRICED + PRICED + PRICED + PRICED
        assert right.branch(5).usage == Usage()

    asyncio.run(run())


def test_tiers_are_listed_in_order_of_the_calls() -> None:
    async def run() -> tuple[str, ...]:
        session = LLMSession(Backend(reverse=True), 1)
        await asyncio.gather(session("p"), session("p"), session("p"))
        return session.tiers_used

    assert asyncio.run(run()) == ("tier-1", "tier-2", "tier-3")


def test_the_summary_has_the_source_documents_names() -> None:
    session = LLMSession(Backend(), 1)
    asyncio.run(_talk(session))
    assert session.get_usage_summary() == {
        "total_cost": 1.25,
        "billed_usd": 2.5,
        "prompt_tokens": 50,
        "completion_tokens": 25,
        "total_tokens": 75,
        "total_calls": 5,
    }


def test_a_fault_is_raised_after_its_usage_is_counted() -> None:
    async def down(_: Request) -> Reply:
        return Reply("", Usage(attempts=4), fault=Unavailable(FaultKind.ENDPOINT, "down"))

    session = LLMSession(down, 1)
    with pytest.raises(Unavailable, match="down"):
        asyncio.run(session("p"))
    assert session.usage == Usage(attempts=4)
    assert session.tiers_used == ()
