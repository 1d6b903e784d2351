"""Sampled rollouts as MLflow traces, written by a thread of its own.

The training loop only chooses and queues: records are frozen, so the thread can make the spans from
them at leisure. It drops what it cannot keep up with, and counts it, sooner than let a step wait;
a store that fails costs its traces and a warning, never the run.

Not here: what a trace shows (`trace_spans`), how it is stored (`trace_store`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import Rollout, Status
from aflow_grpo.seeds import derive_seed
from aflow_grpo.training.storing import STRUCTURE, Place

__all__ = ["TracedRun", "Tracer", "choose"]

_MAX_WAITING = 500
"""Rollouts; a draw that finds room enters as a whole."""
_BATCH = 8
"""Traces whose spans are written in one transaction."""
_PAUSE_S = 0.02
"""After each transaction. Metrics go to the same file, and SQLite has no queue: who finds it locked
sleeps and tries again, and would find it locked again."""
_LOG = logging.getLogger(__name__)


class TracedRun(Protocol):
    """What a tracer must know of the run; `RunLogger` has it."""

    @property
    def tracking_uri(self) -> str:
        """Address of the store."""

    @property
    def experiment_id(self) -> str | None:
        """The run's experiment."""

    @property
    def run_id(self) -> str | None:
        """The run."""


class _Waiting(NamedTuple):
    rollout: Rollout
    place: Place
    stored_s: float


def choose(
    rollouts: Sequence[Rollout], place: Place, sample_rate: float, seed: int = 0
) -> list[Rollout]:
    """The rollouts of one draw that are traced; the same in every run with this seed.

    As many as a share of `sample_rate` gives, each with its own draw of lots. Of those that ran to
    an answer and those that did not they are taken in turns, since a training run begins with
    hardly any of one kind and ends with hardly any of the other.
    """
    lots = {
        id(rollout): derive_seed(
            seed, "trace", place.part, place.step, rollout.group, rollout.problem.id, rollout.member
        )
        for rollout in rollouts
    }
    count = sum(lot < sample_rate * 2**31 for lot in lots.values())
    if not count:
        return []
    by_lot = sorted(rollouts, key=lambda rollout: lots[id(rollout)])
    kinds = [
        [r for r in by_lot if r.execution.status is Status.OK],
        [r for r in by_lot if r.execution.status is not Status.OK],
    ]
    # Which kind is first matters where only one is taken: neither, in the long run.
    turn = derive_seed(seed, "trace", place.part, place.step) % 2
    chosen: list[Rollout] = []
    while len(chosen) < count:
        kind = kinds[turn] or kinds[1 - turn]
        chosen.append(kind.pop(0))
        turn = 1 - turn
    return chosen


class Tracer:
    """Writes traces of rollouts to the store of a run.

    Args:
        run: Where they go; it has begun.
        settings: How many and how long.
        seed: The run's; decides which rollouts are chosen.
    """

    def __init__(self, run: TracedRun, settings: TraceSettings, seed: int = 0) -> None:
        experiment_id, run_id = run.experiment_id, run.run_id
        if experiment_id is None or run_id is None:
            raise ValueError("a tracer needs a run that has begun, in the process that logs to it")
        self._target = (run.tracking_uri, experiment_id, run_id)
        self._settings = settings
        self._seed = seed
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = 0
        self._written = 0
        self._dropped = 0
        self._failed = 0

    @property
    def written(self) -> int:
        """Traces in the store."""
        return self._written

    @property
    def lost(self) -> int:
        """Chosen rollouts without a trace: dropped in a hurry, or refused by the store."""
        return self._dropped + self._failed

    def add(self, rollouts: Sequence[Rollout], place: Place) -> None:
        """Have some of these rollouts of one draw traced; returns at once, and never raises.

        Nothing is traced of a draw whose workflows were only checked.
        """
        if place.part == STRUCTURE or not self._settings.sample_rate:
            return
        chosen = choose(rollouts, place, self._settings.sample_rate, self._seed)
        if not chosen:
            return
        now = time.time()
        with self._changed:
            if self._closing or len(self._waiting) >= _MAX_WAITING:
                self._drop(len(chosen))
                return
            self._waiting.extend(_Waiting(rollout, place, now) for rollout in chosen)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="traces", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most `timeout_s`, and end; a second call does nothing.

        Says how many traces are missing, if any are.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._hurry.set()
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        with self._changed:
            # The thread may be stuck in a request; what it is writing may or may not arrive.
            self._dropped += len(self._waiting) + self._writing
            self._waiting.clear()
        if self.lost:
            _LOG.warning(
                "%d traces of rollouts are missing in MLflow (%d refused by the store, %d dropped "
                "since it was slower than the run), %d are there. Nothing else is affected; a "
                "smaller llm.traces.sample_rate asks less of the store.",
                self.lost,
                self._failed,
                self._dropped,
                self._written,
            )

    def _drop(self, count: int) -> None:
        if not self._dropped:
            _LOG.warning(
                "Traces are dropped: the MLflow store is slower than the run. A smaller "
                "llm.traces.sample_rate asks less of it."
            )
        self._dropped += count

    def _take(self) -> list[_Waiting]:
        """The next batch; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._writing = len(batch)
        return batch

    def _work(self) -> None:
        # Imported late and here: MLflow takes seconds, and nothing of training waits for them.
        from aflow_grpo.training.trace_spans import make_trace
        from aflow_grpo.training.trace_store import TraceStore

        store: TraceStore | None = None
        while batch := self._take():
            try:
                store = store or TraceStore(*self._target)
                limit = self._settings.max_chars
                traces = [make_trace(r, place, at, limit) for r, place, at in batch]
                store.write(traces, self._pause)
            except Exception as error:  # whatever a store or a model's text holds: never the run's
                self._count_failed(len(batch), error)
            else:
                with self._changed:
                    self._written += len(batch)
                    self._writing = 0
            self._pause()

    def _pause(self) -> None:
        self._hurry.wait(_PAUSE_S)

    def _count_failed(self, count: int, error: Exception) -> None:
        if not self._failed:
            _LOG.warning(
                "Traces of rollouts cannot be written to MLflow (%s: %s); the run goes on without "
                "them. llm.traces.sample_rate=0 turns them off.",
                type(error).__name__,
                error,
            )
        with self._changed:
            self._failed += count
            self._writing = 0
