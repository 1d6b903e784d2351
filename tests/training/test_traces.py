"""Traces in a real MLflow store: what comes back is what the records say, and nothing waits."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from executed_world import CODE, MARKERS, MATH, QA, WORLD, completion, opened, written
from made_rollouts import rollout
from mlflow.entities import Span, Trace
from mlflow.tracking import MlflowClient
from opentelemetry import trace as otel
from trainer_runs import new_root, run_verb, write_settings

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import (
    Execution,
    LLMCall,
    OperatorCall,
    RewardBreakdown,
    Rollout,
    Score,
    Status,
    to_dict,
)
from aflow_grpo.training.storing import STRUCTURE, Place
from aflow_grpo.training.traces import Tracer, choose
from aflow_grpo.training.tracking import RunLogger

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

ALL = TraceSettings(sample_rate=1.0, max_chars=100_000)
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
ENDED_S = 60.0


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
    logger = RunLogger(root)
    assert logger.run_id
    yield logger
    logger.finalize("success")


def place(logger: RunLogger, step: int = 7, part: str = "train") -> Place:
    assert logger.run_id is not None
    return Place(logger.run_id, part, step)


def write(logger: RunLogger, rollouts: list[Rollout], settings: TraceSettings = ALL) -> Tracer:
    tracer = Tracer(logger, settings)
    tracer.add(rollouts, place(logger))
    tracer.close(ENDED_S)
    return tracer


def stored(logger: RunLogger, query: str | None = None) -> list[Trace]:
    """The run's traces, as a client that knows nothing of ours reads them, by group."""
    client = MlflowClient(logger.tracking_uri)
    found = client.search_traces(
        locations=[str(logger.experiment_id)],
        run_id=logger.run_id,
        filter_string=query,
        max_results=1000,
    )
    return sorted(found, key=lambda trace: int(trace.data.spans[0].attributes["group"]))


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


# Which are chosen


def draw(count: int, *, ran: float) -> list[Rollout]:
    """Rollouts of which a share ran to an answer."""
    return [
        rollout(group=n // 8, member=n % 8, status=Status.OK if n < ran * count else Status.INVALID)
        for n in range(count)
    ]


def test_the_share_of_traced_rollouts_is_the_rate() -> None:
    counts = [len(choose(draw(64, ran=0.5), Place("r", "train", step), 0.1)) for step in range(200)]
    # Binomial, n = 12,800: six standard deviations are 204.
    assert abs(sum(counts) - 1280) < 204
    assert len(set(counts)) > 5


@pytest.mark.parametrize("ran", [0.05, 0.95])
def test_of_those_that_ran_and_those_that_did_not_as_many_are_chosen(ran: float) -> None:
    chosen = [
        one.execution.status
        for step in range(100)
        for one in choose(draw(64, ran=ran), Place("r", "train", step), 0.02)
    ]
    assert 0.35 < Counter(chosen)[Status.OK] / len(chosen) < 0.65


def test_the_choice_depends_on_seed_and_place_alone() -> None:
    rollouts, here = draw(64, ran=0.5), Place("one run", "train", 3)
    picked = [choose(rollouts, p, 0.2, seed) for p, seed in (
        (here, 0), (replace(here, run="another"), 0),
        (here, 1), (replace(here, step=4), 0), (replace(here, part="val"), 0),
    )]  # fmt: skip
    keys = [sorted((r.group, r.member) for r in chosen) for chosen in picked]
    assert keys[0] == keys[1]
    assert all(keys[0] != other for other in keys[2:])
    assert len(choose(rollouts, here, 1.0)) == 64
    assert choose(rollouts, here, 0.0) == []


def test_nothing_is_traced_of_a_draw_that_was_only_checked(logger: RunLogger) -> None:
    tracer = Tracer(logger, ALL)
    tracer.add(draw(8, ran=1.0), place(logger, part=STRUCTURE))
    tracer.close(ENDED_S)
    off = write(logger, draw(8, ran=1.0), TraceSettings(sample_rate=0.0))
    assert tracer.written == off.written == 0
    assert stored(logger) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sample_rate": -0.1}, "llm.traces.sample_rate=-0.1: expected a share from 0"),
        ({"sample_rate": 1.5}, "llm.traces.sample_rate=1.5: expected a share from 0"),
        ({"sample_rate": float("nan")}, "llm.traces.sample_rate=nan: expected a share from 0"),
        ({"max_chars": 99}, "llm.traces.max_chars=99: expected at least 100"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TraceSettings(**wrong)


# Nothing waits, nothing breaks


@dataclass
class Target:
    """A run in a store that need not be there."""

    tracking_uri: str
    experiment_id: str | None = "1"
    run_id: str | None = "r"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A tracking server that takes connections and never answers until it goes away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield Target(f"http://127.0.0.1:{server.getsockname()[1]}")
    for thread in threading.enumerate():
        if thread.name == "traces":
            thread.join(60)
            assert not thread.is_alive()


def test_a_store_that_hangs_holds_up_neither_the_run_nor_its_end(
    silent: Target, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = Tracer(silent, ALL)
    started = time.perf_counter()
    for step in range(20):
        tracer.add(draw(64, ran=0.5), Place("r", "train", step))
    assert time.perf_counter() - started < 5
    with caplog.at_level(logging.WARNING):
        tracer.close(0.2)
    assert time.perf_counter() - started < 30  # the request alone would take ten minutes
    # What waited, what was dropped and what hangs: every one is counted.
    assert (tracer.written, tracer.lost) == (0, 20 * 64)
    first, last = [r.getMessage() for r in caplog.records if r.name.startswith("aflow_grpo")]
    assert "Traces are dropped: the MLflow store is slower than the run" in first
    assert "1280 traces of rollouts are missing in MLflow (0 refused by the store, 1280" in last
    tracer.add(draw(8, ran=1.0), Place("r", "train", 21))  # too late, and no error
    tracer.close(0.0)
    assert tracer.lost == 20 * 64 + 8


def test_a_store_that_refuses_costs_its_traces_and_one_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Target(f"sqlite:///{root / 'mlflow.db'}", experiment_id="987654")
    tracer = Tracer(nowhere, ALL)
    with caplog.at_level(logging.WARNING, logger="aflow_grpo"):
        for step in range(3):
            tracer.add(draw(8, ran=0.5), Place("r", "train", step))
        tracer.close(ENDED_S)
    assert (tracer.written, tracer.lost) == (0, 24)
    first, last = [r.getMessage() for r in caplog.records if r.name.startswith("aflow_grpo")]
    assert "cannot be written to MLflow (MlflowException: No Experiment with id=987654" in first
    assert "24 traces of rollouts are missing in MLflow (24 refused" in last


def test_after_a_failure_later_traces_are_written(
    logger: RunLogger, executed: list[Rollout], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Path(logger.tracking_uri.removeprefix("sqlite:///"))
    tracer = Tracer(logger, ALL)
    aside = database.with_suffix(".aside")
    database.rename(aside)
    database.mkdir()  # a directory is no database
    try:
        tracer.add(executed, place(logger, step=1))
        wait_for(lambda: tracer.lost == 5)
    finally:
        database.rmdir()
        aside.rename(database)
    tracer.add(executed, place(logger, step=2))
    tracer.close(ENDED_S)
    assert (tracer.written, tracer.lost) == (5, 5)
    assert {trace.info.tags["step"] for trace in stored(logger)} == {"2"}


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def test_a_tracer_needs_a_run_that_has_begun() -> None:
    with pytest.raises(ValueError, match="a run that has begun"):
        Tracer(Target("sqlite:///x.db", run_id=None), ALL)


def test_metrics_and_traces_share_the_database(
    logger: RunLogger, executed: list[Rollout], caplog: pytest.LogCaptureFixture
) -> None:
    """Both are written at once; neither is refused, and all of both is there."""
    tracer = Tracer(logger, ALL)
    waits_s = []
    with caplog.at_level(logging.WARNING):
        for step in range(15):
            tracer.add(executed, place(logger, step=step))
            started = time.perf_counter()
            logger.log_metrics({f"train/{n}": float(step) for n in range(30)}, step)
            waits_s.append(time.perf_counter() - started)
        tracer.close(ENDED_S)
    assert (tracer.written, tracer.lost) == (75, 0)
    assert caplog.records == []  # a locked database would be one
    assert max(waits_s) < 5  # SQLite gives up after 20 s
    history = logger.experiment.get_metric_history(logger.run_id, "train/29")
    assert [metric.value for metric in history] == [float(step) for step in range(15)]
    client = MlflowClient(logger.tracking_uri)
    heads = client.search_traces(
        locations=[str(logger.experiment_id)],
        run_id=logger.run_id,
        include_spans=False,
        max_results=500,
    )
    assert len(heads) == 75


def test_the_process_keeps_its_tracer_provider_and_has_no_active_run(
    logger: RunLogger, executed: list[Rollout]
) -> None:
    import mlflow

    provider, address = otel.get_tracer_provider(), mlflow.get_tracking_uri()
    write(logger, executed)
    assert otel.get_tracer_provider() is provider
    assert mlflow.get_tracking_uri() == address
    assert mlflow.active_run() is None
    assert mlflow.get_last_active_trace_id() is None


def test_nothing_imports_mlflow_before_there_is_a_trace_to_write() -> None:
    code = (
        "import sys, aflow_grpo.llm.trace_settings\n"
        "assert not {'mlflow', 'torch', 'lightning'} & set(sys.modules)\n"
        "import aflow_grpo.training.traces\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
