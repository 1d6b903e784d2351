"""The four structure measures: worked numbers, 0 where nothing can be read, hostile text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from executed_world import body, closed_port_tier, opened, written
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.execution import inspect_completion
from aflow_grpo.operators.base import Operator, Result
from aflow_grpo.operators.registry import TEN_CLASSES, OperatorKit
from aflow_grpo.operators.stub import STUB_FLAG, STUB_TEXT, stub_kit
from aflow_grpo.records import (
    Completion,
    Domain,
    Execution,
    OperatorCall,
    Problem,
    Rollout,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.rewards import REHEARSED, RewardSettings
from aflow_grpo.rollout import RolloutEngine, make_requests
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.structure import MEASURES, StructureMeasures, structure_measures
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey


def measured(
    completion: Completion, domain: Domain = "math", operators: OperatorSet = TEN_OPERATORS
) -> StructureMeasures:
    """The measures of what the real parser and validator say of a completion."""
    problem = Problem("p", "sample", domain, "What?", "2")
    execution = inspect_completion(completion, problem.visible, operators)
    return structure_measures(completion, execution, domain, operators)


CUSTOM = "r = await self.custom(input=problem)"
REVIEW = 'v = await self.review(problem=problem, solution=r["response"])'
DONE = 'return r["response"], COST'


@pytest.mark.parametrize(
    ("domain", "lines", "expected"),
    [
        ("math", (CUSTOM, DONE), (1, 1, 1, 1)),
        ("math", (CUSTOM, REVIEW, DONE), (1, 1, 1, 1)),
        # No cost returned: one of eight kinds
        ("math", (CUSTOM, 'return r["response"]'), (7 / 8, 1, 1, 1)),
        # An unknown name besides: two
        ("math", (CUSTOM, "x = nothing", 'return r["response"]'), (6 / 8, 1, 1, 1)),
        # A wrong argument in one of two calls
        (
            "math",
            (CUSTOM, "v = await self.review(problem=problem, text=1)", DONE),
            (1, 1, 1 / 2, 1),
        ),
        # `test` is forbidden in math: 1 of 2 operators, and no constraint is kept
        (
            "math",
            (CUSTOM, 't = await self.test(problem, r["response"], "f")', DONE),
            (1, 1 / 2, 1, 0),
        ),
        # An operator that does not exist, called twice: one of two
        (
            "math",
            (CUSTOM, "a = await self.solve(problem)", "b = await self.solve(problem)", DONE),
            (1, 1 / 2, 1, 1),
        ),
        # Discouraged in qa: (1 + 1/2) / 2, and one of two rules broken
        (
            "qa",
            (CUSTOM, "p = await self.programmer(problem=problem)", DONE),
            (1, 3 / 4, 1, 1 / 2),
        ),
        # Code that is never tested: one of three rules broken
        ("code", (CUSTOM, DONE), (1, 1, 1, 2 / 3)),
        (
            "code",
            (CUSTOM, 't = await self.test(problem, r["response"], entry_point)', DONE),
            (1, 1, 1, 1),
        ),
        # A loop without an end: the budget's rule is broken
        ("math", ("while True:", "    " + CUSTOM), None),
        # No operator at all: nothing chosen, nothing matched, nothing kept
        ("math", ("return problem, COST",), (1, 0, 0, 0)),
    ],
)
def test_worked_measures(
    domain: Domain, lines: tuple[str, ...], expected: tuple[float, ...] | None
) -> None:
    found = measured(written(*lines), domain)
    if expected is None:
        assert found.constraint_adherence == 1 / 2
        return
    assert tuple(getattr(found, name) for name in MEASURES) == pytest.approx(expected)
    assert found.mean == pytest.approx(sum(expected) / 4)


@pytest.mark.parametrize(
    "completion",
    [
        Completion("", (), (), (), True),
        Completion("I would use custom.", (), (), (), True),
        Completion(json.dumps({"graph_code": "class Workflow:\n  def ("}), (), (), (), True),
        Completion(json.dumps({"graph_code": "x = 1\n"}), (), (), (), True),
        Completion(written(CUSTOM, DONE).text, (), (), (), finished=False),
        Completion(json.dumps({"graph_code": "(" * 9999}), (), (), (), True),
    ],
)
def test_what_cannot_be_read_measures_nothing(completion: Completion) -> None:
    assert measured(completion) == StructureMeasures(0, 0, 0, 0)


def test_a_repaired_text_is_less_valid_and_nothing_else() -> None:
    source = WorkflowSource(body(CUSTOM, DONE), repaired=True)
    found = structure_measures(written(CUSTOM), Execution(Status.OK, source=source), "math")
    assert found == StructureMeasures(7 / 8, 1, 1, 1)


def test_how_the_run_ended_does_not_matter() -> None:
    source = WorkflowSource(body(CUSTOM, DONE))
    call = OperatorCall("custom", {}, {}, Usage(calls=9), 1.0)
    ends = [
        Execution(status, source=source, calls=(call,) * n, answer="x" if n else None)
        for status, n in [(Status.OK, 1), (Status.OK, 0), (Status.ERROR, 3), (Status.TIMEOUT, 9)]
    ]
    assert len({structure_measures(written(CUSTOM), end, "math") for end in ends}) == 1


@given(
    st.text(max_size=200) | st.lists(st.sampled_from([CUSTOM, REVIEW, DONE, "\0", "((", "é" * 9])),
    st.sampled_from(["math", "code", "qa"]),
)
def test_every_measure_is_a_share_whatever_is_written(text: Any, domain: Domain) -> None:
    code = body(*text) if isinstance(text, list) else text
    for completion in (
        Completion(code, (), (), (), True),
        Completion(json.dumps({"graph_code": code}), (), (), (), True),
    ):
        found = measured(completion, domain)
        assert all(0 <= getattr(found, name) <= 1 for name in MEASURES)


# Stub operators

SUMMARISE = OperatorSpec(
    name="Summarise",
    attribute="summarise",
    summary="Shortens a text.",
    parameters=(Parameter("text", "str", "what to shorten"),),
    returns=(ReturnKey("summary", "str", "the short text"), ReturnKey("short", "bool", "is it")),
    llm_calls=(1, 1),
    domains=("qa",),
    recommended=(),
    marker="[summarise]",
)


class Summarise(Operator):
    """A user's own operator."""

    spec = SUMMARISE

    async def run(self, llm: Any, given: Any) -> Result:
        """Never called by a stub."""
        raise AssertionError("the real operator ran")


def test_own_operators_are_measured_by_their_contract() -> None:
    lines = ("s = await self.summarise(text=problem)", 'return s["summary"], COST')
    own = TEN_OPERATORS.extended([SUMMARISE])
    assert measured(written(*lines), "qa", own) == StructureMeasures(1, 1, 1, 1)
    assert measured(written(*lines), "math", own) == StructureMeasures(1, 0, 1, 0)
    assert measured(written(*lines), "qa").operator_choice == 0


def test_stubs_keep_every_contract() -> None:
    kit = OperatorKit((*TEN_CLASSES, Summarise))
    stubs = stub_kit(kit)
    assert stubs.contract == kit.contract
    problem = Problem("p", "sample", "math", "What?", "2")
    built = stubs.build(sandbox=None, problem=problem.visible)  # type: ignore[arg-type]
    values = {"str": "x", "int": 1, "bool": True, "list[str]": ["x"]}
    for name, operator in built.items():
        arguments = {p.name: values[p.type] for p in operator.spec.parameters if p.required}
        result = asyncio.run(operator(None, **arguments))  # type: ignore[arg-type]
        types = {"str": STUB_TEXT, "bool": STUB_FLAG}
        assert result == {key.name: types[key.type] for key in operator.spec.returns}, name


def rehearse(*completions: Completion, domain: Domain = "math") -> list[Rollout]:
    """Rollouts of stage `structure`; the endpoint is dead, so that asking it would show."""

    async def run() -> list[Rollout]:
        async with opened(closed_port_tier()) as world:
            engine = RolloutEngine(
                world.executor, ScorerSet(world.sandbox), RewardSettings(stage="structure")
            )
            problem = Problem("p", "sample", domain, "What?", STUB_TEXT, entry_point="f")
            requests = make_requests(
                [problem], completions, list(range(len(completions))), group_size=len(completions)
            )
            return await engine.run(requests, rehearse=True)

    return asyncio.run(run())


def test_a_rehearsal_runs_without_an_endpoint_and_pays_for_structure_alone() -> None:
    right, raises, forbidden, rubbish = rehearse(
        written(CUSTOM, REVIEW, DONE),
        written(CUSTOM, "x = 1 // 0", DONE),
        written(CUSTOM, 't = await self.test(problem, r["response"], "f")', DONE),
        Completion("no workflow", (1,), (2,), (-1.0,), True),
    )
    statuses = [r.execution.status for r in (right, raises, forbidden, rubbish)]
    assert statuses == [Status.OK, Status.ERROR, Status.INVALID, Status.INVALID]
    totals = [r.reward.total for r in (right, raises, forbidden, rubbish)]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == 4
    assert totals[0] == 10.0
    for rollout in (right, raises, forbidden, rubbish):
        assert rollout.score == REHEARSED
        assert rollout.execution.answer is None and rollout.execution.fallback_answer is None
        assert rollout.execution.usage == Usage()
    assert [c.operator for c in right.execution.calls] == ["custom", "review"]


def test_loops_that_wait_for_a_good_result_end_in_a_rehearsal() -> None:
    lines = (
        CUSTOM,
        "for _ in range(3):",
        '    t = await self.test(problem, r["response"], entry_point)',
        '    if t["result"]:',
        '        return t["solution"], COST',
        DONE,
    )
    (rollout,) = rehearse(written(*lines), domain="code")
    assert rollout.execution.status is Status.OK
    assert len(rollout.execution.calls) == 2
