"""Writes traces to an MLflow store, any that MLflow has: SQLite, another database, a server.

Through MLflow's tracing client with the store's address and the run's id given: no tracer provider,
no active run or experiment of the process is touched. A trace's id is a hash of where the rollout
belongs and of what happened, so a resumed run that repeats an iteration replaces its traces.

Imports MLflow, which takes seconds: imported by the thread that writes, when there is something.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.client import TracingClient

from aflow_grpo.training.trace_spans import SpanTree, TraceRecord

__all__ = ["TraceStore"]


class TraceStore:
    """Where the traces of one run go.

    Args:
        tracking_uri: Address of the store.
        experiment_id: The run's experiment.
        run_id: The run.
    """

    def __init__(self, tracking_uri: str, experiment_id: str, run_id: str) -> None:
        self._client = TracingClient(tracking_uri)
        self._experiment_id = experiment_id
        self._run_id = run_id

    def write(self, traces: Sequence[TraceRecord], pause: Callable[[], object]) -> None:
        """Write traces: one transaction for each head, one for all their spans.

        Args:
            traces: What to write.
            pause: Called after a transaction when another is to come, to let others write too.

        Raises:
            MlflowException: The store did not take them.
        """
        spans: list[Span] = []
        for trace in traces:
            number = _trace_number(trace)
            self._client.start_trace(self._head(trace, f"tr-{number:032x}"))
            spans += _spans(trace.root, number)
            pause()
        self._client.log_spans(self._experiment_id, spans)

    def _head(self, trace: TraceRecord, trace_id: str) -> TraceInfo:
        root = trace.root
        return TraceInfo(
            trace_id=trace_id,
            trace_location=TraceLocation.from_experiment_id(self._experiment_id),
            request_time=root.start_ns // 1_000_000,
            execution_duration=(root.end_ns - root.start_ns) // 1_000_000,
            state=TraceState.OK if root.error is None else TraceState.ERROR,
            request_preview=trace.request,
            response_preview=trace.response,
            trace_metadata={
                "mlflow.sourceRun": self._run_id,
                "mlflow.trace.tokenUsage": json.dumps(trace.tokens),
                "mlflow.trace.cost": json.dumps(trace.cost_usd),
                "mlflow.trace_schema.version": "3",
            },
            tags={"mlflow.traceName": root.name, **trace.tags},
        )


def _trace_number(trace: TraceRecord) -> int:
    """128 bits, the same for the same rollout at the same place; times do not count."""

    def content(span: SpanTree) -> list[Any]:
        return [span.name, span.inputs, span.outputs, [content(child) for child in span.children]]

    text = json.dumps([trace.key, content(trace.root)], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def _spans(root: SpanTree, trace_number: int) -> Iterator[Span]:
    """The spans in depth-first order, numbered in it from 1: an id need only be unique in a trace,
    and must not be 0."""
    number = 0

    def walk(span: SpanTree, parent: int | None) -> Iterator[Span]:
        nonlocal number
        number += 1
        own = number
        yield _span(span, trace_number, own, parent)
        for child in span.children:
            yield from walk(child, own)

    return walk(root, None)


def _span(span: SpanTree, trace_number: int, number: int, parent: int | None) -> Span:
    attributes = {
        "mlflow.traceRequestId": f"tr-{trace_number:032x}",
        "mlflow.spanType": span.type,
        "mlflow.spanInputs": span.inputs,
        "mlflow.spanOutputs": span.outputs,
        **span.attributes,
    }
    return Span.from_dict(
        {
            "trace_id": _bytes64(trace_number, 16),
            "span_id": _bytes64(number, 8),
            "parent_span_id": _bytes64(parent, 8) if parent is not None else None,
            "name": span.name,
            "start_time_unix_nano": span.start_ns,
            "end_time_unix_nano": span.end_ns,
            "status": {
                "code": "STATUS_CODE_OK" if span.error is None else "STATUS_CODE_ERROR",
                "message": span.error or "",
            },
            "attributes": {
                name: json.dumps(value, ensure_ascii=False) for name, value in attributes.items()
            },
            "events": [],
            "links": [],
        }
    )


def _bytes64(number: int, size: int) -> str:
    return base64.b64encode(number.to_bytes(size, "big")).decode()
