"""Traces in a real MLflow store: what comes back is what the records say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executed_world import CODE, MARKERS, MATH, QA, WORLD, completion, opened, written
from made_rollouts import rollout
from mlflow.entities import Span, Trace
from stored_traces import run_in, stored, write
from trainer_runs import new_root, run_verb, write_settings

from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import (
    Execution,
    LLMCall,
    OperatorCall,
    RewardBreakdown,
    Rollout,
    Score,
    to_dict,
)
from aflow_grpo.training.storing import STRUCTURE
from aflow_grpo.training.tracking import RunLogger

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

SOLVED = written(
    "r = await self.answer_generate(input=problem)",
    "p = await self.programmer(problem=problem, analysis='none')",
    "s = await self.sc_ensemble(solutions=[r['answer'], p['output'], '7'], problem=problem)",
    'return s["response"], COST',
)
CODED = written(
    "r = await self.custom_code_generate(problem=problem, entry_point=entry_point, instruction='')",
    "t = await self.test(problem=problem, solution=r['response'], entry_point=entry_point)",
    'return t["solution"], COST',
)
RAISES = written(
    "r = await self.custom(input=problem, instruction='')",
    "return r['response'].split()[10 ** 6], COST",
)


@pytest.fixture(scope="module")
def executed() -> list[Rollout]:
    """Rollouts that were really executed: solved ones, one that raised, one that is no workflow."""
    cases = [
        (SOLVED, MATH[0], False),
        (CODED, CODE[0], False),
        (RAISES, QA[0], True),
        (completion("not \0 a \ud800 workflow"), MATH[1], True),
        (completion("nothing"), MATH[2], False),
    ]

    async def run() -> list[Execution]:
        with Simulator(WORLD, MARKERS) as simulator:
            async with opened(simulator.tier()) as world:
                return [
                    await world.executor.execute(text, problem.visible, seed=seed, fallback=rescue)
                    for seed, (text, problem, rescue) in enumerate(cases)
                ]

    executions = asyncio.run(run())
    reward = RewardBreakdown(65, 10, 10, 5, 5, 0, 9.5)
    return [
        Rollout(problem, text, execution, Score(1.0, True), reward, group, 0)
        for group, ((text, problem, _), execution) in enumerate(zip(cases, executions, strict=True))
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_root(tmp_path_factory.mktemp("traced") / "run")


@pytest.fixture
def logger(root: Path) -> Iterator[RunLogger]:
    """A run of its own in a store that all tests share."""
    with run_in(root) as logger:
        yield logger


def children(trace: Trace, parent: Span) -> list[Span]:
    return [span for span in trace.data.spans if span.parent_id == parent.span_id]


# What is stored


def test_every_span_says_what_its_record_says(logger: RunLogger, executed: list[Rollout]) -> None:
    tracer = write(logger, executed)
    assert (tracer.written, tracer.lost) == (5, 0)
    traces = stored(logger)
    assert len(traces) == 5
    for trace, one in zip(traces, executed, strict=True):
        execution = one.execution
        (root,) = [span for span in trace.data.spans if span.parent_id is None]
        assert root.inputs["question"] == one.problem.question
        assert root.outputs["answer"] == execution.answer
        assert root.outputs["gold"] == one.problem.answer
        assert root.outputs["reward"] == to_dict(one.reward)
        assert root.attributes["usage"] == to_dict(execution.usage)
        below = children(trace, root)
        if execution.fallback_calls:
            fallback = below.pop()
            assert (fallback.name, fallback.span_type) == ("fallback", "CHAIN")
            assert fallback.outputs == {"answer": execution.fallback_answer}
            assert_operators(trace, fallback, execution.fallback_calls)
        assert [span.name for span in below] == [call.operator for call in execution.calls]
        assert_operators(trace, root, execution.calls)
    kinds = Counter(span.name for trace in traces for span in trace.data.spans)
    assert kinds["fallback"] == 2
    assert kinds["executor"] >= 6


def assert_operators(trace: Trace, parent: Span, calls: tuple[OperatorCall, ...]) -> None:
    spans = [span for span in children(trace, parent) if span.name != "fallback"]
    for span, call in zip(spans, calls, strict=True):
        assert (span.name, span.span_type) == (call.operator, "TOOL")
        assert span.inputs == dict(call.arguments)
        assert span.outputs == dict(call.result)
        assert span.attributes["tiers"] == list(call.tiers)
        assert span.attributes["usage"] == to_dict(call.usage)
        assert span.status.status_code.value == ("ERROR" if call.fault_kind else "OK")
        assert_within(span, parent)
        for asked, llm_call in zip(children(trace, span), call.llm_calls, strict=True):
            assert_within(asked, span)
            assert_executor(asked, llm_call)


def assert_executor(span: Span, call: LLMCall) -> None:
    assert span.span_type == "CHAT_MODEL"
    contents = [message["content"] for message in span.inputs["messages"]]
    assert contents == [call.system, call.prompt]
    assert span.outputs["choices"][0]["message"]["content"] == call.reply
    assert span.attributes["mlflow.chat.tokenUsage"] == {
        "input_tokens": call.prompt_tokens,
        "output_tokens": call.completion_tokens,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
    }
    assert span.llm_cost is not None
    assert set(span.llm_cost) == {"input_cost", "output_cost", "total_cost"}
    assert span.llm_cost["total_cost"] == call.cost_usd
    for name in ("billed_usd", "tier", "attempts", "place", "finish_reason"):
        assert span.attributes[name] == getattr(call, name)
    assert span.start_time_ns / 1e9 == pytest.approx(call.started_s, abs=1e-4)
    assert span.end_time_ns is not None
    assert (span.end_time_ns - span.start_time_ns) / 1e9 == pytest.approx(call.seconds, abs=1e-4)


def assert_within(span: Span, parent: Span) -> None:
    assert span.end_time_ns is not None
    assert parent.end_time_ns is not None
    assert parent.start_time_ns <= span.start_time_ns <= span.end_time_ns <= parent.end_time_ns


def test_a_trace_is_linked_to_its_run_and_found_by_its_tags(
    logger: RunLogger, executed: list[Rollout]
) -> None:
    write(logger, executed)
    solved, *_, never_ran = stored(logger)
    info = solved.info
    assert info.trace_metadata["mlflow.sourceRun"] == logger.run_id
    assert info.experiment_id == logger.experiment_id
    assert (info.state.value, never_ran.info.state.value) == ("OK", "ERROR")
    assert info.request_preview == MATH[0].question
    assert never_ran.info.response_preview == executed[-1].execution.message
    calls = [c for call in executed[0].execution.calls for c in call.llm_calls]
    assert info.token_usage is not None
    assert info.token_usage["input_tokens"] == sum(call.prompt_tokens for call in calls)
    assert info.cost is not None
    assert info.cost["total_cost"] == pytest.approx(sum(call.cost_usd for call in calls))
    wanted = {
        "problem": "math/0", "dataset": "sample", "domain": "math", "part": "train", "step": "7",
        "member": "0", "status": "ok", "fault": "", "direct": "yes", "answered_by": "own",
        "correct": "yes", "reward": "9.5",
    }  # fmt: skip
    assert {name: info.tags[name] for name in wanted} == wanted
    by_tag = stored(logger, "tags.answered_by = 'fallback' AND tags.status = 'invalid'")
    assert [trace.info.tags["problem"] for trace in by_tag] == ["math/1"]


def test_a_repeated_step_replaces_its_traces(logger: RunLogger, executed: list[Rollout]) -> None:
    write(logger, executed)
    before = stored(logger)
    write(logger, executed)
    again = stored(logger)
    assert [t.info.trace_id for t in again] == [t.info.trace_id for t in before]
    assert [without_times(t) for t in again] == [without_times(t) for t in before]
    # Another answer, or another place, is another trace.
    other = replace(executed[0], execution=replace(executed[0].execution, answer="8"))
    write(logger, [other])
    assert len(stored(logger)) == 6


def without_times(trace: Trace) -> list[dict[str, Any]]:
    spans = [span.to_dict() for span in trace.data.spans]
    return [{k: v for k, v in span.items() if "_time_" not in k} for span in spans]


def test_texts_of_any_kind_and_size_are_stored(logger: RunLogger) -> None:
    wild = "\ud800\0\u2028\U0001f600" * 5000
    reply = '{"a": [1, 2]}'  # JSON as a text stays a text
    asked = LLMCall(
        "0.0", wild, wild, reply, wild, wild, 1, 10**15, 1, 1e300, 0.0, 1.7e9, 1.0, wild
    )
    call = OperatorCall(
        "custom", {wild: wild, "n": 10**400}, {"response": reply}, rollout().execution.usage, 1.0,
        llm_calls=(asked,), started_s=1.7e9,
    )  # fmt: skip
    one = rollout(calls=(call,), answer=wild)
    one = replace(one, problem=replace(one.problem, id=wild, dataset=wild, question=wild))
    tracer = write(logger, [one], TraceSettings(sample_rate=1.0))
    assert (tracer.written, tracer.lost) == (1, 0)
    ((root, operator, executor),) = [trace.data.spans for trace in stored(logger)]
    assert executor.outputs["choices"][0]["message"]["content"] == reply
    assert operator.outputs == {"response": reply}
    shown = root.outputs["answer"]
    assert shown.startswith("\\ud800\0\u2028\U0001f600\\ud800\0")
    assert "[... 18000 characters left out ...]" in shown
    assert len(json.dumps(root.outputs)) < 20_000


def test_traces_of_hundreds_of_spans_are_stored_whole(
    logger: RunLogger, executed: list[Rollout]
) -> None:
    one = executed[0]
    many = replace(one, execution=replace(one.execution, calls=one.execution.calls * 100))
    write(logger, [many])
    (trace,) = stored(logger)
    assert len({span.span_id for span in trace.data.spans}) == len(trace.data.spans) > 500


def test_a_fit_traces_every_rollout_that_it_stores(tmp_path: Path) -> None:
    run = new_root(tmp_path / "fit")
    settings = write_settings(
        tmp_path,
        trainer__max_steps=1,
        trainer__val_check_interval=1,
        trainer__default_root_dir=str(run),
        model__evaluation__execute_every=1,
        llm__traces__sample_rate=1.0,
    )
    assert run_verb("fit", "--config", settings) == 0
    with closing(sqlite3.connect(run / "journal.db")) as journal:
        rows = journal.execute(
            'SELECT part, step, "group", problem_id, member FROM rollouts WHERE part <> ?',
            (STRUCTURE,),
        ).fetchall()
    with closing(sqlite3.connect(run / "mlflow.db")) as database:
        tags = database.execute("SELECT request_id, key, value FROM trace_tags").fetchall()
        groups = database.execute(
            "SELECT trace_id, json_extract(content, '$.attributes.group') FROM spans "
            "WHERE parent_span_id IS NULL"
        ).fetchall()
    traces: dict[str, dict[str, str]] = {}
    for trace, name, value in [*tags, *((trace, "group", group) for trace, group in groups)]:
        traces.setdefault(trace, {})[name] = value
    shown = [
        (t["part"], int(t["step"]), int(t["group"]), t["problem"], int(t["member"]))
        for t in traces.values()
    ]
    assert sorted(shown) == sorted(rows)
    assert {part for part, *_ in shown} > {"train"}
