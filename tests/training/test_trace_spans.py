"""Spans made of records: every figure in its place, clocks that nest, texts of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rollouts import rollout

from aflow_grpo.records import (
    Completion,
    FaultKind,
    Finding,
    LLMCall,
    OperatorCall,
    Rollout,
    Status,
    Usage,
)
from aflow_grpo.training.storing import Place
from aflow_grpo.training.trace_spans import SpanTree, TraceRecord, make_trace

PLACE = Place("run-1", "train", 7)
NOW = 1_700_000_000.0
LONG = 10_000


def llm_call(**changes: Any) -> LLMCall:
    fields: dict[str, Any] = {
        "place": "0.0",
        "system": "You add.",
        "prompt": "1 + 1?",
        "reply": "2",
        "model": "gpt-4o-mini",
        "tier": "main",
        "attempts": 2,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "cost_usd": 0.000045,  # 100 x 0.15 + 50 x 0.60 USD per million
        "billed_usd": 0.00006,
        "started_s": NOW,
        "seconds": 1.0,
        "finish_reason": "stop",
    }
    return LLMCall(**{**fields, **changes})


def operator_call(*asked: LLMCall, **changes: Any) -> OperatorCall:
    fields: dict[str, Any] = {
        "operator": "custom",
        "arguments": {"input": "1 + 1?"},
        "result": {"response": "2"},
        "usage": Usage(calls=len(asked)),
        "seconds": 2.0,
        "tiers": ("main",),
        "started_s": NOW,
        "llm_calls": asked,
    }
    return OperatorCall(**{**fields, **changes})


def traced(one: Rollout, max_chars: int = LONG) -> TraceRecord:
    return make_trace(one, PLACE, NOW + 60, max_chars)


def all_spans(span: SpanTree) -> Iterator[SpanTree]:
    yield span
    for child in span.children:
        yield from all_spans(child)


# What a span shows


def test_an_executor_call_is_a_chat_with_its_tokens_cost_tier_and_attempts() -> None:
    (operator,) = traced(rollout(calls=(operator_call(llm_call()),))).root.children
    (span,) = operator.children
    assert (span.name, span.type, span.error) == ("executor", "CHAT_MODEL", None)
    assert span.inputs == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You add."},
            {"role": "user", "content": "1 + 1?"},
        ],
    }
    (choice,) = span.outputs["choices"]
    assert choice["message"] == {"role": "assistant", "content": "2"}
    assert choice["finish_reason"] == "stop"
    assert span.attributes == {
        "mlflow.llm.model": "gpt-4o-mini",
        "mlflow.message.format": "openai",
        "mlflow.chat.tokenUsage": {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150},
        "mlflow.llm.cost": {
            "input_cost": pytest.approx(0.000015),
            "output_cost": pytest.approx(0.00003),
            "total_cost": 0.000045,
        },
        "billed_usd": 0.00006,
        "tier": "main",
        "attempts": 2,
        "place": "0.0",
        "finish_reason": "stop",
    }


def test_a_call_without_a_system_message_has_one_message() -> None:
    (operator,) = traced(rollout(calls=(operator_call(llm_call(system="")),))).root.children
    assert [m["role"] for m in operator.children[0].inputs["messages"]] == ["user"]


def test_the_cost_of_a_model_with_a_price_of_its_own_is_not_divided() -> None:
    asked = llm_call(model="my-model", cost_usd=0.5)
    (operator,) = traced(rollout(calls=(operator_call(asked),))).root.children
    assert operator.children[0].attributes["mlflow.llm.cost"] == {
        "input_cost": 0.0,
        "output_cost": 0.0,
        "total_cost": 0.5,
    }


def test_a_failed_call_says_why_on_both_levels() -> None:
    asked = llm_call(reply="", tier="", model="", fault="no tier answered", cost_usd=0.0)
    failed = operator_call(
        asked, result={}, fault_kind=FaultKind.ENDPOINT, message="the executor is down"
    )
    one = rollout(
        status=Status.UNAVAILABLE,
        calls=(failed,),
        fault_kind=FaultKind.ENDPOINT,
        message="the executor is down",
    )
    root = traced(one).root
    (operator,) = root.children
    (executor,) = operator.children
    assert [root.error, operator.error] == ["the executor is down"] * 2
    assert operator.attributes["fault"] == "endpoint"
    assert executor.error == "no tier answered"
    assert (executor.outputs, operator.outputs) == ({}, {})
    assert "mlflow.llm.model" not in executor.attributes


def test_the_root_shows_question_workflow_answer_score_and_reward() -> None:
    one = rollout("code", correct=True, total=6.5, answer="def f(): ...")
    problem = replace(one.problem, context="Read this.", entry_point="f", alternatives=("43",))
    root = traced(replace(one, problem=problem)).root
    assert root.inputs == {
        "question": "What is 0?",
        "context": "Read this.",
        "entry_point": "f",
        "prompts": {"custom": "Solve it."},
        "workflow": "class Workflow: ...",
    }
    assert root.outputs["answer"] == "def f(): ..."
    assert (root.outputs["gold"], root.outputs["gold_alternatives"]) == ("42", ["43"])
    assert root.outputs["score"]["correct"] is True
    assert root.outputs["reward"]["total"] == 6.5
    assert "assert f() == 42" not in json.dumps([root.inputs, root.outputs])  # a hidden test


def test_a_workflow_that_never_ran_has_its_findings_and_no_children() -> None:
    finding = Finding(FaultKind.SYNTAX_ERROR, "`)` expected", line=3, hint="Close it.")
    one = rollout(
        status=Status.INVALID,
        source=None,
        findings=(finding,),
        fault_kind=FaultKind.SYNTAX_ERROR,
        message="`)` expected",
        completion=Completion("class Workflow(", (1,), (2,), (-0.1,), True),
        seconds=0.25,
    )
    root = traced(one).root
    assert root.children == []
    assert root.error == "`)` expected"
    assert root.inputs["completion"] == "class Workflow("
    (shown,) = root.outputs["findings"]
    assert shown == {
        "kind": "syntax_error",
        "message": "`)` expected",
        "line": 3,
        "severity": "reject",
        "hint": "Close it.",
    }
    # It is dated by when it was over.
    now_ns = int(NOW) * 10**9
    assert (root.start_ns, root.end_ns) == (now_ns + 59_750_000_000, now_ns + 60_000_000_000)


def test_the_fallback_is_a_child_with_operator_calls_of_its_own() -> None:
    one = rollout(
        status=Status.ERROR,
        message="it raised",
        calls=(operator_call(llm_call()),),
        fallback_calls=(operator_call(llm_call(), operator="answer_generate", started_s=NOW + 5),),
        fallback_answer="42",
    )
    root = traced(one).root
    own, fallback = root.children
    assert (own.name, fallback.name, fallback.type) == ("custom", "fallback", "CHAIN")
    assert [child.name for child in fallback.children] == ["answer_generate"]
    assert (fallback.error, fallback.outputs) == (None, {"answer": "42"})
    assert root.outputs["fallback_answer"] == "42"
    assert root.outputs["answer"] is None


def test_a_fallback_that_gave_no_answer_says_why() -> None:
    one = rollout(status=Status.ERROR, message="it raised", fallback_message="no time was left")
    (fallback,) = traced(one).root.children
    assert fallback.error == "no time was left"
    assert fallback.start_ns == fallback.end_ns == (int(NOW) + 60) * 10**9


def test_a_trace_sums_all_its_executor_calls() -> None:
    one = rollout(
        calls=(operator_call(llm_call(), llm_call(place="0.1")),),
        fallback_calls=(operator_call(llm_call(model="my-model")),),
    )
    record = traced(one)
    assert record.tokens == {"input_tokens": 300, "output_tokens": 150, "total_tokens": 450}
    assert record.cost_usd == pytest.approx(
        {"input_cost": 0.00003, "output_cost": 0.00006, "total_cost": 0.000135}
    )


def test_tags_say_what_a_trace_can_be_searched_by() -> None:
    one = rollout("qa", total=-2.5, member=3, group=4, status=Status.CUT)
    record = traced(replace(one, execution=replace(one.execution, fault_kind=FaultKind.BAD_ANSWER)))
    assert record.tags == {
        "problem": "qa/4",
        "dataset": "sample",
        "domain": "qa",
        "part": "train",
        "step": "7",
        "member": "3",
        "status": "cut",
        "fault": "bad_answer",
        "direct": "no",
        "answered_by": "none",
        "correct": "no",
        "reward": "-2.5",
    }
    assert record.key == ("run-1", "train", 7, 4, "qa/4", 3)


# Clocks


def test_a_span_holds_its_children_although_their_clocks_differ() -> None:
    early = llm_call(started_s=NOW - 0.001, seconds=2.5)  # ends 0.499 s after its operator
    one = rollout(calls=(operator_call(early, seconds=2.0),), seconds=1.0)
    root = traced(one).root
    for parent in all_spans(root):
        assert parent.start_ns <= parent.end_ns
        for child in parent.children:
            assert parent.start_ns <= child.start_ns
            assert child.end_ns <= parent.end_ns
    assert root.start_ns == int(NOW) * 10**9 - 1_000_000
    assert root.end_ns == int(NOW) * 10**9 + 2_499_000_000


def test_a_workflow_lasts_as_long_as_its_record_says() -> None:
    root = traced(rollout(calls=(operator_call(llm_call()),), seconds=9.0)).root
    assert root.end_ns - root.start_ns == 9 * 10**9


# Texts


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "b" + "x" * 1000 + "e"
    root = traced(rollout(answer=text), max_chars=101).root
    begin, end = "b" + "x" * 50, "x" * 49 + "e"
    assert root.outputs["answer"] == f"{begin}[... 901 characters left out ...]{end}"


def test_a_text_of_just_the_limit_stays_whole() -> None:
    whole = traced(rollout(answer="x" * 100), max_chars=100).root.outputs["answer"]
    cut = traced(rollout(answer="x" * 101), max_chars=100).root.outputs["answer"]
    assert whole == "x" * 100
    assert cut == "x" * 50 + "[... 1 characters left out ...]" + "x" * 50


def test_lone_surrogates_are_escaped_and_nul_stays() -> None:
    one = rollout(
        calls=(operator_call(llm_call(prompt="a\ud800b\0c"), arguments={"\udfff": "\ud83d"}),),
        answer="\ud800",
    )
    one = replace(one, problem=replace(one.problem, id="\0\ud800" + "i" * 1000))
    record = traced(one)
    (operator,) = record.root.children
    (executor,) = operator.children
    assert executor.inputs["messages"][1]["content"] == "a\\ud800b\0c"
    assert operator.inputs == {"\\udfff": "\\ud83d"}
    assert record.tags["problem"].startswith("\\x00\\ud800iii")
    assert len(record.tags["problem"]) == 250
    assert record.response == "\\ud800"


def test_values_of_every_type_and_size_are_shown_in_plain_json() -> None:
    deep: Any = "bottom"
    for _ in range(50):
        deep = [deep]
    arguments = {
        "big": 10**5000,
        "small": -5,
        "nan": float("nan"),
        "bytes": b"\x00\xff",
        "set": {1},
        "pairs": {(1, 2): None},
        "deep": deep,
        "many": list(range(10**6)),
        "wide": {str(n): [n] * 100 for n in range(1000)},
    }
    (operator,) = traced(rollout(calls=(operator_call(arguments=arguments),)), 100).root.children
    shown = operator.inputs
    assert (shown["small"], shown["nan"], shown["set"]) == (-5, "nan", [1])
    assert shown["big"].startswith("0x") and len(shown["big"]) < 200
    assert shown["pairs"] == {"(1, 2)": None}
    assert "too deep to be shown" in json.dumps(shown["deep"])
    assert shown["many"][-1].endswith("more left out)")
    assert len(shown["many"]) < 300
    assert any("more left out" in key for key in shown["wide"])
    assert len(json.dumps(shown, allow_nan=False)) < 20_000


SHORT = st.text(st.characters(), max_size=20)
TEXTS = SHORT | st.builds(str.__mul__, SHORT, st.integers(0, 50))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary()
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(SHORT | st.integers(), inner)
)


@settings(max_examples=50, deadline=None)
@given(arguments=st.dictionaries(SHORT, VALUES), prompt=TEXTS, max_chars=st.integers(100, 150))
def test_whatever_a_model_wrote_gives_bounded_utf8_json(
    arguments: dict[str, Any], prompt: str, max_chars: int
) -> None:
    asked = llm_call(system=prompt, prompt=prompt, reply=prompt)
    one = rollout(calls=(operator_call(asked, arguments=arguments),), answer=prompt)
    record = traced(one, max_chars)
    for span in all_spans(record.root):
        for part in (span.inputs, span.outputs, span.attributes):
            json.dumps(part, ensure_ascii=False, allow_nan=False).encode()
    (operator,) = record.root.children
    shown = operator.children[0].inputs["messages"][-1]["content"]
    note = f"[... {len(prompt) - max_chars} characters left out ...]"
    # An escaped surrogate takes six characters.
    assert len(shown) <= 6 * min(len(prompt), max_chars) + len(note)
    if len(prompt) <= max_chars and prompt.isascii():
        assert shown == prompt
