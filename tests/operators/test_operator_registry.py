"""All ten operators through the entrance, against the real simulator over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import LLMSession
from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.operators.base import BranchingLLM
from aflow_grpo.operators.registry import OperatorKit, run_operator
from aflow_grpo.records import FaultKind, OperatorCall, Problem, Usage, to_dict
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.contract import OPERATORS, TEN_OPERATORS

MATH = Problem("m/1", "sample", "math", "A box holds 9 red and 9 blue balls. How many balls?", "18")
CODE = Problem(
    "c/1",
    "sample",
    "code",
    "Write a function add(a, b) that returns the sum of two numbers.",
    "def add(a, b):\n    return a + b",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3",),
    hidden_tests=("assert add(2, 3) == 5",),
)
QA = Problem("q/1", "sample", "qa", "Where does the tower stand?", "Paris", context="It is Paris.")
SOLUTION = r"9 + 9 = \boxed{17}"
ARGUMENTS: dict[str, tuple[Problem, dict[str, Any]]] = {
    "custom": (QA, {"input": QA.text, "instruction": "Answer in a few words."}),
    "answer_generate": (MATH, {"input": MATH.text}),
    "custom_code_generate": (CODE, {"problem": CODE.text, "entry_point": "add"}),
    "sc_ensemble": (MATH, {"solutions": ["17", "18", "18"], "problem": MATH.text}),
    "programmer": (MATH, {"problem": MATH.text}),
    "test": (
        CODE,
        {"problem": CODE.text, "solution": "def add(a, b): return 0", "entry_point": "add"},
    ),
    "format": (MATH, {"problem": MATH.text, "solution": SOLUTION}),
    "review": (MATH, {"problem": MATH.text, "solution": SOLUTION}),
    "revise": (MATH, {"problem": MATH.text, "solution": SOLUTION, "feedback": "Add again."}),
    "md_ensemble": (MATH, {"solutions": ["17", "18", "18"], "problem": MATH.text}),
}


class World:
    """Simulator, client and sandbox on one event loop."""

    def __init__(self, runner: asyncio.Runner, simulator: Simulator) -> None:
        self.runner = runner
        self.client = ExecutorClient([simulator.tier()])
        self.sandbox = Sandbox(workers=1)

    def call(self, attribute: str, index: int, session: LLMSession) -> OperatorCall:
        problem, arguments = ARGUMENTS[attribute]
        operators = OperatorKit().build(sandbox=self.sandbox, problem=problem.visible)
        return self.runner.run(run_operator(index, attribute, arguments, session, operators))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    markers = {spec.attribute: spec.marker for spec in OPERATORS}
    with Simulator([MATH, CODE, QA], markers) as simulator, asyncio.Runner() as runner:
        world = World(runner, simulator)
        runner.run(world.sandbox.start())
        yield world
        runner.run(world.sandbox.aclose())
        runner.run(world.client.aclose())


def test_every_operator_of_the_contract_is_built() -> None:
    assert list(ARGUMENTS) == [spec.attribute for spec in OPERATORS]
    operators = OperatorKit().build(sandbox=Sandbox(), problem=MATH.visible)
    assert {name: operator.spec for name, operator in operators.items()} == (
        TEN_OPERATORS.by_attribute
    )
    assert {name: type(operator).__name__ for name, operator in operators.items()} == {
        spec.attribute: spec.name for spec in OPERATORS
    }


@pytest.mark.parametrize("attribute", ARGUMENTS)
def test_every_operator_works_and_is_accounted_for(world: World, attribute: str) -> None:
    session = world.client.session(seed=7)
    call = world.call(attribute, 0, session)
    spec = TEN_OPERATORS.by_attribute[attribute]
    types = {key.name: {"str": str, "bool": bool}[key.type] for key in spec.returns}
    assert {name: type(value) for name, value in call.result.items()} == types
    assert all(value != "" for value in call.result.values())
    assert (call.fault_kind, call.message) == (None, "")
    fewest, most = spec.llm_calls
    assert fewest <= call.usage.calls <= most
    assert len(call.tiers) == call.usage.calls
    assert call.usage.cost_usd > 0
    assert call.arguments == ARGUMENTS[attribute][1]
    assert session.usage == call.usage
    assert to_dict(call)["operator"] == attribute


def test_each_call_counts_its_own_usage_and_the_session_the_sum(world: World) -> None:
    session = world.client.session(seed=7)
    calls = [world.call(name, i, session) for i, name in enumerate(("custom", "md_ensemble"))]
    assert [call.usage.calls for call in calls] == [1, 5]
    total = sum((call.usage for call in calls), Usage())
    assert session.usage.calls == 6
    assert session.usage.cost_usd == pytest.approx(total.cost_usd)


def test_the_same_seed_and_index_give_the_same_results(world: World) -> None:
    def results(order: list[str]) -> dict[str, Any]:
        session = world.client.session(seed=11)
        return {
            name: world.call(name, list(ARGUMENTS).index(name), session).result for name in order
        }

    assert results(list(ARGUMENTS)) == results(list(reversed(ARGUMENTS)))


def test_unknown_operator_is_the_workflows_fault(world: World) -> None:
    session: BranchingLLM = world.client.session(seed=7)
    operators = OperatorKit().build(sandbox=world.sandbox, problem=MATH.visible)
    call = world.runner.run(run_operator(0, "debate", {}, session, operators))
    assert call.fault_kind is FaultKind.EXCEPTION and call.result == {}
    assert call.message.startswith("there is no operator 'debate'; there are answer_generate")
