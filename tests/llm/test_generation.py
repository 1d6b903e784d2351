"""What a generation server is asked, and which of its answers are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aflow_grpo.llm.generation import (
    Asked,
    Drawing,
    Garbage,
    WrongAnswer,
    read_drawing,
    read_gap,
    request_body,
)

ASKED = Asked(prompt_ids=(5, 6), seed=7, max_tokens=3, temperature=0.8, top_p=0.9, end_ids=(0, 1))


def reply(**changes: Any) -> str:
    choice = {
        "token_ids": [9, 8, 0],
        "prompt_token_ids": [5, 6],
        "finish_reason": "stop",
        "logprobs": {"token_logprobs": [-1.5, -0.0, -2]},
    }
    return json.dumps({"choices": [{**choice, **changes}]})


def logprobs(*values: Any) -> dict[str, Any]:
    return {"token_logprobs": list(values)}


def test_a_request_names_everything_that_changes_the_distribution() -> None:
    body = request_body("adapter", ASKED)
    assert body == {
        "model": "adapter",
        "prompt": [5, 6],
        "max_tokens": 3,
        "temperature": 0.8,
        "top_p": 0.9,
        "seed": 7,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": [0, 1],
        "logprobs": 0,
        "return_token_ids": True,
    }
    greedy = request_body("adapter", Asked((5,), 7, 3, 0.0, 1.0, (0,)))
    assert "seed" not in greedy and greedy["temperature"] == 0.0


def test_an_answer_is_read_with_its_end_token() -> None:
    assert read_drawing(reply(), ASKED) == Drawing([9, 8, 0], [-1.5, 0.0, -2.0], True)


def test_an_end_token_in_the_last_place_ends_it_whatever_the_server_calls_that() -> None:
    assert read_drawing(reply(finish_reason="length"), ASKED).finished
    cut = reply(token_ids=[9, 8, 7], finish_reason="length")
    assert read_drawing(cut, ASKED) == Drawing([9, 8, 7], [-1.5, 0.0, -2.0], False)


def test_rounding_above_zero_is_taken_as_zero() -> None:
    drawing = read_drawing(reply(logprobs=logprobs(-1, 5e-7, -2)), ASKED)
    assert drawing.logprobs == [-1.0, 0.0, -2.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (reply(token_ids=None), r"no token ids .* 0\.10\.2"),
        (reply(token_ids=["9", "8", "0"]), "no token ids"),
        (reply(token_ids=[True, 8, 0]), "no token ids"),
        (reply(prompt_token_ids=None), "no token ids"),
        (reply(prompt_token_ids=[2, 5, 6]), "another prompt"),
        (reply(logprobs=None), "no log-probabilities"),
        (reply(logprobs=logprobs(-1, None, -2)), "no log-probabilities"),
        (reply(logprobs=logprobs(-1, -2)), "3 token ids and 2 log-probabilities"),
        (reply(logprobs=logprobs(-1, 0.5, -2)), r"0\.5 is no log-probability"),
        (reply(logprobs=logprobs(-1, float("nan"), -2)), "nan is no log-probability"),
        (reply(logprobs=logprobs(-1, -9999.0, -2)), r"-9999\.0 is no log-probability"),
        (reply(token_ids=[], logprobs=logprobs()), "0 tokens were drawn where 1 to 3"),
        (
            reply(token_ids=[9, 8, 7, 0], logprobs=logprobs(-1, -1, -1, -1)),
            "4 tokens were drawn where 1 to 3",
        ),
        (reply(token_ids=[1, 8, 0]), "goes on after the end token 1"),
        (reply(finish_reason="abort"), "finish_reason 'abort'"),
        (reply(finish_reason=None), "finish_reason None"),
        (
            reply(token_ids=[9, 8], logprobs=logprobs(-1, -1), finish_reason="length"),
            r"2 of 3 tokens \(length\): the server's --max-model-len",
        ),
        (
            reply(token_ids=[9, 8], logprobs=logprobs(-1, -1), finish_reason="stop"),
            r"2 of 3 tokens \(stop\): no end token",
        ),
    ],
)
def test_a_wrong_answer_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(WrongAnswer, match=said) as caught:
        read_drawing(text, ASKED)
    assert not isinstance(caught.value, Garbage), "the same request gets the same answer"


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"choices": []}', '{"choices": [3]}'])
def test_what_is_no_completion_at_all_may_pass(text: str) -> None:
    with pytest.raises(Garbage):
        read_drawing(text, ASKED)


def top(**values: float) -> str:
    return json.dumps({"choices": [{"logprobs": {"top_logprobs": [values]}}]})


def test_the_gap_is_between_the_outermost_tokens_that_all_name() -> None:
    sharp, flat = top(a=-0.1, b=-2.1, c=-5.0), top(b=-1.5, a=-0.5, d=-3.0)
    assert read_gap([sharp, flat]) == [pytest.approx(2.0), pytest.approx(1.0)]
    assert read_gap([top(a=-0.1), flat]) == [0.0, 0.0]
    with pytest.raises(WrongAnswer, match="top_logprobs"):
        read_gap([sharp, reply(logprobs=None)])
