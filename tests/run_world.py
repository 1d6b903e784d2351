"""Finished runs made by hand: a real MLflow store and a real journal, without any training."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from journaled_world import FIRST
from trainer_runs import new_root

from aflow_grpo.llm.journal import Journal, journal_path
from aflow_grpo.records import (
    Completion,
    Domain,
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Problem,
    RewardBreakdown,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.training.storing import Place, make_batch

DOMAIN_NAMES: tuple[Domain, ...] = ("math", "code", "qa")
CODE = """class Workflow:
    async def __call__(self, problem):
        p = await self.programmer(problem=problem)
        return p["output"], self.llm.get_usage_summary()["total_cost"]
"""
Points = Sequence[tuple[int, float]]


def solved(number: int, *, right: bool = True, member: int = 0, **changes: Any) -> Rollout:
    """A direct workflow for problem `number`; domains take turns; `changes` are of the rollout."""
    domain = DOMAIN_NAMES[number % 3]
    usage = Usage(1, 1, 100, 20, 3e-5, 3e-5)
    total = 9.0 if right else 0.5
    rollout = Rollout(
        Problem(f"{domain}/{number}", "sample", domain, f"What is {number} + 1?", str(number + 1)),
        Completion("{}", (1, 2), (3, 4), (-0.5, -0.5), True),
        Execution(
            Status.OK, str(number + 1), source=WorkflowSource(CODE, {"custom": "Add."}),
            calls=(OperatorCall("programmer", {}, {}, usage, 0.1, ("main",)),), usage=usage,
        ),
        Score(float(right), right),
        RewardBreakdown(65.0 * right, 12.0 * right, 8.0 * right, 5, 5, -0.5 * (not right), total),
        group=number, member=member,
    )  # fmt: skip
    return replace(rollout, **changes) if changes else rollout


def rejected(number: int, member: int = 0) -> Rollout:
    """A workflow that validation rejected."""
    finding = Finding(FaultKind.BAD_SIGNATURE, "`__call__` is (self)", 2, "bad-signature")
    execution = Execution(
        Status.INVALID, None, FaultKind.BAD_SIGNATURE, "bad signature",
        source=WorkflowSource("class Workflow: ..."), findings=(finding,),
    )  # fmt: skip
    return solved(
        number, right=False, member=member, execution=execution, score=Score(0.0, False),
        reward=RewardBreakdown(0, 0, 0, 0, 5, -8, -7.5),
    )  # fmt: skip


def track(
    root: Path,
    *,
    verb: str = "fit",
    name: str = "fit-seed0",
    parent: str | None = None,
    status: str = "FINISHED",
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, Points] | None = None,
) -> str:
    """Add an MLflow run to the store in `root`, which is made where there is none; its id."""
    if not (root / "mlflow.db").exists():
        new_root(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow import MlflowClient  # warns on import
        from mlflow.entities import Metric, Param

        client: Any = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
        tags = {"aflow_grpo.verb": verb} | ({"mlflow.parentRunId": parent} if parent else {})
        experiment = client.get_experiment_by_name("aflow-grpo")
        where = experiment.experiment_id if experiment else client.create_experiment("aflow-grpo")
        run_id = str(client.create_run(where, tags=tags, run_name=name).info.run_id)
        points = [
            Metric(key, value, 1000 + i, step)
            for key, series in (metrics or {}).items()
            for i, (step, value) in enumerate(series)
        ]
        for start in range(0, len(points), 1000):
            client.log_batch(run_id, metrics=points[start : start + 1000])
        client.log_batch(run_id, params=[Param(k, v) for k, v in (params or {}).items()])
        if status != "RUNNING":
            client.set_terminated(run_id, status)
    if verb == "fit":
        told = {"mlflow_run_id": run_id, "tracking_uri": f"sqlite:///{root / 'mlflow.db'}"}
        (root / "run.json").write_text(json.dumps(told))
    return run_id


def store(
    root: Path, run: str, parts: Mapping[tuple[str, int], Sequence[Rollout]], rank: int = 0
) -> None:
    """Add rollouts to the journal in `root`: (part, step) -> rollouts; and one executor call."""
    root.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal_path(root, rank))
    for (part, step), rollouts in parts.items():
        journal.put_rollouts(make_batch(Place(run, part, step), rollouts, "{}"))
    asyncio.run(journal.write(replace(FIRST, run=run, tier="main")))
    journal.close()


def judged(right: int, of: int, *, samples: int = 2) -> tuple[list[Rollout], list[Rollout]]:
    """Greedy and sampled rollouts of `of` problems, of which the first `right` are right."""
    greedy = [solved(n, right=n < right) for n in range(of)]
    sampled = [solved(n, right=n < right, member=m) for n in range(of) for m in range(samples)]
    return greedy, sampled


def make_run(root: Path, *, before: int = 2, after: int = 20, of: int = 30, **tracked: Any) -> str:
    """A whole run: two full evaluations, three training steps, curves, settings; its id."""
    steps = range(1, 4)
    metrics: dict[str, Points] = {}
    for i, name in enumerate(("", "/math", "/code", "/qa")):
        metrics[f"train/reward{name}"] = [(s, s - i - 4.0) for s in steps]
        metrics[f"train/accuracy{name}"] = [(s, s / 4) for s in steps]
        metrics[f"train/direct_execution_rate{name}"] = [(s, s / 3) for s in steps]
        metrics[f"train/cost_usd_per_problem{name}"] = [(s, 1e-5 * s) for s in steps]
    for part in ("correctness", "efficiency", "simplicity", "format", "repetition"):
        metrics[f"train/reward/{part}"] = [(s, float(s)) for s in steps]
    metrics["train/reward/penalty"] = [(s, -4.0 / s) for s in steps]
    for status, value in (("ok", 0.25), ("invalid", 0.5), ("error", 0.25)):
        metrics[f"train/status/{status}"] = [(s, value) for s in steps]
    metrics["train/fault/bad_signature"] = [(1, 0.5)]
    metrics["train/fallback_rate"] = [(s, 1 - s / 4) for s in steps]
    metrics["train/operators/programmer"] = [(s, 1.0) for s in steps]
    metrics["train/entropy"] = [(s, 0.3 / s) for s in steps]
    metrics["val/reward"] = [(0, -6.0), (3, 5.0)]
    settings = {"model.grpo.loss.preset": "default", "seed_everything": "0"}
    run = track(root, **{"params": settings, "metrics": metrics, **tracked})
    first, last = judged(before, of), judged(after, of)
    parts: dict[tuple[str, int], Sequence[Rollout]] = {
        ("val/greedy", 0): first[0], ("val", 0): first[1],
        ("val/greedy", 3): last[0], ("val", 3): last[1],
    }  # fmt: skip
    for step in steps:
        parts["train", step] = [
            *(solved(n, right=n % 2 == 0, member=0) for n in range(6)),
            *(rejected(n, member=1) for n in range(6 - step)),
        ]
    store(root, run, parts)
    return run
