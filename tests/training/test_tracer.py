"""Which rollouts are traced; and that a run never waits for it and never breaks on it."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from made_rollouts import call, rollout
from mlflow.tracking import MlflowClient
from opentelemetry import trace as otel
from stored_traces import ALL, ENDED_S, place, run_in, stored, write
from trainer_runs import new_root

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import Rollout, Status
from aflow_grpo.training.storing import STRUCTURE, Place
from aflow_grpo.training.traces import Tracer, choose
from aflow_grpo.training.tracking import RunLogger

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_root(tmp_path_factory.mktemp("tracer") / "run")


@pytest.fixture
def logger(root: Path) -> Iterator[RunLogger]:
    """A run of its own in a store that all tests share."""
    with run_in(root) as logger:
        yield logger


# Which are chosen


def draw(count: int, *, ran: float) -> list[Rollout]:
    """Rollouts of which a share ran to an answer."""
    return [
        rollout(
            group=n // 8,
            member=n % 8,
            status=Status.OK if n < ran * count else Status.ERROR,
            calls=(call("custom"),) * 3,
        )
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
    logger: RunLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Path(logger.tracking_uri.removeprefix("sqlite:///"))
    tracer = Tracer(logger, ALL)
    aside = database.with_suffix(".aside")
    database.rename(aside)
    database.mkdir()  # a directory is no database
    try:
        tracer.add(draw(5, ran=0.5), place(logger, step=1))
        wait_for(lambda: tracer.lost == 5)
    finally:
        database.rmdir()
        aside.rename(database)
    tracer.add(draw(5, ran=0.5), place(logger, step=2))
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
    logger: RunLogger, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are written at once; neither is refused, and all of both is there."""
    tracer = Tracer(logger, ALL)
    waits_s = []
    with caplog.at_level(logging.WARNING):
        for step in range(15):
            tracer.add(draw(5, ran=0.5), place(logger, step=step))
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


def test_the_process_keeps_its_tracer_provider_and_has_no_active_run(logger: RunLogger) -> None:
    import mlflow

    provider, address = otel.get_tracer_provider(), mlflow.get_tracking_uri()
    write(logger, draw(5, ran=0.5))
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
