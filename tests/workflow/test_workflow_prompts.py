"""`workflow.prompts`: a prompt reaches the executor's request, whichever operator it is for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from executed_world import CODE, body, opened
from scripted_endpoint import completion, scripted

from aflow_grpo.records import Execution
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.parse import parse_completion

CALLS = {
    "custom": "input=problem",
    "answer_generate": "input=problem",
    "custom_code_generate": "problem=problem, entry_point=entry_point",
    "sc_ensemble": 'solutions=["a", "b", "c"], problem=problem',
    "programmer": "problem=problem",
    "test": 'problem=problem, solution="def total(values): pass", entry_point=entry_point',
    "format": 'problem=problem, solution="a"',
    "review": 'problem=problem, solution="a"',
    "revise": 'problem=problem, solution="a", feedback="b"',
    "md_ensemble": 'solutions=["a", "b", "c"], problem=problem',
}
MARK = "Mind the seven herons."


def asked(code: str, prompts: dict[str, str]) -> tuple[Execution, list[str]]:
    """Runs a workflow against a scripted endpoint; every request's last message."""
    source = parse_completion(json.dumps({"prompts": prompts, "graph_code": code})).source
    assert source is not None

    async def main() -> tuple[Execution, list[dict[str, Any]]]:
        async with scripted([completion("A")]) as endpoint, opened(endpoint.tier()) as world:
            execution = await world.executor.run(source, CODE[0].visible, seed=1)
            return execution, endpoint.requests

    execution, requests = asyncio.run(main())
    return execution, [request["messages"][-1]["content"] for request in requests]


def test_every_operator_is_called_here() -> None:
    assert set(CALLS) == set(TEN_OPERATORS.by_attribute)


@pytest.mark.parametrize("attribute", CALLS)
def test_the_prompt_of_an_operator_is_in_each_of_its_requests(attribute: str) -> None:
    code = body(f"await self.{attribute}({CALLS[attribute]})", 'return "done", COST')
    name = TEN_OPERATORS.by_attribute[attribute].name
    for key in (attribute, name):
        execution, messages = asked(code, {key: MARK, "other": "Not this."})
        assert execution.answer == "done", execution.message
        assert messages and all(MARK in message for message in messages)
        assert not any("Not this." in message for message in messages)


def test_an_explicit_instruction_wins_over_the_prompt() -> None:
    code = body('await self.custom(input=problem, instruction="Mine.")', 'return "done", COST')
    _, (message,) = asked(code, {"custom": MARK})
    assert message.startswith("Mine.") and MARK not in message


def test_the_workflow_reads_its_prompts_and_hands_one_over() -> None:
    code = body('await self.custom(problem, self.prompts["plan"])', 'return "done", COST')
    _, (message,) = asked(code, {"custom": "Not this.", "plan": MARK})
    assert message.startswith(MARK) and "Not this." not in message


def test_a_prompt_that_is_read_while_the_workflow_is_created() -> None:
    code = (
        "class Workflow:\n"
        "    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n"
        "        self.solver = operator.Custom(self.llm)\n"
        '        self.plan = self.prompts["plan"]\n'
        "    async def __call__(self, problem):\n"
        "        await self.solver(input=problem, instruction=self.plan)\n"
        '        return "done", 0\n'
    )
    _, (message,) = asked(code, {"plan": MARK})
    assert message.startswith(MARK)
