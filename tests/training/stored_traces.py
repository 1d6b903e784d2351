"""Traces of a run, as a client that knows nothing of ours reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Trace
from mlflow.tracking import MlflowClient

from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import Rollout
from aflow_grpo.training.storing import Place
from aflow_grpo.training.traces import Tracer
from aflow_grpo.training.tracking import RunLogger

__all__ = ["ALL", "ENDED_S", "place", "run_in", "stored", "write"]

ALL = TraceSettings(sample_rate=1.0, max_chars=100_000)
ENDED_S = 60.0


@contextmanager
def run_in(root: Path) -> Iterator[RunLogger]:
    """A run of its own in the store of `root`."""
    logger = RunLogger(root)
    assert logger.run_id
    yield logger
    logger.finalize("success")


def write(logger: RunLogger, rollouts: Sequence[Rollout], settings: TraceSettings = ALL) -> Tracer:
    """Trace rollouts of one draw, to the end."""
    tracer = Tracer(logger, settings)
    tracer.add(rollouts, place(logger))
    tracer.close(ENDED_S)
    return tracer


def place(logger: RunLogger, step: int = 7, part: str = "train") -> Place:
    """Where rollouts of the logger's run belong."""
    assert logger.run_id is not None
    return Place(logger.run_id, part, step)


def stored(logger: RunLogger, query: str | None = None) -> list[Trace]:
    """The run's traces that `query` finds, by group."""
    found = MlflowClient(logger.tracking_uri).search_traces(
        locations=[str(logger.experiment_id)],
        run_id=logger.run_id,
        filter_string=query,
        max_results=1000,
    )
    return sorted(found, key=lambda trace: int(trace.data.spans[0].attributes["group"]))
