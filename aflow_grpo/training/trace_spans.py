"""One rollout as a tree of spans: the workflow, its operator calls, their executor calls.

Made after the fact from the records, so nothing that runs knows of traces. A fallback is a child of
its own with its own operator calls. A workflow that never ran has no children; its findings are in
the outputs. Long texts lose their middle, and lone surrogates are escaped, since no store takes
them. Not shown: hidden tests, which are long. Not here: MLflow (`trace_store`), which rollouts are
traced and when (`traces`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aflow_grpo.llm.prices import PRICES
from aflow_grpo.records import Execution, LLMCall, OperatorCall, Rollout, Status, to_dict
from aflow_grpo.training.storing import Place

__all__ = ["SpanTree", "TraceRecord", "make_trace"]

SpanType = Literal["CHAIN", "TOOL", "CHAT_MODEL"]

_MAX_PARTS = 200
_MAX_DEPTH = 8
_MAX_INT = 1 << 63
_MAX_TAG = 250


@dataclass(frozen=True)
class SpanTree:
    """One span and what it holds, in plain JSON types."""

    name: str
    type: SpanType
    start_ns: int
    """Unix time."""
    end_ns: int
    """Not before the start, and not before the end of any child."""
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    attributes: Mapping[str, Any]
    """Under MLflow's names where it has one."""
    error: str | None = None
    """Why it failed; None when it did not."""
    children: Sequence[SpanTree] = ()


@dataclass(frozen=True)
class TraceRecord:
    """A rollout's trace, before it has an id."""

    key: tuple[str | int, ...]
    """Where the rollout belongs: run, part, step, group, problem, member."""
    root: SpanTree
    tags: Mapping[str, str]
    request: str
    """What a list of traces shows of the inputs."""
    response: str
    """And of the outputs."""
    tokens: Mapping[str, int]
    """Of all executor calls, the fallback's included, under MLflow's names."""
    cost_usd: Mapping[str, float]
    """Their list cost, under MLflow's names."""


def make_trace(rollout: Rollout, place: Place, stored_s: float, max_chars: int) -> TraceRecord:
    """The trace of a rollout.

    Args:
        rollout: What happened.
        place: Where it belongs.
        stored_s: Unix time when it was over; what a workflow without calls is dated by.
        max_chars: Longest text shown, in characters.
    """
    problem, execution = rollout.problem, rollout.execution
    spans = _Spans(max_chars)
    asked = [c for o in (*execution.calls, *execution.fallback_calls) for c in o.llm_calls]
    answer = execution.answer if execution.status is Status.OK else execution.message
    return TraceRecord(
        key=(place.run, place.part, place.step, rollout.group, problem.id, rollout.member),
        root=spans.workflow(rollout, stored_s),
        tags={name: _tag(value) for name, value in _tags(rollout, place).items()},
        request=_tag(problem.question),
        response=_tag(answer or ""),
        tokens=_tokens(asked),
        cost_usd=_cost_usd(asked),
    )


def _tags(rollout: Rollout, place: Place) -> dict[str, str]:
    problem, execution = rollout.problem, rollout.execution
    return {
        "problem": problem.id,
        "dataset": problem.dataset,
        "domain": problem.domain,
        "part": place.part,
        "step": str(place.step),
        "member": str(rollout.member),
        "status": str(execution.status),
        "fault": str(execution.fault_kind or ""),
        "direct": _yes(execution.direct),
        "answered_by": execution.answered_by,
        "correct": _yes(rollout.score.correct),
        "reward": f"{rollout.reward.total:.4g}",
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _tag(text: str) -> str:
    """A text for a column that holds short ones, in any database."""
    return _encodable(text[: _MAX_TAG + 1].replace("\0", "\\x00"))[:_MAX_TAG]


def _encodable(text: str) -> str:
    """Without lone surrogates, which are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


class _Spans:
    """Makes spans of records.

    Args:
        max_chars: Longest text.
    """

    def __init__(self, max_chars: int) -> None:
        self._shorten = _Shortener(max_chars)

    def workflow(self, rollout: Rollout, stored_s: float) -> SpanTree:
        """The root."""
        execution = rollout.execution
        children = [self._operator(call) for call in execution.calls]
        if _fell_back(execution):
            children.append(self._fallback(execution, stored_s))
        started_ns = _ns(stored_s - execution.seconds)
        if children:
            started_ns = min(child.start_ns for child in children)
        failed = execution.status is not Status.OK
        return SpanTree(
            "workflow",
            "CHAIN",
            started_ns,
            _end(started_ns, execution.seconds, children),
            self._shorten(_workflow_inputs(rollout)),
            self._shorten(_workflow_outputs(rollout)),
            self._shorten(_workflow_attributes(rollout)),
            self._shorten.text(execution.message or str(execution.status)) if failed else None,
            children,
        )

    def _fallback(self, execution: Execution, stored_s: float) -> SpanTree:
        calls = [self._operator(call) for call in execution.fallback_calls]
        started_ns = min((call.start_ns for call in calls), default=_ns(stored_s))
        return SpanTree(
            "fallback",
            "CHAIN",
            started_ns,
            _end(started_ns, 0.0, calls),
            {},
            self._shorten({"answer": execution.fallback_answer}),
            {"usage": to_dict(execution.fallback_usage)},
            self._shorten.text(execution.fallback_message) or None,
            calls,
        )

    def _operator(self, call: OperatorCall) -> SpanTree:
        asked = [self._executor(llm_call) for llm_call in call.llm_calls]
        started_ns = min([_ns(call.started_s), *(child.start_ns for child in asked)])
        attributes: dict[str, Any] = {"usage": to_dict(call.usage), "tiers": list(call.tiers)}
        if call.fault_kind is not None:
            attributes["fault"] = str(call.fault_kind)
        return SpanTree(
            self._shorten.text(call.operator),
            "TOOL",
            started_ns,
            _end(_ns(call.started_s), call.seconds, asked),
            self._shorten(call.arguments),
            self._shorten(call.result),
            self._shorten(attributes),
            None
            if call.fault_kind is None
            else self._shorten.text(call.message or str(call.fault_kind)),
            asked,
        )

    def _executor(self, call: LLMCall) -> SpanTree:
        messages = [{"role": "system", "content": call.system}] if call.system else []
        messages.append({"role": "user", "content": call.prompt})
        reply = {"role": "assistant", "content": call.reply}
        choice = {"index": 0, "message": reply, "finish_reason": call.finish_reason or None}
        return SpanTree(
            "executor",
            "CHAT_MODEL",
            _ns(call.started_s),
            _end(_ns(call.started_s), call.seconds, ()),
            self._shorten({"model": call.model, "messages": messages}),
            {} if call.fault else self._shorten({"choices": [choice]}),
            self._shorten(_executor_attributes(call)),
            self._shorten.text(call.fault) or None,
        )


def _executor_attributes(call: LLMCall) -> dict[str, Any]:
    named = {"mlflow.llm.model": call.model} if call.model else {}
    return named | {
        "mlflow.message.format": "openai",
        "mlflow.chat.tokenUsage": _tokens([call]),
        # Given in any case, since MLflow would else compute one by a table of its own.
        "mlflow.llm.cost": _cost_usd([call]),
        "billed_usd": call.billed_usd,
        "tier": call.tier,
        "attempts": call.attempts,
        "place": call.place,
        "finish_reason": call.finish_reason,
    }


def _tokens(calls: Iterable[LLMCall]) -> dict[str, int]:
    inputs, outputs = 0, 0
    for call in calls:
        inputs += call.prompt_tokens
        outputs += call.completion_tokens
    return {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}


def _cost_usd(calls: Iterable[LLMCall]) -> dict[str, float]:
    """The list cost in MLflow's three parts; its pages show none where one is missing.

    The records have the total. It is divided as the price table says; both parts of a model that
    is not in it are 0.
    """
    cost = {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0}
    for call in calls:
        cost["total_cost"] += call.cost_usd
        price = PRICES.get(call.model)
        if price is not None:
            inputs = float(price.usd_per_m_input) * call.prompt_tokens
            outputs = float(price.usd_per_m_output) * call.completion_tokens
            share = inputs / ((inputs + outputs) or 1.0)
            cost["input_cost"] += call.cost_usd * share
            cost["output_cost"] += call.cost_usd * (1 - share)
    return cost


def _workflow_inputs(rollout: Rollout) -> dict[str, Any]:
    problem, source = rollout.problem, rollout.execution.source
    inputs: dict[str, Any] = {"question": problem.question}
    if problem.context:
        inputs["context"] = problem.context
    if problem.entry_point:
        inputs["entry_point"] = problem.entry_point
    if source is None:
        return inputs | {"completion": rollout.completion.text}
    return inputs | {"prompts": dict(source.prompts), "workflow": source.graph_code}


def _workflow_outputs(rollout: Rollout) -> dict[str, Any]:
    execution, problem = rollout.execution, rollout.problem
    outputs: dict[str, Any] = {"answer": execution.answer, "gold": problem.answer}
    if problem.alternatives:
        outputs["gold_alternatives"] = problem.alternatives
    if _fell_back(execution):
        outputs["fallback_answer"] = execution.fallback_answer
    findings = [to_dict(finding) for finding in execution.findings]
    return outputs | {
        "score": to_dict(rollout.score),
        "reward": to_dict(rollout.reward),
        "findings": [{k: v for k, v in finding.items() if v} for finding in findings],
    }


def _workflow_attributes(rollout: Rollout) -> dict[str, Any]:
    execution, completion = rollout.execution, rollout.completion
    return {
        "fault": str(execution.fault_kind or ""),
        "group": rollout.group,
        "prompt_tokens": completion.prompt_length,
        "completion_tokens": completion.length,
        "seconds": execution.seconds,
        "usage": to_dict(execution.usage),
    }


def _fell_back(execution: Execution) -> bool:
    """Whether the fixed workflow was asked."""
    return bool(
        execution.fallback_calls
        or execution.fallback_message
        or execution.fallback_answer is not None
    )


def _ns(seconds: float) -> int:
    """Nanoseconds, of whole microseconds: a float holds no more of a Unix time."""
    return round(seconds * 1e6) * 1000


def _end(start_ns: int, seconds: float, children: Iterable[SpanTree]) -> int:
    """The end of a span that its children do not outlast: they have clocks of their own."""
    return max([start_ns + _ns(seconds), *(child.end_ns for child in children)])


@dataclass
class _Shortener:
    """Makes any value one of plain JSON types, of bounded size."""

    max_chars: int
    _parts: int = field(default=0, init=False)

    def __call__(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping's values; of one that holds very many, the first."""
        self._parts = 0
        return {self.text(str(key)): self._value(part, 0) for key, part in value.items()}

    def text(self, text: str) -> str:
        """The text, or its beginning and its end, with the number of characters between them."""
        left_out = len(text) - self.max_chars
        if left_out > 0:
            head = (self.max_chars + 1) // 2
            tail = text[head + left_out :]
            text = f"{text[:head]}[... {left_out} characters left out ...]{tail}"
        return _encodable(text)

    def _value(self, value: Any, depth: int) -> Any:
        self._parts += 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return value if abs(value) < _MAX_INT else self.text(hex(value))
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth + 1)
        return self.text(repr(value))

    def _container(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return f"({type(value).__name__} too deep to be shown)"
        whole = list(value.items() if isinstance(value, Mapping) else value)
        room = max(0, _MAX_PARTS - self._parts)
        more = [] if len(whole) <= room else [f"({len(whole) - room} more left out)"]
        if isinstance(value, Mapping):
            shown = {self.text(str(key)): self._value(part, depth) for key, part in whole[:room]}
            return shown | dict.fromkeys(more, "")
        return [self._value(part, depth) for part in whole[:room]] + more
