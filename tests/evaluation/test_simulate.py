"""Workflows against the simulator in this process: the same operators, the same answers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from aflow_grpo.evaluation.families import ONE_CALL_WORKFLOW, workflows_for
from aflow_grpo.evaluation.recorded import RECORDED_DATASETS
from aflow_grpo.evaluation.simulate import Run, simulate
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.operators.registry import OperatorKit
from aflow_grpo.records import Problem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.seeds import derive_seed
from aflow_grpo.workflow.contract import TEN_OPERATORS

SUM = Problem(
    id="gsm8k/made/1",
    dataset="gsm8k",
    domain="math",
    question="Ana has 17 apples and buys 25 more. How many apples does she have?",
    answer="42",
)
CODE = Problem(
    id="mbpp/made/1",
    dataset="mbpp",
    domain="code",
    question="Write a function to add two numbers.\n\ndef add(a, b):",
    answer="def add(a, b):\n    return a + b",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3",),
    hidden_tests=("assert add(4, 5) == 9", "assert add(0, 0) == 0"),
)
PASSAGE = Problem(
    id="drop/made/1",
    dataset="drop",
    domain="qa",
    question="How many goals did Rivera score?",
    answer="3",
    context="Rivera scored 3 goals and Okafor scored 2 goals in the first half.",
)
OF_DATASET = {
    "GSM8K": SUM, "MATH": SUM, "HumanEval": CODE, "MBPP": CODE, "DROP": PASSAGE,
    "HotpotQA": PASSAGE,
}  # fmt: skip


@pytest.mark.parametrize("dataset", RECORDED_DATASETS)
def test_every_workflow_of_the_families_runs(dataset: str) -> None:
    workflows = workflows_for(dataset)
    pairs = [(OF_DATASET[dataset], seed) for seed in (1, 2, 3)]
    outcome = simulate(dataset, pairs, workflows, repeats=2)
    table = outcome.table
    assert len(workflows) >= 15 and ONE_CALL_WORKFLOW in workflows
    assert table.scores_PWR.shape == (3, len(workflows), 2)
    assert ((table.scores_PWR >= 0) & (table.scores_PWR <= 1)).all()
    costs = dict(zip(table.workflows, table.usd_W, strict=True))
    assert all(cost > 0 for name, cost in costs.items() if table.of(name).any())
    assert outcome.completion_tokens[ONE_CALL_WORKFLOW] > 0


def test_the_same_simulation_twice_is_the_same() -> None:
    runs = [
        simulate("MBPP", [(CODE, 7), (CODE, 8)], workflows_for("MBPP"), repeats=2) for _ in range(2)
    ]
    assert np.array_equal(runs[0].table.scores_PWR, runs[1].table.scores_PWR)
    assert np.array_equal(runs[0].forms_PWR, runs[1].forms_PWR)
    assert np.array_equal(runs[0].table.usd_W, runs[1].table.usd_W)


def test_equal_answers_have_equal_numbers_and_scores() -> None:
    outcome = simulate("GSM8K", [(SUM, s) for s in range(6)], workflows_for("GSM8K"), repeats=3)
    for forms_WR, scores_WR in zip(outcome.forms_PWR, outcome.table.scores_PWR, strict=True):
        for number in np.unique(forms_WR):
            assert len(np.unique(scores_WR[forms_WR == number])) == 1


def test_over_http_the_same_workflow_gives_the_same_answers() -> None:
    """What is measured in process is what a run gets from the server."""
    seed, workflow = 5, workflows_for("GSM8K")["3"]
    here = []

    async def kept(run: Run) -> str:
        here.append(await workflow(run))
        return here[-1]

    outcome = simulate("GSM8K", [(SUM, seed)], {"3": kept}, repeats=3)

    async def over_http(simulator: Simulator) -> tuple[list[str], float]:
        answers, usd = [], 0.0
        client = ExecutorClient([simulator.tier(structured_outputs="off")])
        async with Sandbox() as sandbox:
            operators = OperatorKit().build(sandbox=sandbox, problem=SUM.visible)
            for repeat in range(3):
                session = client.session(derive_seed(seed, SUM.id, "3", repeat))
                run = Run(SUM, operators, session, set())
                answers.append(await workflow(run))
                usd += session.usage.cost_usd / 3
        await client.aclose()
        return answers, usd

    with Simulator([SUM], TEN_OPERATORS.markers, SimulatorSettings(skill_seed=seed)) as simulator:
        answers, usd = asyncio.run(over_http(simulator))
    assert answers == here
    assert usd == pytest.approx(outcome.table.usd("3"))
