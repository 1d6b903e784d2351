"""Gold answers and hidden tests stay out of everything that helps to find an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from aflow_grpo.policy.policy import Policy
from aflow_grpo.problem import require_visible
from aflow_grpo.records import Problem, Usage, VisibleProblem
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt
from tests.executed_world import opened
from tests.scripted_endpoint import completion, scripted

SECRETS: dict[str, Any] = {
    "answer": "the SECRET gold",
    "alternatives": ("a SECRET alternative",),
    "hidden_tests": ("assert total(['SECRET']) == 0",),
}
PROBLEMS = [
    Problem(f"{domain}/1", "sample", domain, "How many?", context=context, **code, **SECRETS)
    for domain, context, code in (
        ("math", "", {}),
        ("qa", "Some passage.", {}),
        ("code", "", {"entry_point": "total", "public_tests": ("assert total([1]) == 1",)}),
    )
]
BY_DOMAIN = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.domain)
MARK = "SECRET"
CODE = "```python\ndef total(values):\n    return 0\n```"


def test_the_visible_half_has_every_field_but_those_that_score() -> None:
    def names(record: type) -> set[str]:
        return {field.name for field in dataclasses.fields(record)}

    assert names(Problem) - names(VisibleProblem) == {*SECRETS, "difficulty"}
    assert names(VisibleProblem) < names(Problem)


@BY_DOMAIN
def test_the_visible_half_says_the_same_and_holds_no_secret(problem: Problem) -> None:
    visible = problem.visible
    assert visible.text == problem.text
    for field in dataclasses.fields(visible):
        assert getattr(visible, field.name) == getattr(problem, field.name)
    assert MARK in repr(problem) and MARK not in repr(visible)


@BY_DOMAIN
def test_every_entrance_refuses_a_whole_problem(problem: Problem) -> None:
    whole: Any = problem
    policy = Policy("tiny")
    policy.setup()
    for entrance in (require_visible, compact_prompt, full_prompt, policy.encode):
        with pytest.raises(TypeError, match=r"Pass `problem\.visible`"):
            entrance(whole)


class Disguised(VisibleProblem):
    """What a careless change could smuggle in."""

    answer = "the SECRET gold"


def test_a_subclass_with_more_fields_is_refused() -> None:
    with pytest.raises(TypeError, match="Disguised given"):
        require_visible(Disguised("p", "sample", "math", "How many?"))


@BY_DOMAIN
def test_no_request_of_any_fixed_workflow_holds_a_secret(problem: Problem) -> None:
    """Real HTTP: what a server received while each fixed workflow of the domain ran."""

    async def run() -> list[dict[str, Any]]:
        async with (
            scripted([completion(CODE)]) as end,
            opened(end.tier()) as world,
        ):
            for source in library(problem.domain).values():
                done = await world.executor.run(source, problem.visible, seed=1)
                assert done.usage != Usage()
            whole: Any = problem
            with pytest.raises(TypeError, match="VisibleProblem"):
                await world.executor.run(source, whole, seed=1)
            return end.requests

    requests = asyncio.run(run())
    assert len(requests) >= 10
    assert MARK not in json.dumps(requests)
