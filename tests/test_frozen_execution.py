"""Frozen operator prompts, seen from the endpoint: what it is asked, and what is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from executed_world import CODE, MATH, QA, opened, written
from scripted_endpoint import completion, scripted

from aflow_grpo.execution import ExecutionSettings
from aflow_grpo.records import Completion, Execution, Problem, Status
from aflow_grpo.workflow.frozen_prompts import FIXED_INSTRUCTIONS

FROZEN = ExecutionSettings(operator_prompts="frozen")
ADVICE = "Mind the trap in this one."
REPLY = (
    "<answer>7</answer> <verdict>wrong</verdict> <feedback>mend</feedback>\n```python\nf = 1\n```"
)

ALL_BUT_TWO = (
    "c = await self.custom(input=problem)",
    "a = await self.answer_generate(input=problem)",
    "k = await self.custom_code_generate(problem=problem, entry_point='f')",
    "e = await self.sc_ensemble(solutions=['x', c['response']], problem=problem)",
    "m = await self.md_ensemble(solutions=['x', 'y'], problem=problem)",
    "f = await self.format(problem=problem, solution=a['answer'])",
    "r = await self.review(problem=problem, solution=a['answer'])",
    "v = await self.revise(problem=problem, solution='x', feedback=r['feedback'])",
    "return v['solution'], COST",
)
"""Calls of eight operators, Custom's first; Programmer and Test are asked in other tests."""
EVERYWHERE = written(
    *ALL_BUT_TWO,
    **dict.fromkeys(
        (
            "Custom",
            "AnswerGenerate",
            "CustomCodeGenerate",
            "ScEnsemble",
            "MdEnsemble",
            "Format",
            "Review",
            "Revise",
        ),
        ADVICE,
    ),
)
IN_CODE = written(
    "c = await self.custom(problem, 'Mind the trap in this one.')",
    "for told in ['Mind the trap in this one.', '']:",
    "    k = await self.custom_code_generate(problem, 'f', told)",
    "return c['response'], COST",
)
ANYWHERE = written(
    "c = await self.custom(input=self.prompts['ONE'] + problem, instruction=self.prompts['ONE'])",
    "t = self.prompts['TWO'].format(problem=problem)",
    "p = await self.programmer(problem=t, analysis=self.prompts['ONE'])",
    "return c['response'], COST",
    ONE=ADVICE,
    TWO=ADVICE + " {problem}",
)


def asked(
    wanted: Completion,
    settings: ExecutionSettings | None,
    problem: Problem = MATH[0],
    *,
    fallback: bool = False,
) -> tuple[list[str], Execution]:
    """The messages that the endpoint got, a request's as one text, and the execution."""

    async def run() -> tuple[list[dict[str, Any]], Execution]:
        async with scripted([completion(REPLY)]) as end, opened(end.tier(), settings) as world:
            done = await world.executor.execute(wanted, problem.visible, seed=7, fallback=fallback)
            return end.requests, done

    requests, done = asyncio.run(run())
    return ["\n".join(m["content"] for m in request["messages"]) for request in requests], done


@pytest.mark.parametrize(("wanted", "carrying"), [(EVERYWHERE, 13), (IN_CODE, 2), (ANYWHERE, 4)])
def test_no_request_of_a_frozen_workflow_holds_its_words(wanted: Completion, carrying: int) -> None:
    own, as_written = asked(wanted, None)
    assert sum(ADVICE in text for text in own) == carrying
    frozen, execution = asked(wanted, FROZEN)
    assert not any(ADVICE in text for text in frozen)
    assert len(frozen) == len(own)
    assert all(MATH[0].question in text for text in frozen), "the problem still gets there"
    assert execution.status is as_written.status is Status.OK
    assert execution.source == as_written.source, "the record has the workflow as written"
    assert execution.direct


def test_operators_get_what_they_get_without_any_instruction_and_custom_its_fixed_one() -> None:
    frozen, _ = asked(EVERYWHERE, FROZEN)
    bare, _ = asked(written(*ALL_BUT_TWO), None)
    assert frozen[1:] == bare[1:]
    assert FIXED_INSTRUCTIONS["math"] in frozen[0]
    assert frozen[0].replace(f"{FIXED_INSTRUCTIONS['math']}\n\n", "") == bare[0]


def test_what_an_operator_said_still_reaches_the_next_as_its_instruction() -> None:
    hands_on = written(
        "plan = await self.custom(input=problem, instruction='Plan the function.')",
        "k = await self.custom_code_generate(problem, 'f', plan['response'])",
        "return k['response'], COST",
    )
    (first, second), _ = asked(hands_on, FROZEN, CODE[0])
    assert "Plan the function." not in first
    assert FIXED_INSTRUCTIONS["code"] in first
    assert f"<instruction>\n{REPLY}\n</instruction>" in second


def test_the_record_of_a_call_says_what_was_really_asked() -> None:
    _, execution = asked(IN_CODE, FROZEN)
    told = [call.arguments["instruction"] for call in execution.calls]
    assert told == [FIXED_INSTRUCTIONS["math"], "", ""]


def test_the_fallback_keeps_its_own_words_and_so_does_the_default() -> None:
    raises = written("return problem[10**6], COST")
    frozen, execution = asked(raises, FROZEN, QA[0], fallback=True)
    own, _ = asked(raises, ExecutionSettings(), QA[0], fallback=True)
    assert execution.answered_by == "fallback"
    assert frozen == own != []
    assert replace(FROZEN, operator_prompts="own") == ExecutionSettings()
