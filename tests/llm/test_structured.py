"""JSON objects where an endpoint takes the schema, tags where it does not; real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from scripted_endpoint import Response, Scripted, completion, error, scripted

from aflow_grpo.errors import Unavailable, WorkflowFault
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.structured import Part, ReplyForm, fields_of
from aflow_grpo.operators.base import Operator
from aflow_grpo.operators.ensembles import MdEnsemble, ScEnsemble
from aflow_grpo.operators.generation import AnswerGenerate, Custom, CustomCodeGenerate
from aflow_grpo.operators.refinement import Format, Review, Revise
from aflow_grpo.records import FaultKind

REVIEW = {"problem": "p", "solution": "s"}
JSON_REVIEW = json.dumps({"verdict": "wrong", "feedback": "the sign"})
TAGGED_REVIEW = "<verdict>wrong</verdict><feedback>the sign</feedback>"
REFUSAL = error(400, "unsupported_parameter", "'response_format' is not supported.")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"a": "1", "b": " 2 "}', {"a": "1", "b": "2"}),
        ('\n{ "b" : "2", "a": "1", "more": 3}', {"a": "1", "b": "2"}),
        ('```json\n{"a": "1", "b": "2"}\n```', {"a": "1", "b": "2"}),
        ("<a>1</a><b>2</b>", None),
        ("{1, 2, 3}", None),
        ('{"x": 1}', None),  # the answer to a question about JSON, say
        ("", None),
    ],
)
def test_parts_are_read_from_an_object_and_other_text_is_left_alone(
    reply: str, expected: dict[str, str] | None
) -> None:
    assert fields_of(reply, ("a", "b")) == expected


@pytest.mark.parametrize("reply", ['{"a": "1"}', '{"a": "1", "b": 2}', '{"a": "1', '{"a": null'])
def test_an_object_that_is_cut_or_misses_a_part_is_malformed(reply: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        fields_of(reply, ("a", "b"))


def test_the_schema_is_strict() -> None:
    form = ReplyForm("review", (Part("verdict", "v", ("right", "wrong")), Part("why", "w")), "p")
    wrapped = form.response_format["json_schema"]
    assert (form.response_format["type"], wrapped["strict"]) == ("json_schema", True)
    assert wrapped["schema"] == {
        "type": "object",
        "properties": {
            "verdict": {"type": "string", "description": "v", "enum": ["right", "wrong"]},
            "why": {"type": "string", "description": "w"},
        },
        "required": ["verdict", "why"],
        "additionalProperties": False,
    }


def ask(
    script: Callable[[int], Response] | list[Response],
    scenario: Callable[[ExecutorClient, Scripted], Awaitable[Any]],
    mode: Literal["auto", "on", "off"] = "auto",
    **client: Any,
) -> Any:
    async def run() -> Any:
        async with scripted(script) as endpoint:
            executor = ExecutorClient([endpoint.tier(structured_outputs=mode)], **client)
            try:
                return await scenario(executor, endpoint)
            finally:
                await executor.aclose()

    return asyncio.run(run())


async def _review(client: ExecutorClient, _: Scripted) -> dict[str, str | bool]:
    return await Review()(client.session(1), **REVIEW)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_review_is_asked_for_as_an_object_in_words_that_fit(mode: Literal["auto", "on"]) -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        session = client.session(1)
        expected = {"review_result": False, "feedback": "the sign"}
        assert await Review()(session, **REVIEW) == expected
        (request,) = endpoint.requests
        properties = request["response_format"]["json_schema"]["schema"]["properties"]
        assert list(properties) == ["verdict", "feedback"]
        prompt = request["messages"][-1]["content"]
        assert "JSON" in prompt and "<verdict>" not in prompt and "<solution>\ns\n" in prompt
        assert session.calls[0].prompt == prompt, "the record has what was sent"

    ask([completion(JSON_REVIEW)], scenario, mode)


def test_off_asks_for_tags() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        session = client.session(1)
        assert (await Review()(session, **REVIEW))["feedback"] == "the sign"
        assert "response_format" not in endpoint.requests[0]
        assert "<verdict>right</verdict>" in endpoint.requests[0]["messages"][-1]["content"]
        assert session.calls[0].prompt == endpoint.requests[0]["messages"][-1]["content"]

    ask([completion(TAGGED_REVIEW)], scenario, "off")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_endpoint_without_schemas_is_asked_for_tags_at_once_and_from_then_on(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = error(status, "unsupported_parameter", "response_format?")

    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        for seed in (1, 2, 3):
            result = await Review()(client.session(seed), **REVIEW)
            assert result == {"review_result": False, "feedback": "the sign"}
        asked = ["response_format" in request for request in endpoint.requests]
        assert asked == [True, False, False, False]
        counters = client.counters["one"]
        assert (counters.answered, counters.failed, counters.attempts) == (3, 0, 4)

    with caplog.at_level(logging.INFO):
        ask([refusal, completion(TAGGED_REVIEW)], scenario, breaker_threshold=1)
    assert caplog.text.count("takes no JSON schema") == 1
    assert "is down" not in caplog.text and "cannot be used" not in caplog.text


def test_what_is_refused_in_both_forms_says_nothing_about_schemas() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        with pytest.raises(Unavailable, match="HTTP 400"):
            await _review(client, endpoint)
        await Review()(client.session(2), **REVIEW)
        asked = ["response_format" in request for request in endpoint.requests]
        assert asked == [True, False, True]

    ask([error(400), error(400), completion(JSON_REVIEW)], scenario)


def test_on_never_falls_back() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> int:
        with pytest.raises(Unavailable, match="HTTP 400"):
            await _review(client, endpoint)
        return len(endpoint.requests)

    assert ask([REFUSAL], scenario, "on") == 1


def test_a_malformed_object_is_asked_for_once_more_then_a_typed_fault() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> None:
        assert (await _review(client, endpoint))["feedback"] == "the sign"
        again = endpoint.requests[1]
        assert "previous reply could not be used" in again["messages"][-1]["content"]
        assert "response_format" in again
        with pytest.raises(WorkflowFault, match="malformed twice") as caught:
            await Review()(client.session(2), **REVIEW)
        assert caught.value.kind is FaultKind.MALFORMED_REPLY
        assert len(endpoint.requests) == 4

    cut = completion(JSON_REVIEW[:-9])
    ask([cut, completion(JSON_REVIEW), cut, cut], scenario)


TALKERS: list[tuple[Operator, dict[str, Any], dict[str, str] | None, str]] = [
    (
        AnswerGenerate(),
        {"input": "2+2?"},
        {"thought": "2 and 2", "answer": "4"},
        "<thought>2 and 2</thought>\n<answer>4</answer>",
    ),
    (Format(), REVIEW, {"answer": "4"}, "<answer>4</answer>"),
    (Review(), REVIEW, {"verdict": "right", "feedback": "fine"}, "<verdict>right</verdict>"),
    (ScEnsemble(), {"solutions": ["x", "y"]}, {"choice": "B"}, "<choice>B</choice>"),
    (MdEnsemble(), {"solutions": ["x", "y"]}, {"choice": "B"}, "<choice>B</choice>"),
    (Custom(), {"input": "p"}, None, "free text"),
    (CustomCodeGenerate(), {"problem": "p", "entry_point": "f"}, None, "```python\nx = 1\n```"),
    (Revise(), {**REVIEW, "feedback": "f"}, None, "<solution>s</solution>"),
]


@pytest.mark.parametrize(("operator", "arguments", "parts", "tagged"), TALKERS)
def test_short_parts_go_through_json_and_code_never_does(
    operator: Operator, arguments: dict[str, Any], parts: dict[str, str] | None, tagged: str
) -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> Any:
        result = await operator(client.session(1), **arguments)
        asked = {"response_format" in request for request in endpoint.requests}
        assert asked == {parts is not None}
        return result

    text = tagged if parts is None else json.dumps(parts)
    structured = ask([completion(text)], scenario)
    parts = None
    plain = ask([completion(tagged)], scenario, "off")
    if not isinstance(operator, Review):  # its tagged reply has no feedback
        assert structured == plain


def test_a_vote_that_is_malformed_is_lost_and_not_asked_again() -> None:
    async def scenario(client: ExecutorClient, endpoint: Scripted) -> int:
        await MdEnsemble()(client.session(1), solutions=["x", "y"])
        return len(endpoint.requests)

    assert ask([completion('{"choice": '), completion('{"choice": "A"}')], scenario) == 5


def test_the_journal_knows_the_request_as_it_was_meant(tmp_path: Path) -> None:
    """An endpoint that learns to take schemas is not asked again for what it answered in tags."""
    journal = Journal(tmp_path / "j.db")
    first = ask([REFUSAL, completion(TAGGED_REVIEW)], _review, journal=journal)
    again = ask([error(500)], _review, journal=journal)
    assert first == again == {"review_result": False, "feedback": "the sign"}
    assert len(journal) == 1
    journal.close()
