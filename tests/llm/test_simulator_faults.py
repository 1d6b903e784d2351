"""Faults on demand: their draws, and how each one looks to a client, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, problems, sections, system

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.simulator.faults import (
    CONTENT_FAULTS,
    TRANSPORT_FAULTS,
    Fault,
    Faults,
    FaultSettings,
)
from aflow_grpo.llm.simulator.world import World

WORLD = [*problems("math", 6), *problems("qa", 6)]
PATIENCE_S = 20.0
NO_ANSWER_S = 0.3


@dataclass(frozen=True)
class Answer:
    """What came back on one connection."""

    status: int | None = None
    headers: dict[str, str] | None = None
    data: bytes = b""
    fate: str = "whole"
    """`whole`, `short` (less than was announced), `dropped` (nothing came), `silent` (hangs)."""

    @property
    def body(self) -> Any:
        return json.loads(self.data)

    @property
    def text(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])


def request(number: int, operator: str = "answer_generate", **changes: object) -> dict[str, Any]:
    user = sections(problem=WORLD[number % len(WORLD)].text)
    messages = [
        {"role": "system", "content": system(operator)},
        {"role": "user", "content": user},
    ]
    return {"model": "gpt-4o-mini", "messages": messages, "seed": number, **changes}


async def ask(base_url: str, body: dict[str, Any], wait_s: float = PATIENCE_S) -> Answer:
    """One request on a connection of its own, read to its end."""
    place = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    payload = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    received = b""
    try:
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                received += chunk
    except TimeoutError:
        return Answer(fate="silent")
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    if not received:
        return Answer(fate="dropped")
    top, _, data = received.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    fate = "whole" if len(data) == int(headers["content-length"]) else "short"
    return Answer(int(status.split()[1]), headers, data, fate)


def asked(base_url: str, body: dict[str, Any], wait_s: float = PATIENCE_S) -> Answer:
    return asyncio.run(ask(base_url, body, wait_s))


@contextmanager
def simulator(**faults: Any) -> Iterator[str]:
    settings = SimulatorSettings(faults=FaultSettings(**faults))
    with Simulator(WORLD, MARKERS, settings) as running:
        yield running.base_url


def calm(body: dict[str, Any]) -> dict[str, Any]:
    """The response body without any fault."""
    return World(WORLD, MARKERS, SimulatorSettings()).completion(body)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "retry_after"),
    [
        ("429", 429, "requests", "0.25"),
        ("429_bare", 429, "requests", None),
        ("500", 500, "server_error", None),
        ("503", 503, "server_error", None),
    ],
)
def test_faults_that_are_error_bodies(
    fault: str, status: int, kind: str, retry_after: str | None
) -> None:
    with simulator(**{f"rate_{fault}": 1.0}, retry_after_s=0.25) as url:
        answer = asked(url, request(0))
    assert (answer.status, answer.fate) == (status, "whole")
    assert answer.headers is not None and answer.headers.get("retry-after") == retry_after
    error = answer.body["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == kind


@pytest.mark.parametrize(
    ("fault", "fate"),
    [("hang", "silent"), ("dropped", "dropped"), ("dropped_midway", "short")],
)
def test_faults_of_the_connection(fault: str, fate: str) -> None:
    with simulator(**{f"rate_{fault}": 1.0}) as url:
        answer = asked(url, request(0), NO_ANSWER_S if fault == "hang" else PATIENCE_S)
    assert answer.fate == fate
    if fate == "short":
        assert answer.status == 200 and answer.data.startswith(b'{"id": "chatcmpl-')


def test_faults_of_the_body() -> None:
    bodies = {}
    for fault in ("502", "not_json", "truncated", "no_choices", "wrong_types"):
        with simulator(**{f"rate_{fault}": 1.0}) as url:
            bodies[fault] = asked(url, request(0))
    assert {answer.fate for answer in bodies.values()} == {"whole"}
    statuses = {fault: answer.status for fault, answer in bodies.items()}
    assert statuses == {fault: 502 if fault == "502" else 200 for fault in bodies}
    assert bodies["502"].data.startswith(b"<html>") and bodies["not_json"].data[:6] == b"<html>"
    whole = json.dumps(calm(request(0))).encode()
    assert bodies["truncated"].data == whole[: len(whole) // 2]
    assert bodies["no_choices"].body == {**calm(request(0)), "choices": []}
    assert isinstance(bodies["wrong_types"].body["choices"][0]["message"]["content"], dict)
    assert bodies["wrong_types"].body["usage"]["prompt_tokens"] == "many"


def test_a_slow_answer_is_late_and_right() -> None:
    with simulator(rate_slow=1.0, slow_s=0.4) as url:
        assert asked(url, request(0), wait_s=0.2).fate == "silent"
        assert asked(url, request(0)).body == calm(request(0))


def test_a_server_with_hanging_requests_answers_others() -> None:
    async def run(url: str) -> set[str]:
        answers = await asyncio.gather(*(ask(url, request(n), 2 * NO_ANSWER_S) for n in range(12)))
        return {answer.fate for answer in answers}

    with simulator(rate_hang=0.5) as url:
        assert asyncio.run(run(url)) == {"silent", "whole"}


def fates(url: str, order: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """What befell the k-th attempt of request n, in the given order of (n, k), several at once."""

    async def run() -> dict[tuple[int, int], str]:
        told: dict[tuple[int, int], str] = {}
        for attempt in sorted({k for _, k in order}):

            async def one(n: int, k: int = attempt) -> None:
                answer = await ask(url, request(n))
                told[n, k] = f"{answer.status} {answer.fate}"

            await asyncio.gather(*(one(n) for n, k in order if k == attempt))
        return told

    return asyncio.run(run())


def test_faults_are_the_same_in_any_order_and_every_attempt_draws_anew() -> None:
    rates = {"rate_429": 0.2, "rate_500": 0.2, "rate_dropped": 0.2, "seed": 3}
    order = [(n, k) for n in range(30) for k in range(3)]
    with simulator(**rates) as url:
        first = fates(url, order)
    with simulator(**rates) as url:
        second = fates(url, random.Random(5).sample(order, len(order)))
    assert first == second
    with simulator(**{**rates, "seed": 4}) as url:
        assert fates(url, order) != first
    assert any(first[n, 0] == "200 whole" != first[n, 1] for n in range(30))
    assert any(first[n, 0] != "200 whole" == first[n, 1] for n in range(30))


def test_the_reply_that_gets_through_is_that_of_a_calm_server() -> None:
    with simulator(rate_429=0.3, rate_dropped=0.2, rate_slow=0.2, slow_s=0.01) as url:
        for n in range(12):
            answers = [asked(url, request(n)) for _ in range(8)]
            through = [answer.body for answer in answers if answer.status == 200]
            assert through and all(body == calm(request(n)) for body in through)


def test_content_faults_hit_the_same_requests_at_every_attempt_and_whatever_else_fails() -> None:
    content = {"rate_refusal": 0.3, "rate_cut": 0.3}
    with simulator(**content) as url:
        alone = {n: asked(url, request(n)).data for n in range(20)}
        assert {n: asked(url, request(n)).data for n in range(20)} == alone
    with simulator(**content, rate_500=0.5) as url:
        for n in range(20):
            tries = [asked(url, request(n)) for _ in range(10)]
            assert {answer.data for answer in tries if answer.status == 200} == {alone[n]}


def test_a_refusal_is_words_or_where_an_object_is_wanted_the_refusal_field() -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with simulator(rate_refusal=1.0) as url:
        plain, shaped = asked(url, request(0)), asked(url, request(0, response_format=wanted))
    assert "can't help" in plain.text and plain.body["choices"][0]["message"]["refusal"] is None
    message = shaped.body["choices"][0]["message"]
    assert message["content"] is None and "can't help" in message["refusal"]


def test_a_cut_reply_says_so() -> None:
    with simulator(rate_cut=1.0) as url:
        answer = asked(url, request(0))
    whole = calm(request(0))["choices"][0]["message"]["content"]
    assert answer.text == whole[: len(whole) // 2]
    assert answer.body["choices"][0]["finish_reason"] == "length"
    assert answer.body["usage"]["completion_tokens"] == -(-len(answer.text) // 4)


def test_a_malformed_reply_lacks_the_tags_and_the_code_block() -> None:
    made = problems("code", 1)
    user = sections(problem=made[0].text, entry_point=made[0].entry_point)
    code = {**request(0)}
    code["messages"] = [
        {"role": "system", "content": system("custom_code_generate")},
        {"role": "user", "content": user},
    ]
    world = World([*WORLD, *made], MARKERS, SimulatorSettings())
    for body, mark in ((request(0), "<answer>"), (code, "```")):
        whole, bare = (
            world.completion(body, fault)["choices"][0]["message"]["content"]
            for fault in (None, Fault.MALFORMED)
        )
        assert mark in whole and mark not in bare and len(bare) > 10


def test_an_outage_begins_after_the_first_request_and_ends() -> None:
    with simulator(outage_start_s=0.0, outage_s=0.6) as url:

        async def run() -> list[int | None]:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            seen = [(await ask(url, request(0))).status]
            while seen[-1] != 200 and loop.time() < begin + PATIENCE_S:
                seen.append((await ask(url, request(0))).status)
            assert loop.time() - begin >= 0.6
            return seen

        seen = asyncio.run(run())
    assert seen[-1] == 200 and set(seen[:-1]) == {503}


def test_an_outage_that_refuses_connections_gives_the_port_back() -> None:
    async def state(url: str) -> str:
        try:
            answer = await ask(url, request(0))
        except ConnectionRefusedError:
            return "refused"
        return str(answer.status or answer.fate)

    async def run(url: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for wanted in ("200", "refused", "200"):
                while await state(url) != wanted:
                    await asyncio.sleep(0)

    with simulator(outage="refused", outage_start_s=0.2, outage_s=0.5) as url:
        asyncio.run(run(url))


@given(
    st.dictionaries(st.sampled_from(TRANSPORT_FAULTS), st.floats(0, 1 / len(TRANSPORT_FAULTS))),
    st.integers(0, 9),
)
def test_draws_depend_on_seed_request_and_attempt_alone(
    rates: dict[Fault, float], seed: int
) -> None:
    settings = FaultSettings(**{f"rate_{f}": r for f, r in rates.items()}, seed=seed)  # type: ignore[arg-type]
    digests = [bytes([n]) for n in range(8)]
    one, other = Faults(settings), Faults(settings)
    rows = {d: [one.transport(d) for _ in range(3)] for d in digests}
    columns = [{d: other.transport(d) for d in reversed(digests)} for _ in range(3)]
    assert rows == {d: [column[d] for column in columns] for d in digests}


def test_shares_are_those_that_were_asked_for() -> None:
    share = 1 / len(TRANSPORT_FAULTS)
    drawn = Faults(FaultSettings(**dict.fromkeys((f"rate_{f}" for f in TRANSPORT_FAULTS), share)))
    counts = Counter(drawn.transport(n.to_bytes(4, "big")) for n in range(6000))
    assert None not in counts  # the shares fill the whole interval
    assert all(count / 6000 == pytest.approx(share, abs=0.02) for count in counts.values())
    thirds = Faults(FaultSettings(rate_refusal=0.2, rate_malformed=0.2, rate_cut=0.2))
    counts = Counter(thirds.content(n.to_bytes(4, "big")) for n in range(6000))
    assert {fault: round(n / 6000, 1) for fault, n in counts.items()} == {
        **dict.fromkeys(CONTENT_FAULTS, 0.2),
        None: 0.4,
    }


def test_the_memory_of_attempts_is_bounded_and_keeps_the_latest() -> None:
    settings = FaultSettings(rate_500=0.5)
    bounded, unbounded = Faults(settings, remembered=2), Faults(settings)
    a, b, c = b"a", b"b", b"c"
    history = [a, b, a, c, a, a, b]  # c drives out b, the longest unused, and b starts again
    drawn = [bounded.transport(d) for d in history]
    expected = [unbounded.transport(d) for d in history[:-1]]
    assert drawn == [*expected, Faults(settings).transport(b)]
    assert len(bounded._attempts) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rate_429": 1.5}, r"llm\.simulator\.faults\.rate_429=1\.5: expected a share from 0 to 1"),
        ({"rate_cut": -0.1}, r"llm\.simulator\.faults\.rate_cut=-0\.1"),
        (
            {"rate_429": 0.6, "rate_hang": 0.6},
            r"llm\.simulator\.faults: rate_429 \+ rate_hang = 1\.2, .*one attempt",
        ),
        ({"rate_refusal": 0.6, "rate_malformed": 0.6}, r"rate_refusal \+ rate_malformed = 1\.2"),
        ({"outage_s": -1.0}, r"llm\.simulator\.faults\.outage_s=-1\.0: .*seconds"),
        ({"slow_s": -1.0}, r"slow_s"),
        ({"outage": "strike"}, r"faults\.outage='strike': expected one of unavailable, refused"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        FaultSettings(**wrong)


def test_transport_and_content_may_sum_to_more_than_one_together() -> None:
    settings = FaultSettings(rate_hang=0.7, rate_cut=0.7)
    assert settings.rate(Fault.HANG) + settings.rate(Fault.CUT) == pytest.approx(1.4)
