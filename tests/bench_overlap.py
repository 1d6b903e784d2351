"""What `rollout.overlap` gains: `nox -s bench -- overlap`, or `overlap-short` for one round.

One fit whose steps take turns: some without overlap, some with `group`, some with `step`, so that a
machine that gets busier in between does not look like a gain. Every executor call takes half a
second, all workflows of a batch may run at once, and the learning rate is next to nothing, so that
all steps do the same kind of work. The first step of each turn still has to do with the turn before
and is left out.

Each is compared with what its parts take in the steps without overlap: `group` with the sum of
sampling, the calls of the workflow that ends last and the update, `step` with the larger of
computing and the longest chain of calls.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L

from aflow_grpo.records import LLMCall, Rollout
from aflow_grpo.training.collect import rollout_callback_of
from tests.trainer_runs import run_verb, write_settings

__all__ = ["TakingTurns", "measure_overlap"]

LATENCY_S = 0.5
PROBLEMS, GROUP = 8, 4
"""32 workflows: as many calls as the simulator's tier lets be on their way."""
TURNS = {"none": 3, "group": 3, "step": 4}
"""Steps of each turn, the first of which does not count."""
ROUNDS = 3


class TakingTurns(L.Callback):
    """Changes `overlap` from turn to turn; writes what the steps took to ``steps.json``."""

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []
        self._order = [(name, n > 0) for name, count in TURNS.items() for n in range(count)]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a step."""
        overlap, counts = self._order[batch_idx % len(self._order)]
        rollout_callback_of(trainer).overlap = overlap  # type: ignore[assignment]
        step = {"overlap": overlap, "counts": counts and batch_idx >= len(self._order)}
        self._steps.append({**step, "wall": -time.perf_counter()})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, out: Any, batch: Any, batch_idx: int
    ) -> None:
        """End it, and look at its calls."""
        step = self._steps[-1]
        step["wall"] += time.perf_counter()
        for name in ("sample", "execute", "update"):
            step[name] = float(trainer.callback_metrics[f"time/{name}_s"])
        chains = [_chain(rollout) for rollout in pl_module.rollouts]
        step["last_chain"] = max(chains)[1]
        step["longest_chain"] = max(seconds for _, seconds in chains)
        path = Path(trainer.default_root_dir) / "steps.json"
        path.write_text(json.dumps(self._steps))


def _chain(rollout: Rollout) -> tuple[float, float]:
    """(when its last call ended, what its calls have to take one after the other) in seconds."""
    operators = (*rollout.execution.calls, *rollout.execution.fallback_calls)
    calls: list[LLMCall] = [call for operator in operators for call in operator.llm_calls]
    depth, free_from, ended = 0, 0.0, 0.0
    for call in sorted(calls, key=lambda c: c.started_s + c.seconds):
        ended = call.started_s + call.seconds
        if call.started_s >= free_from:
            depth, free_from = depth + 1, ended
    return ended, depth * LATENCY_S


def measure_overlap(rounds: int = ROUNDS) -> None:
    """Step times, what they are made of, and how near they come to what they could be."""
    with tempfile.TemporaryDirectory() as folder:
        steps = [step for step in _fit(Path(folder), rounds) if step["counts"]]
    by_overlap = {name: [s for s in steps if s["overlap"] == name] for name in TURNS}
    parts = {name: _means(found) for name, found in by_overlap.items()}
    for name, mean in parts.items():
        print(
            f"overlap {name:5} step {mean['wall']:6.2f} s: sampling {mean['sample']:5.2f}, then "
            f"waiting {mean['execute']:5.2f}, update {mean['update']:5.2f}; "
            f"n = {len(by_overlap[name])} steps of {PROBLEMS * GROUP} workflows",
            flush=True,
        )
    alone = parts["none"]
    compute = alone["sample"] + alone["update"]
    chains = compute + parts["group"]["last_chain"]
    _compare("group", parts, "sampling + last chain + update", chains)
    longest = parts["step"]["longest_chain"]
    _compare("step", parts, "max(compute, longest chain)", max(compute, longest))
    print(f"compute {compute:.2f} s, longest chain {longest:.2f} s, load {os.getloadavg()[0]:.1f}")


def _compare(name: str, parts: Mapping[str, Mapping[str, float]], what: str, ideal: float) -> None:
    wall = parts[name]["wall"]
    print(
        f"overlap {name:5} {wall:6.2f} s is {wall / ideal:5.3f} x ({what} = {ideal:.2f} s), "
        f"{parts['none']['wall'] / wall:5.2f} times as fast as without",
        flush=True,
    )


def _means(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("wall", "sample", "execute", "update", "last_chain", "longest_chain")
    return {name: fmean(step[name] for step in steps) for name in names}


def _fit(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """All steps; those of the first round, in which much is imported, do not count."""
    root = folder / "run"
    settings = write_settings(
        folder,
        trainer__max_steps=(rounds + 1) * sum(TURNS.values()),
        trainer__val_check_interval=10_000,
        trainer__default_root_dir=str(root),
        trainer__callbacks=[{"class_path": "tests.bench_overlap.TakingTurns"}],
        model__grpo__group_size=GROUP,
        model__policy__init_args__sampling__max_new_tokens=384,
        model__optimizer__learning_rate=1e-9,
        model__evaluation__at_end=False,
        data__batch_size=PROBLEMS,
        llm__traces__sample_rate=0.0,
        llm__simulator={"latency_ms": 1000 * LATENCY_S, "latency_spread": "none"},
        rollout__rollout__concurrency=PROBLEMS * GROUP,
    )
    code = run_verb("fit", "--config", settings)
    if code:
        raise SystemExit(code)
    steps: list[dict[str, Any]] = json.loads((root / "steps.json").read_text())
    return steps


if __name__ == "__main__":
    measure_overlap()
