"""Traces of a run, as a client that knows nothing of ours reads them."""

from __future__ import annotations

from mlflow.entities import Trace
from mlflow.tracking import MlflowClient

from aflow_grpo.training.storing import Place
from aflow_grpo.training.tracking import RunLogger

__all__ = ["place", "stored"]


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
