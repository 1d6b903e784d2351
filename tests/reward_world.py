"""Records to be rewarded: made by hand, and drawn at random with everything that can be odd."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Problem,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.rewards import RewardPenalties, RewardSettings, RewardWeights

__all__ = [
    "FORBIDDEN", "ONE_CALL", "PLAIN_TEXT", "PROBLEM", "RIGHT", "SOURCE", "WRONG",
    "any_executions", "any_scores", "completion", "failed", "faults_by_outcome",
    "ordered_settings", "ran", "ran_executions", "texts",
]  # fmt: skip

PROBLEM = Problem("gsm8k/train/1", "gsm8k", "math", "What is 9 + 9?", "18")
ONE_CALL = 0.00018
SOURCE = WorkflowSource("class Workflow: ...", {"custom": "Solve it."})
RIGHT, WRONG = Score(1.0, True), Score(0.0, False)
PLAIN_TEXT = '{"prompts": {}, "graph_code": "class Workflow: ..."}'


def completion(text: str = PLAIN_TEXT, *, finished: bool = True) -> Completion:
    """A completion with this text; its tokens do not matter here."""
    return Completion(text, (1,), (2,), (-0.1,), finished=finished)


def ran(calls: int = 1, ratio: float = 1.0, **changes: Any) -> Execution:
    """A workflow that ran to an answer: operator calls, and cost in one-call costs."""
    call = OperatorCall("custom", {}, {}, Usage(), seconds=0.1)
    fields: dict[str, Any] = {
        "answer": "18",
        "source": SOURCE,
        "calls": (call,) * calls,
        "usage": Usage(calls=max(calls, 1), cost_usd=ratio * ONE_CALL),
    }
    return Execution(Status.OK, **{**fields, **changes})


def failed(status: Status, kind: FaultKind, *more: FaultKind, **changes: Any) -> Execution:
    """A workflow that did not run to an answer, with findings of these kinds."""
    findings: tuple[Finding, ...] = ()
    if status is Status.INVALID:
        findings = tuple(Finding(k, "x") for k in (kind, *more))
    source = None if kind in (FaultKind.NO_WORKFLOW, FaultKind.LENGTH_LIMIT) else SOURCE
    fields: dict[str, Any] = {"fault_kind": kind, "findings": findings, "source": source}
    return Execution(status, **{**fields, **changes})


FORBIDDEN = failed(Status.INVALID, FaultKind.FORBIDDEN_OPERATOR)


def _of(status: Status) -> list[FaultKind]:
    return [kind for kind in FaultKind if kind.status is status]


_OTHER_FLAWS = [k for k in _of(Status.INVALID) if k is not FaultKind.FORBIDDEN_OPERATOR]
usages = st.builds(
    Usage,
    calls=st.integers(0, 99),
    attempts=st.integers(0, 99),
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    cost_usd=st.floats() | st.just(0.0),
    billed_usd=st.floats(),
)
sources = st.sampled_from([SOURCE, None]) | st.builds(
    WorkflowSource,
    graph_code=st.just(SOURCE.graph_code),
    hybrid=st.booleans(),
    repaired=st.booleans(),
)
surroundings: dict[str, Any] = {
    "source": sources,
    "calls": st.integers(0, 40).map(lambda n: (OperatorCall("custom", {}, {}, Usage(), 0.0),) * n),
    "usage": usages,
    "seconds": st.floats(0, 1e6),
    "fallback_answer": st.sampled_from(["18", None]),
}
ran_executions = st.builds(Execution, status=st.just(Status.OK), **surroundings)
faults_by_outcome: dict[str, st.SearchStrategy[Execution]] = {
    "failed": st.sampled_from([*_of(Status.ERROR), *_of(Status.TIMEOUT)]).flatmap(
        lambda kind: st.builds(
            Execution, status=st.just(kind.status), fault_kind=st.just(kind), **surroundings
        )
    ),
    "forbidden": st.builds(
        Execution,
        status=st.just(Status.INVALID),
        fault_kind=st.just(FaultKind.FORBIDDEN_OPERATOR),
        findings=st.just(FORBIDDEN.findings),
        **surroundings,
    ),
    "invalid": st.builds(
        Execution, status=st.just(Status.CUT), fault_kind=st.just(FaultKind.LENGTH_LIMIT),
        **surroundings,
    ) | st.lists(st.sampled_from(_OTHER_FLAWS), min_size=1, max_size=8).flatmap(
        lambda kinds: st.builds(
            Execution,
            status=st.just(Status.INVALID),
            fault_kind=st.just(kinds[0]),
            findings=st.booleans().map(
                lambda forbidden: tuple(
                    Finding(k, "x")
                    for k in [*kinds, *([FaultKind.FORBIDDEN_OPERATOR] if forbidden else [])]
                )
            ),
            **surroundings,
        )
    ),
}  # fmt: skip
any_executions = st.one_of(
    ran_executions,
    *faults_by_outcome.values(),
    st.just(Execution(Status.UNAVAILABLE, fault_kind=FaultKind.ENDPOINT)),
)
any_scores = st.builds(
    Score,
    value=st.floats(),
    correct=st.booleans(),
    measures=st.dictionaries(st.sampled_from(["f1", "exact_match"]), st.floats(0, 1)),
)
texts = st.sampled_from([PLAIN_TEXT, "", "la " * 200, "x" * 900]) | st.text(max_size=60)


@st.composite
def ordered_settings(draw: st.DrawFn) -> RewardSettings | None:
    """Settings of a preset that promises the order; None where the config refuses them."""
    rest = [draw(st.integers(0, 30)) for _ in range(4)]
    total = max(100, sum(rest))
    weights = RewardWeights(total - sum(rest), *rest) if total == 100 else None
    levels = sorted((-draw(st.integers(0, 100)) / 10 for _ in range(4)), reverse=True)
    credit = min(draw(st.integers(0, 30)) / 10, -levels[3])
    try:
        return RewardSettings(
            preset=draw(st.sampled_from(["ordered", "additive", "v1"])),
            weights=draw(st.sampled_from([weights, None])),
            penalties=draw(st.sampled_from([RewardPenalties(*levels, credit), None])),
            mode=draw(st.sampled_from([None, "additive"])),
            form=draw(st.sampled_from(["any", "hybrid", "code"])),
            simplicity_zero_at=draw(st.integers(2, 30)),
            repetition_free=draw(st.floats(0, 0.9)),
        )
    except ConfigError:
        return None
