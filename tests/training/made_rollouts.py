"""Rollouts made by hand for the training tests; only what a test names differs from the default."""

from __future__ import annotations

from typing import Any

from aflow_grpo.records import (
    Completion,
    Domain,
    Execution,
    OperatorCall,
    Problem,
    RewardBreakdown,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)

__all__ = ["DIRECT", "REPAIRED", "call", "problem", "rollout"]

DIRECT = WorkflowSource("class Workflow: ...", {"custom": "Solve it."})
REPAIRED = WorkflowSource("class Workflow: ...", {}, repaired=True)


def problem(domain: Domain = "math", number: int = 0) -> Problem:
    """A problem that tests only need to tell apart."""
    return Problem(
        f"{domain}/{number}", "sample", domain, f"What is {number}?", "42",
        hidden_tests=("assert f() == 42",) if domain == "code" else (),
    )  # fmt: skip


def call(operator: str, **usage: Any) -> OperatorCall:
    """One operator call with this usage."""
    return OperatorCall(
        operator, {"input": "x"}, {"response": "42"}, Usage(calls=1, **usage), 0.1, ("main",)
    )


def rollout(
    domain: Domain = "math",
    *,
    total: float = 0.0,
    status: Status = Status.OK,
    correct: bool = False,
    group: int = 0,
    member: int = 0,
    parts: tuple[float, ...] = (0, 0, 0, 0, 0, 0),
    completion: Completion | None = None,
    **execution: Any,
) -> Rollout:
    """A rollout of a direct workflow that answered wrong, unless said otherwise."""
    execution = {"source": DIRECT, **execution}
    return Rollout(
        problem=problem(domain, group),
        completion=completion or Completion("{}", (1, 2), (3, 4, 5), (-1.0,) * 3, True),
        execution=Execution(status, **execution),
        score=Score(float(correct), correct),
        reward=RewardBreakdown(*parts, total=total),
        group=group,
        member=member,
    )
