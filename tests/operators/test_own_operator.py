"""A user's operator from one file: known to prompt, validator, interpreter, simulator, kit."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from executed_world import CODE, MATH, QA, WORLD, opened, written
from own_operator import Summarise

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.sources import DataSource
from aflow_grpo.errors import ConfigError, WorkflowFault
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.operators.base import LLM, Arguments, Operator
from aflow_grpo.operators.registry import TEN_CLASSES, OperatorKit, load_operators
from aflow_grpo.policy import Policy
from aflow_grpo.records import (
    DOMAINS,
    Domain,
    Execution,
    FaultKind,
    Problem,
    Status,
    Usage,
    VisibleProblem,
)
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.policy_prompt import full_prompt
from aflow_grpo.workflow.validate import validate

KIT = load_operators(["own_operator.Summarise"])
SUMMARISED = written(
    "short = await self.summarise(text=problem, sentences=1)",
    'result = await self.custom(input=short["summary"])',
    'return result["response"], COST',
)


class Careless(Operator):
    """Returns what its test puts into it."""

    spec = dataclasses.replace(
        Summarise.spec, name="Careless", attribute="careless", marker="[careless]"
    )
    result: Any = None

    async def run(self, llm: LLM, given: Arguments) -> Any:
        return self.result


def test_the_kit_holds_the_ten_and_ones_own() -> None:
    assert KIT.classes == (*TEN_CLASSES, Summarise)
    assert KIT.contract == TEN_OPERATORS.extended([Summarise.spec])
    assert OperatorKit().contract == TEN_OPERATORS
    assert hash(OperatorKit().contract) == hash(TEN_OPERATORS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_prompt_and_validator_know_it_where_it_is_given(domain: Domain) -> None:
    problem = Problem("p", "sample", domain, "Why?", "", entry_point="f")
    line = '- await self.summarise(text: str, sentences: int = 2) -> {"summary": str}\n'
    asked = full_prompt(problem.visible, operators=KIT.contract)[1]["content"]
    assert line + "  Shortens a text to its main points." in asked
    assert line not in full_prompt(problem.visible)[1]["content"]
    source = parse_completion(SUMMARISED.text).source
    assert source is not None
    rejected = [f for f in validate(source, domain, operators=KIT.contract) if _rejects(f)]
    assert rejected == []
    assert FaultKind.UNKNOWN_OPERATOR in {f.kind for f in validate(source, domain)}


def _rejects(finding: Any) -> bool:
    return getattr(finding, "severity", "reject") == "reject"


def execute(*cases: tuple[Any, Problem], kit: OperatorKit = KIT) -> list[Execution]:
    """Runs completions against the simulator with the kit's operators."""

    async def main() -> list[Execution]:
        with Simulator(WORLD, kit.contract.markers) as simulator:
            async with opened(simulator.tier()) as world:
                executor = WorkflowExecutor(
                    world.client, world.interpreter, world.sandbox, operators=kit
                )
                return [
                    await executor.execute(done, problem.visible, seed=1, fallback=False)
                    for done, problem in cases
                ]

    return asyncio.run(main())


def test_it_runs_end_to_end_against_the_simulator_in_every_domain() -> None:
    for execution in execute((SUMMARISED, MATH[0]), (SUMMARISED, QA[0]), (SUMMARISED, CODE[0])):
        assert (execution.status, execution.message) == (Status.OK, "")
        first, second = execution.calls
        assert (first.operator, second.operator) == ("summarise", "custom")
        assert first.arguments["sentences"] == 1
        assert first.usage.calls == 1
        assert len(str(first.result["summary"])) > 0
        assert second.arguments["input"] == first.result["summary"]


class Translate(Summarise):
    """Named as a method of texts is, which the interpreter stands in for."""

    spec = dataclasses.replace(
        Summarise.spec, name="Translate", attribute="translate", marker="[translate]"
    )


def test_an_operator_may_be_named_like_a_method_of_texts() -> None:
    done = written(
        "short = await self.translate(text=problem)",
        'plain = short["summary"].translate({65: "a"})',
        "return plain, COST",
    )
    kit = OperatorKit((*TEN_CLASSES, Translate))
    (execution,) = execute((done, MATH[0]), kit=kit)
    assert (execution.status, execution.message) == (Status.OK, "")
    assert [call.operator for call in execution.calls] == ["translate"]


def test_a_workflow_with_an_init_creates_it_as_any_other() -> None:
    code = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.shorten = operator.Summarise(self.llm)

    async def __call__(self, problem):
        short = await self.shorten(problem, 3)
        return short["summary"], self.llm.get_usage_summary()["total_cost"]
"""
    (execution,) = execute((dataclasses.replace(SUMMARISED, text=code), MATH[0]))
    assert (execution.status, execution.message) == (Status.OK, "")
    assert execution.calls[0].arguments == {"text": MATH[0].text, "sentences": 3}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({}, "careless: its result misses the key 'summary'"),
        ({"sumary": "x"}, "misses the key 'summary'"),
        ({"summary": 3}, "has a int under 'summary'; expected str"),
        ({"summary": None}, "has a NoneType under 'summary'; expected str"),
        ({"summary": "x", "more": "y"}, "has the key 'more', which its contract does not know"),
        ("x", "is a str; expected a dictionary"),
        (None, "is a NoneType; expected a dictionary"),
    ],
)
def test_result_that_breaks_its_contract_is_a_typed_fault(result: Any, message: str) -> None:
    class Asked(Careless):
        pass

    Asked.result = result

    async def ask(request: Request) -> Reply:
        return Reply("", Usage(calls=1))

    with pytest.raises(WorkflowFault, match=message) as caught:
        asyncio.run(Asked()(LLMSession(ask, seed=1), text="t"))
    assert caught.value.kind is FaultKind.BAD_RESULT


def test_broken_result_ends_the_execution_with_its_kind_and_is_on_record() -> None:
    Careless.result = {}
    kit = OperatorKit((*TEN_CLASSES, Careless))
    done = written(
        'first = await self.custom(input=problem, instruction="x")',
        "second = await self.careless(text=problem)",
        'return second["summary"], COST',
    )
    (execution,) = execute((done, MATH[0]), kit=kit)
    assert execution.fault_kind is FaultKind.BAD_RESULT
    assert execution.status is Status.ERROR
    first, second = execution.calls
    assert first.fault_kind is None
    assert (second.operator, second.result) == ("careless", {})
    assert second.fault_kind is FaultKind.BAD_RESULT
    assert second.message == "careless: its result misses the key 'summary'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Custom"}, r"'Custom': name='Custom' is taken by 'Custom'"),
        ({"attribute": "review"}, r"'Summarise': attribute='review' is taken by 'Review'"),
        ({"marker": "[test] you"}, r"marker='\[test\] you' cannot be told from '\[test\]' of"),
    ],
)
def test_collision_with_another_operator_is_refused(changes: Any, message: str) -> None:
    class Colliding(Summarise):
        spec = dataclasses.replace(Summarise.spec, **changes)

    with pytest.raises(ConfigError, match=message):
        OperatorKit((*TEN_CLASSES, Colliding))


def test_the_same_operator_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="name='Summarise' is taken by 'Summarise'"):
        load_operators(["own_operator.Summarise", "own_operator.Summarise"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Summarise", "is no import path; expected module.Class"),
        ("no_such_module.Summarise", "No module named 'no_such_module'.*PYTHONPATH=."),
        ("own_operator.Sumarise", "own_operator has no subclass of Operator called 'Sumarise'"),
        ("own_operator.OperatorSpec", "has no subclass of Operator called 'OperatorSpec'"),
        ("own_operator.Operator", r"is incomplete: it needs `spec = OperatorSpec\(...\)`"),
    ],
)
def test_path_that_leads_to_no_operator_names_the_key(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"rollout.operators: '{path}'.*{message}"):
        RolloutCallback(operators=[path])


def test_the_callback_takes_import_paths() -> None:
    assert RolloutCallback(operators=["own_operator.Summarise"]).operators == KIT
    assert RolloutCallback().operators.contract == TEN_OPERATORS


def test_the_policys_prompts_offer_it_during_a_run(tmp_path: Path) -> None:
    rows = Path(shipped_path("data/sample/val.jsonl")).read_text(encoding="utf-8").splitlines()
    (tmp_path / "one.jsonl").write_text(rows[0] + "\n", encoding="utf-8")
    source = [DataSource("jsonl", path=str(tmp_path / "one.jsonl"))]
    module = GRPOModule(Policy("tiny"))
    callback = RolloutCallback(
        LLMSettings(simulator=SimulatorSettings(), journal=False),
        operators=["own_operator.Summarise"],
    )
    trainer = L.Trainer(
        default_root_dir=tmp_path, callbacks=[callback], logger=False, enable_progress_bar=False,
        accelerator="cpu", limit_val_batches=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.validate(
            module, datamodule=WorkflowDataModule(train=source, val=source), verbose=False
        )
    assert module.policy.operators == KIT.contract


def test_operators_are_built_on_a_problem_without_gold_and_hidden_tests() -> None:
    seen: list[VisibleProblem] = []

    class Nosy(Summarise):
        spec = dataclasses.replace(Summarise.spec, name="Nosy", attribute="nosy", marker="[nosy]")

        @classmethod
        def build(cls, surroundings: Any) -> Nosy:
            seen.append(surroundings.problem)
            return cls()

    OperatorKit((*TEN_CLASSES, Nosy)).build(sandbox=Sandbox(), problem=CODE[0].visible)
    assert seen == [CODE[0].visible]
    with pytest.raises(TypeError, match="Problem given where only a VisibleProblem"):
        OperatorKit().build(sandbox=Sandbox(), problem=CODE[0])  # type: ignore[arg-type]


def test_executions_with_and_without_it_share_one_interpreter() -> None:
    async def main() -> list[Status]:
        with Simulator(WORLD, KIT.contract.markers) as simulator:
            client = ExecutorClient([simulator.tier()])
            async with Sandbox(workers=1) as sandbox, Interpreter(workers=2) as interpreter:
                with_it = WorkflowExecutor(client, interpreter, sandbox, operators=KIT)
                without = WorkflowExecutor(client, interpreter, sandbox)
                statuses = [
                    (
                        await executor.execute(SUMMARISED, MATH[0].visible, seed=1, fallback=False)
                    ).status
                    for executor in (with_it, without, with_it)
                ]
            await client.aclose()
            return statuses

    assert asyncio.run(main()) == [Status.OK, Status.INVALID, Status.OK]


def test_sets_of_operators_are_values() -> None:
    assert OperatorSet(TEN_OPERATORS.specs) == TEN_OPERATORS
    assert TEN_OPERATORS.extended([]) == TEN_OPERATORS
    assert "summarise" in KIT.contract.by_attribute and "Summarise" in KIT.contract.by_class
    assert "summarise" not in TEN_OPERATORS.by_attribute
