"""Which texts are one workflow, and what features they have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.outcomes.structure import UNREADABLE, structure_of
from aflow_grpo.records import DOMAINS, WorkflowSource
from aflow_grpo.workflow.library import library

HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"
COST = "self.llm.get_usage_summary()['total_cost']"


def source(*lines: str, **prompts: str) -> WorkflowSource:
    return WorkflowSource(HEAD + "".join(f"        {line}\n" for line in lines), prompts)


BASE = source("r = await self.custom(input=problem)", f"return r['response'], {COST}")


@pytest.mark.parametrize(
    "same",
    [
        source("answer = await self.custom( input = problem )",
               f"return answer['response'], {COST}"),
        source('"""Asks."""', "r = await self.custom(input=problem)  # once",
               f'return r["response"], {COST}'),
        source("r = await self.custom(input=problem)", f"return r['response'], {COST}",
               Programmer="never called"),
        WorkflowSource(
            BASE.graph_code.replace(", entry_point=None", "").replace("problem", "task")
        ),
        WorkflowSource(
            "class W:\n    def __init__(self, name, llm_config, dataset):\n"
            "        self.ask = operator.Custom(self.llm)\n"
            "    async def __call__(self, problem):\n        r = await self.ask(input=problem)\n"
            f"        return r['response'], {COST}\n"
        ),
    ],
)  # fmt: skip
def test_names_white_space_and_unread_prompts_do_not_matter(same: WorkflowSource) -> None:
    assert structure_of(same).key == structure_of(BASE).key
    assert structure_of(same).features == structure_of(BASE).features


OTHERS = [
    source("r = await self.custom(input=problem)", f"return r['feedback'], {COST}"),
    source("r = await self.answer_generate(input=problem)", f"return r['answer'], {COST}"),
    source("r = await self.custom(input=problem)", f"return r['response'], {COST}",
           custom="Use algebra."),
    source("r = await self.custom(input=problem, instruction='Be brief.')",
           f"return r['response'], {COST}"),
    source("r = await self.custom(input=problem)", "if len(r['response']) > 9:",
           "    r = await self.custom(input=problem)", f"return r['response'], {COST}"),
    source("for _ in range(3):", "    r = await self.custom(input=problem)",
           f"return r['response'], {COST}"),
]  # fmt: skip


def test_what_changes_the_run_changes_key_and_features() -> None:
    found = [structure_of(one) for one in [BASE, *OTHERS]]
    assert len({one.key for one in found}) == len(found)
    assert len({one.features for one in found}) == len(found)


def test_prompts_count_where_they_are_read_wherever_they_stand() -> None:
    in_call = source("r = await self.custom(input=problem, instruction='Be brief.')",
                     f"return r['response'], {COST}")  # fmt: skip
    from_prompts = source(
        "r = await self.custom(instruction=self.prompts['short'], input=problem)",
        f"return r['response'], {COST}", short="Be  brief.",
    )  # fmt: skip
    assert structure_of(in_call).key == structure_of(from_prompts).key
    assert structure_of(source(*["pass"], Custom="A")).key == structure_of(source("pass")).key


def test_features_say_operators_order_guards_and_loops() -> None:
    found = dict(structure_of(library("math")["cascade_agreement"]).features)
    assert found["first:answer_generate"] == 1.0
    assert {"if:agreement", "gather", "loop:3", "maybe:sc_ensemble"} <= found.keys()
    assert found["maybe:answer_generate"] > found["call:answer_generate"] > 0
    found = dict(structure_of(library("code")["cascade_test"]).features)
    assert {"if:result", "then:custom_code_generate>test"} <= found.keys()
    assert "if:review_result" in dict(structure_of(library("qa")["cascade_review"]).features)
    assert "return:programmer.output" in dict(structure_of(library("math")["programmer"]).features)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_library_is_told_apart(domain: str) -> None:
    fixed = library(domain)  # type: ignore[arg-type]
    keys = {structure_of(one).key for one in fixed.values()}
    same = 1 if domain == "code" else 0  # direct and io of code are one call of the same operator
    assert len(keys) == len(fixed) - same


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_any_text_has_a_structure(code: str, prompts: dict[str, str]) -> None:
    assert structure_of(WorkflowSource(code, prompts)) == UNREADABLE
    inside = WorkflowSource(BASE.graph_code.replace("r['response']", code), prompts)
    assert all(weight > 0 for _, weight in structure_of(inside).features)


@pytest.mark.parametrize(
    "code", ["", "class Workflow:", "x = 1", "(" * 5000, "\ud800", "class A:\n  " + "x" * 200_000]
)
def test_what_cannot_be_read_is_unreadable(code: str) -> None:
    assert structure_of(WorkflowSource(code)) == UNREADABLE
    assert structure_of(None) == UNREADABLE
