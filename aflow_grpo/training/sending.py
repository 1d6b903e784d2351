"""One run's records to MLflow, and which of its answers mean that asking again is in vain.

Every record may be sent twice, after a kill or an answer that was lost, and leaves the lab book as
if it had been sent once: metrics carry their own times, and a store keeps one of two equal ones.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aflow_grpo.training.outbox import FILE, METRICS, Record
from aflow_grpo.training.repeated import RepeatedMetrics

__all__ = ["Sender", "is_refusal"]

_IN_VAIN = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
_IN_VAIN_OF_A_PROXY = {400, 411, 413, 414, 415, 422}
"""MLflow's client calls most of them INTERNAL_ERROR. A proxy's 404 may be a server on its way."""
_PROXYS_WORD = re.compile(r"failed with error code (\d{3}) != 200")
_IN_VAIN_HTTP = {400, 404, 405, 411, 413, 414, 415, 422}
_IN_VAIN_FILES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}


class Sender:
    """Sends the records of one run.

    Args:
        client: MLflow's client of the store.
        run_id: The run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self.repeated: RepeatedMetrics | None = None
        """What the run had logged before it was continued; what repeats it is not sent."""

    def __call__(self, records: Sequence[Record]) -> None:
        """Send records, in their order.

        Raises:
            Exception: The store does not answer, or refuses; see `is_refusal`.
        """
        metrics = [record for record in records if record["kind"] == METRICS]
        if metrics:
            self._send_metrics(metrics)
        for record in records:
            if record["kind"] != METRICS:
                self._send_one(record)

    def _send_metrics(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric  # seconds, and `--help` needs none of it

        metrics = []
        for record in records:
            values: Mapping[str, float] = record["values"]
            if self.repeated is not None:
                values = self.repeated.new(values, record["step"])
            time_ms, step = record["time_ms"], record["step"]
            metrics += [Metric(name, value, time_ms, step) for name, value in values.items()]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _send_one(self, record: Record) -> None:
        from mlflow.entities import Param, RunTag

        kind = record["kind"]
        if kind == "params":
            params = [Param(name, text) for name, text in record["values"].items()]
            for first in range(0, len(params), 100):  # MLflow takes no more at once
                self._client.log_batch(self._run_id, params=params[first : first + 100])
        elif kind == "tags":
            tags = [RunTag(name, text) for name, text in record["values"].items()]
            self._client.log_batch(self._run_id, tags=tags)
        elif kind == "artifact":
            if os.path.exists(record[FILE]):  # else it was sent, and a kill came before the note
                self._client.log_artifact(self._run_id, record[FILE], record["folder"] or None)
        elif kind == "end":
            self._client.set_terminated(self._run_id, record["status"], record["time_ms"])


def is_refusal(error: Exception) -> bool:
    """Whether the store was there and will never take this."""
    if isinstance(error, ImportError):
        return True  # what this store's kind of artifacts needs, such as boto3, is not installed
    code = getattr(error, "error_code", None)
    if code is not None:
        told = _PROXYS_WORD.search(str(error))
        proxys = told is not None and int(told[1]) in _IN_VAIN_OF_A_PROXY
        return proxys or str(code) in _IN_VAIN
    response = getattr(error, "response", None)
    if response is not None:
        return getattr(response, "status_code", 0) in _IN_VAIN_HTTP
    return isinstance(error, OSError) and error.errno in _IN_VAIN_FILES
