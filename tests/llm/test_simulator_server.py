"""The simulator's endpoint as the openai client sees it: shapes, errors, structured outputs."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, TypeVar

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from simulated_world import MARKERS, ballot, problems, sections, system

from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.simulator.structured import ReplyFormat, read_format
from aflow_grpo.llm.simulator.world import World

T = TypeVar("T")
WORLD = [*problems("math", 8), *problems("qa", 8), *problems("code", 8)]
MODEL = "gpt-4o-mini"
Message = dict[str, Any]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(WORLD, MARKERS) as running:
        yield running


def with_client(
    simulator: Simulator, use: Callable[[openai.AsyncOpenAI], Awaitable[T]], key: str = "x"
) -> T:
    async def run() -> T:
        url = simulator.base_url
        async with openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0) as client:
            return await use(client)

    return asyncio.run(run())


def messages(operator: str, user: str) -> list[Message]:
    return [{"role": "system", "content": system(operator)}, {"role": "user", "content": user}]


def plain(operator: str, user: str, seed: int = 0) -> str:
    """The reply as tagged text."""
    return World(WORLD, MARKERS, SimulatorSettings()).text(system(operator), user, seed)


def schema(**properties: Any) -> dict[str, Any]:
    inner = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": inner}}


def test_the_official_client_parses_a_reply(simulator: Simulator) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        reply = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": WORLD[0].text}], seed=3
        )
        text = reply.choices[0].message.content or ""
        assert "boxed" in text
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage is not None and reply.usage.prompt_tokens_details is not None
        assert reply.usage.completion_tokens == -(-len(text) // 4)
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + -(-len(text) // 4)
        assert [model.id async for model in client.models.list()] == [
            "simulated/gpt-4o-mini",
            "gpt-4o-mini",
            "gpt-4o-mini-2024-07-18",
        ]

    with_client(simulator, use)


def test_the_health_check_answers(simulator: Simulator) -> None:
    url = simulator.base_url.removesuffix("/v1") + "/health"
    with urllib.request.urlopen(url) as response:
        assert json.load(response) == {"status": "ok"}


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-5"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, "missing_parameter", "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            400,
            "invalid_type",
            "messages",
        ),
        ({"messages": ["hi"]}, 400, "invalid_type", "messages"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, 400, "invalid_type", "messages"),
        ({"seed": "seven"}, 400, "invalid_value", "seed"),
        ({"max_tokens": -1}, 400, "invalid_value", "max_tokens"),
        ({"stream": True}, 400, "unsupported_parameter", "stream"),
        ({"n": 2}, 400, "unsupported_parameter", "n"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        (
            {"messages": [{"role": "user", "content": "x" * 600_000}]},
            400,
            "context_length_exceeded",
            "messages",
        ),
        ({"response_format": {"type": "xml"}}, 400, None, "response_format"),
        ({"response_format": {"type": "json_schema"}}, 400, None, "response_format"),
        ({"response_format": {"type": "json_object"}}, 400, None, "response_format"),
        ({"response_format": schema(tags={"type": "array"})}, 400, None, "response_format"),
    ],
)
def test_bad_requests_get_openai_error_bodies(
    simulator: Simulator, change: dict[str, Any], status: int, code: str | None, param: str
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **change}

    async def use(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.post("/chat/completions", cast_to=str, body=body)
        error = caught.value
        assert (error.status_code, error.code, error.param) == (status, code, param)
        assert error.type == "invalid_request_error"

    with_client(simulator, use)


@pytest.mark.parametrize(
    ("body", "told"), [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"", "not JSON")]
)
def test_a_body_that_is_no_object_is_refused(simulator: Simulator, body: bytes, told: str) -> None:
    request = urllib.request.Request(f"{simulator.base_url}/chat/completions", data=body)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as response:
        assert response.status == 400 and told in json.load(response)["error"]["message"]


def test_an_unknown_address_is_a_404_that_names_it(simulator: Simulator) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match=r"POST /v1/embeddings"):
            await client.embeddings.create(model=MODEL, input="x")

    with_client(simulator, use)


def test_texts_in_parts_developer_messages_and_the_new_name_of_the_limit(
    simulator: Simulator,
) -> None:
    text = WORLD[0].text
    half = len(text) // 2
    parts = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]

    async def use(client: openai.AsyncOpenAI) -> None:
        bodies: list[dict[str, Any]] = [
            {"messages": messages("answer_generate", text), "max_tokens": 9},
            {
                "messages": [
                    {"role": "developer", "content": system("answer_generate")},
                    {"role": "user", "content": parts},
                ],
                "max_completion_tokens": 9,
            },
        ]
        one, other = [await client.chat.completions.create(model=MODEL, **b) for b in bodies]
        assert one == other
        assert one.choices[0].finish_reason == "length"
        assert one.usage is not None and one.usage.completion_tokens == 9

    with_client(simulator, use)


class Answered(BaseModel):
    thought: str
    answer: str


class Reviewed(BaseModel):
    verdict: Literal["right", "wrong"]
    feedback: str


class Chosen(BaseModel):
    choice: Literal["A", "B", "C"]


def test_the_official_client_parses_structured_outputs(simulator: Simulator) -> None:
    cases: list[tuple[str, type[BaseModel], str]] = [
        ("answer_generate", Answered, sections(problem=WORLD[0].text)),
        ("answer_generate", Answered, sections(problem=WORLD[9].text)),
        ("review", Reviewed, sections(problem=WORLD[0].text, solution="The answer is 10.")),
        ("sc_ensemble", Chosen, sections(problem=WORLD[1].text, solutions=ballot("1", "2", "1"))),
    ]

    async def use(client: openai.AsyncOpenAI) -> list[BaseModel | None]:
        replies = [
            await client.chat.completions.parse(
                model=MODEL,
                messages=messages(operator, user),  # type: ignore[arg-type]
                response_format=model,
                seed=0,
            )
            for operator, model, user in cases
        ]
        for reply in replies:
            content = reply.choices[0].message.content or ""
            assert reply.usage is not None
            assert reply.usage.completion_tokens == -(-len(content) // 4)
        return [reply.choices[0].message.parsed for reply in replies]

    for (operator, model, user), parsed in zip(cases, with_client(simulator, use), strict=True):
        assert isinstance(parsed, model)
        tagged = plain(operator, user)
        for name, value in parsed.model_dump().items():
            assert f"<{name}>{value}</{name}>" in tagged


def test_a_json_object_holds_the_tags_or_the_whole_text(simulator: Simulator) -> None:
    async def use(client: openai.AsyncOpenAI) -> list[Any]:
        replies = [
            await client.chat.completions.create(
                model=MODEL,
                messages=messages(operator, f"{WORLD[0].text}\nReply in JSON."),  # type: ignore[arg-type]
                response_format={"type": "json_object"},
            )
            for operator in ("answer_generate", "custom")
        ]
        return [json.loads(reply.choices[0].message.content or "") for reply in replies]

    answered, free = with_client(simulator, use)
    assert set(answered) == {"thought", "answer"}
    assert set(free) == {"response"} and "boxed" in free["response"]


def test_structured_outputs_can_be_switched_off() -> None:
    body = {"model": MODEL, "messages": messages("custom", "hi")}

    async def use(client: openai.AsyncOpenAI) -> None:
        await client.post("/chat/completions", cast_to=str, body=body)
        wanted = {**body, "response_format": schema(answer={"type": "string"})}
        with pytest.raises(openai.BadRequestError, match="'response_format' is not supp") as caught:
            await client.post("/chat/completions", cast_to=str, body=wanted)
        assert caught.value.code == "unsupported_parameter"

    with Simulator(WORLD, MARKERS, SimulatorSettings(structured_outputs=False)) as old:
        with_client(old, use)


@pytest.mark.parametrize(
    ("text", "properties", "expected"),
    [
        ("<a>1</a>\n<b>two</b>", {"b": {"type": "string"}}, {"b": "two"}),
        ("<a>\nx <b>y</b> z\n</a>", {"a": {"type": "string"}}, {"a": "x <b>y</b> z"}),
        ("<a>no </a> here</a>", {"a": {"type": "string"}}, {"a": "no </a> here"}),
        ("<a>cut he", {"a": {"type": "string"}}, {"a": "cut he"}),
        ("no tags", {"a": {"type": "string"}}, {"a": "no tags"}),
        ("<a>x</a> rest", {"a": {"type": "string"}, "c": {}}, None),
        ("<a>x</a> rest", {"a": {"type": "string"}, "c": {"type": "string"}}, {"c": "rest"}),
        ("<ok>Yes, it is</ok>", {"ok": {"type": "boolean"}}, {"ok": True}),
        ("<ok>no</ok>", {"ok": {"type": "boolean"}}, {"ok": False}),
        ("<n>about -3.7 m</n>", {"n": {"type": "number"}}, {"n": -3.7}),
        (f"<n>{'9' * 5000}</n>", {"n": {"type": "integer"}}, {"n": 10**15 - 1}),
        ("<n>none</n>", {"n": {"type": "integer"}}, {"n": 0}),
        ("<n>7</n>", {"n": {"type": ["null", "integer"]}}, {"n": 7}),
        ("<v>WRONG.</v>", {"v": {"enum": ["right", "wrong"]}}, {"v": "wrong"}),
        ("<v>Apples</v>", {"v": {"enum": ["A", "B"], "type": "string"}}, {"v": "A"}),
    ],
)
def test_properties_are_filled_from_tags(
    text: str, properties: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"properties\.c: expected one of the types"):
            read_format(schema(**properties), "")
        return
    wanted = read_format(schema(**properties), "")
    assert wanted is not None
    rendered = json.loads(wanted.render(text))
    assert list(rendered) == list(properties)
    assert {name: rendered[name] for name in expected} == expected


@given(
    st.text(max_size=200),
    st.dictionaries(
        st.sampled_from(["answer", "choice", "ok", "n"]),
        st.sampled_from(
            [{"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"enum": ["A", "B"]}]
        ),
        min_size=1,
    ),
)
def test_any_text_gives_exactly_the_properties_in_their_types(
    text: str, properties: dict[str, dict[str, Any]]
) -> None:
    rendered = json.loads(ReplyFormat(properties).render(text))
    assert list(rendered) == list(properties)
    types = {"string": str, "boolean": bool, "integer": int}
    for name, one in properties.items():
        if "enum" in one:
            assert rendered[name] in one["enum"]
        else:
            assert type(rendered[name]) is types[one["type"]]


def test_a_wrong_key_is_refused_in_openais_words() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.post("/chat/completions", cast_to=str, body={})
        assert caught.value.code == "invalid_api_key"

    with Simulator(WORLD, MARKERS, SimulatorSettings(api_key="right")) as guarded:
        with_client(guarded, use, key="wrong")


def test_latency_without_spread_is_the_same_for_every_call() -> None:
    async def use(client: openai.AsyncOpenAI) -> list[float]:
        async def one(seed: int) -> float:
            begin = time.monotonic()
            body = {"model": MODEL, "messages": messages("custom", "hi"), "seed": seed}
            await client.post("/chat/completions", cast_to=str, body=body)
            return time.monotonic() - begin

        return list(await asyncio.gather(*map(one, range(20))))

    settings = SimulatorSettings(latency_ms=200, latency_spread="none")
    with Simulator(WORLD, MARKERS, settings) as slow:
        assert min(with_client(slow, use)) >= 0.2  # of 20 exponential times 13 are below the mean


def test_two_hundred_requests_at_once_are_all_answered(simulator: Simulator) -> None:
    async def use(client: openai.AsyncOpenAI) -> set[str]:
        body = {"model": MODEL, "messages": messages("custom", WORLD[0].text)}
        replies = (client.post("/chat/completions", cast_to=str, body=body) for _ in range(200))
        return set(await asyncio.gather(*replies))

    assert len(with_client(simulator, use)) == 1


def test_a_reply_on_a_kept_connection_does_not_wait_for_nagle(simulator: Simulator) -> None:
    async def use(client: openai.AsyncOpenAI) -> float:
        body = {"model": MODEL, "messages": messages("custom", "hi")}
        times = []
        for _ in range(20):
            begin = time.monotonic()
            await client.post("/chat/completions", cast_to=str, body=body)
            times.append(time.monotonic() - begin)
        return statistics.median(times)

    assert with_client(simulator, use) < 0.03  # a delayed acknowledgement takes 0.04 s
