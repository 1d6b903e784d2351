"""The simulator gives one answer, whether it is asked for as tags or as a JSON object."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import LLMSession
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.operators.ensembles import MdEnsemble, ScEnsemble
from aflow_grpo.operators.generation import AnswerGenerate
from aflow_grpo.operators.refinement import Format, Review
from aflow_grpo.records import Problem
from aflow_grpo.workflow.contract import TEN_OPERATORS

Ask = Callable[[LLMSession, Problem], Awaitable[dict[str, Any]]]


def draft(problem: Problem) -> str:
    """A solution in words."""
    return f"We add the numbers of the problem.\n\nTherefore, the result is **{problem.answer}**."


CALLS: dict[str, Ask] = {
    "answer_generate": lambda llm, p: AnswerGenerate()(llm, input=p.visible.text),
    "format": lambda llm, p: Format()(llm, problem=p.visible.text, solution=draft(p)),
    "review": lambda llm, p: Review()(llm, problem=p.visible.text, solution=draft(p)),
    "sc_ensemble": lambda llm, p: ScEnsemble()(
        llm, problem=p.visible.text, solutions=["7", "8", "9", p.answer]
    ),
    "md_ensemble": lambda llm, p: MdEnsemble()(
        llm, problem=p.visible.text, solutions=["7", "8", p.answer]
    ),
}


@pytest.mark.parametrize("operator", CALLS)
def test_the_form_of_a_reply_changes_nothing_else(operator: str) -> None:
    problems = [
        p for p in read_problems(shipped_path("data/sample/val.jsonl")) if p.domain != "code"
    ]
    problems = problems[:15]

    async def answers(form: str) -> list[dict[str, Any]]:
        tier = simulator.tier(structured_outputs=form)
        client = ExecutorClient([tier])
        try:
            asked = [CALLS[operator](client.session(n), p) for n, p in enumerate(problems)]
            return await asyncio.gather(*asked)
        finally:
            await client.aclose()

    with Simulator(problems, TEN_OPERATORS.markers, SimulatorSettings()) as simulator:
        tagged = asyncio.run(answers("off"))
        assert tagged == asyncio.run(answers("on"))
    assert len({str(answer) for answer in tagged}) > 1
