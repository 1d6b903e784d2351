"""What traces cost a step: two fits of one seed, traced at each other's untraced steps.

The fits do the same work step by step, so every step is compared with itself. Traces come at every
other step, so that a machine that is busier during one fit does not look like a cost. What a step
leaves to be written is waited for and counted as its own, which a run does only at its end: the
ratio is an upper bound.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import lightning as L
from scipy.stats import t as student

from aflow_grpo.llm.trace_settings import TraceSettings
from aflow_grpo.records import Rollout
from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.training.storing import Place
from aflow_grpo.training.traces import TracedRun, Tracer
from aflow_grpo.training.tracking import RunLogger
from tests.trainer_runs import run_verb, write_settings

__all__ = ["AlternatingTraces", "measure_traces"]

STEPS, LEFT_OUT = 24, 4
"""Of each fit; the first ones still import MLflow."""
RATES = (TraceSettings().sample_rate, 0.25)


class AlternatingTraces(L.Callback):
    """Traces every other step; writes what the steps took to ``steps.json``.

    Args:
        rate: The share of rollouts that are traced.
        first: Whether the first step is.
    """

    def __init__(self, rate: float, first: bool) -> None:
        self._rate = rate
        self._first = first
        self._tracer: Tracer | None = None
        self._steps: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See every rollout when the run itself keeps it."""
        callback = rollout_callback_of(trainer)
        keep = callback.keep

        def keep_and_trace(
            rollouts: Sequence[Rollout], place: Place, run: TracedRun | None
        ) -> None:
            keep(rollouts, place, run)
            self._steps[-1]["tokens"] = sum(one.completion.length for one in rollouts)
            if self._tracer is not None:
                self._tracer.add(rollouts, place)

        vars(callback)["keep"] = keep_and_trace

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a step."""
        assert isinstance(trainer.logger, RunLogger)
        traced = (batch_idx % 2 == 0) == self._first
        if traced:
            self._tracer = Tracer(trainer.logger, TraceSettings(sample_rate=self._rate))
        self._steps.append({"wall": -time.perf_counter(), "cpu": -time.process_time(), "traces": 0})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, out: Any, batch: Any, batch_idx: int
    ) -> None:
        """End it with all of it written."""
        step = self._steps[-1]
        if self._tracer is not None:
            self._tracer.close(60)
            step["traces"] = self._tracer.written
            self._tracer = None
        step["wall"] += time.perf_counter()
        step["cpu"] += time.process_time()
        path = Path(trainer.default_root_dir) / "steps.json"
        path.write_text(json.dumps(self._steps))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The evaluation that follows is no step."""
        del vars(rollout_callback_of(trainer))["keep"]


def measure_traces() -> None:
    """Step time with traces over step time without, at the default rate and at a high one."""
    for rate in RATES:
        one, other = (_fit(rate, first) for first in (True, False))
        if [step["tokens"] for step in one] != [step["tokens"] for step in other]:
            raise SystemExit("the two fits did not do the same work: their times tell nothing")
        pairs = [(a, b) if n % 2 == 0 else (b, a) for n, (a, b) in enumerate(zip(one, other))]  # noqa: B905
        pairs = pairs[LEFT_OUT:]
        traces = fmean(on["traces"] for on, _ in pairs)
        for clock in ("wall", "cpu"):
            ratio, low, high = _ratio([on[clock] / off[clock] for on, off in pairs])
            print(
                f"{f'traces, rate {rate:g}, {clock} time of a step':38} x {ratio:.3f} "
                f"[{low:.3f}, {high:.3f}]   n = {len(pairs)} steps of "
                f"{fmean(off[clock] for _, off in pairs):.1f} s, {traces:.1f} traces each",
                flush=True,
            )


def _fit(rate: float, first: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return _steps(Path(folder), rate, first)


def _steps(folder: Path, rate: float, first: bool) -> list[dict[str, Any]]:
    """The steps of one fit."""
    root = folder / "run"
    settings = write_settings(
        folder,
        trainer__max_steps=STEPS,
        trainer__val_check_interval=10_000,
        trainer__default_root_dir=str(root),
        model__grpo__group_size=8,
        model__policy__init_args__sampling__max_new_tokens=384,
        data__batch_size=8,
        llm__traces__sample_rate=0.0,
        trainer__callbacks=[
            {
                "class_path": "tests.bench_traces.AlternatingTraces",
                "init_args": {"rate": rate, "first": first},
            }
        ],
    )
    code = run_verb("fit", "--config", settings)
    if code:
        raise SystemExit(code)
    steps: list[dict[str, Any]] = json.loads((root / "steps.json").read_text())
    return steps


def _ratio(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean and its 95 % interval (Student's, of the logarithms)."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = fmean(logs)
    half = float(student.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


if __name__ == "__main__":
    measure_traces()
