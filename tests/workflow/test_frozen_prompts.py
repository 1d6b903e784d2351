"""What frozen prompts keep of a workflow: its structure and its data, none of its words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.records import DOMAINS, Domain, WorkflowSource
from aflow_grpo.workflow.frozen_prompts import FIXED_INSTRUCTIONS, FrozenPrompts

HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"


def frozen(
    code: str = "pass", domain: Domain = "math", prompts: Mapping[str, str] | None = None
) -> FrozenPrompts:
    body = "".join(f"        {line}\n" for line in code.split("\n"))
    return FrozenPrompts(WorkflowSource(HEAD + body, prompts or {}), domain)


def instructed(code: str, instruction: str, operator: str = "answer_generate") -> str:
    """What is left of an instruction that a call of a workflow with this code gives."""
    given_arguments = {"input": "What is 1 + 1?", "instruction": instruction}
    arguments = frozen(code).arguments(operator, given_arguments)
    assert arguments["input"] == "What is 1 + 1?"
    return str(arguments["instruction"])


@pytest.mark.parametrize(
    ("code", "instruction"),
    [
        ("self.f(instruction='Use algebra.')", "Use algebra."),
        ("told = ['Use', 'Use algebra.']", "Use algebra."),
        ("for way in ['Use algebra.', 'Draw it.']:\n    self.f(way)", "Draw it."),
        ("told = 'Use algebra.'\ntold = told + ' ' + 'Draw it.'", "Use algebra. Draw it."),
        ("told = '\\n'.join(['First.', 'Second.'])", "First.\nSecond."),
        ("told = 'Use {}.'.format('algebra')", "Use algebra."),
        ("told = 'Use %s.' % 'algebra'", "Use algebra."),
        ("told = f'Use {way}.'\nway = 'algebra'", "Use algebra."),
        ("told = 'Reply {{x}} with {0}.'.format('care')", "Reply {x} with care."),
        ("'''Use\nalgebra.'''", "Use\n        algebra."),
        ("told = 'use ALGEBRA.'.capitalize()", "Use algebra."),
    ],
)
def test_an_instruction_of_the_codes_own_words_is_empty(code: str, instruction: str) -> None:
    assert instructed(code, instruction) == ""


PLAN = "1. Add the answer of both.\n2. Halve   it."


@pytest.mark.parametrize(
    "code",
    [
        "plan = 1\nself.f(instruction=plan['response'])",
        "if plan['answer'] == 'both':\n    pass",
        "plan.get('answer', 'both')",
    ],
)
def test_data_stays_to_the_letter_also_where_it_holds_a_key_of_the_code(code: str) -> None:
    assert instructed(code, PLAN) == PLAN


@pytest.mark.parametrize(
    ("code", "instruction", "left"),
    [
        ("told = 'Follow this plan: ' + plan", f"Follow this plan: {PLAN}", "1. Add the answer"),
        ("told = f'Plan:\\n{plan}\\nGo on.'", f"Plan:\n{PLAN}\nGo on.", "1. Add the answer"),
        ("told = 'cat' + plan", "cat in one category", "in one category"),
    ],
)
def test_of_words_and_data_the_data_stays(code: str, instruction: str, left: str) -> None:
    kept = instructed(code, instruction)
    assert kept.startswith(left)
    assert not {"Follow", "Plan:", "Go"} & set(kept.split())


@pytest.mark.parametrize("domain", DOMAINS)
def test_custom_is_told_the_same_whatever_the_workflow_says(domain: Domain) -> None:
    parts = frozen("self.f('Use algebra.')", domain)
    for said in ("Use algebra.", "", None):
        given_arguments = {"input": "x", "instruction": said}
        told = parts.arguments("custom", given_arguments)["instruction"]
        assert told == FIXED_INSTRUCTIONS[domain]
    assert parts.arguments("custom", {"input": "x"})["instruction"] == FIXED_INSTRUCTIONS[domain]
    assert parts.arguments("custom", {"input": "x", "instruction": PLAN})["instruction"] == PLAN
    assert parts.arguments("review", {"problem": "x"}) == {"problem": "x"}


def test_prompts_lose_their_words_and_keep_the_fields_that_the_code_fills() -> None:
    prompts = {
        "Custom": "Use algebra.",
        "TEMPLATE": "Solve {problem} like {0}, in {boxed}.",
        "PLAIN": "Mind {this} set.",
        "BROKEN": "Write \\boxed{ and {problem}.",
    }
    code = "x = self.prompts['TEMPLATE'].format('that', problem=problem, boxed='b')"
    kept = frozen(code, prompts=prompts).source
    assert kept.prompts == {
        "Custom": "",
        "TEMPLATE": "{problem}\n{0}\n{boxed}",
        "PLAIN": "",
        "BROKEN": "",
    }
    untouched = frozen(prompts=prompts)
    assert set(untouched.source.prompts.values()) == {""}, "nothing is filled"
    assert untouched.source.graph_code == frozen().source.graph_code


def test_code_that_does_not_parse_has_no_words() -> None:
    parts = FrozenPrompts(WorkflowSource("class Workflow:\n  x = (", {"Custom": "Go."}), "qa")
    assert parts.source.prompts == {"Custom": ""}
    assert parts.arguments("review", {"instruction": PLAN}) == {"instruction": PLAN}


WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="{}%", exclude_categories=["Cs"]), max_size=40
)


@given(WORDS)
def test_no_text_constant_is_ever_left(words: str) -> None:
    left = instructed(f"self.f(instruction={words!r})", words)
    worded = len(words.strip()) > 1 and any(c.isalnum() or c == "_" for c in words)
    assert left == ("" if worded else words)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=40), max_size=4))
def test_prompts_without_a_format_in_the_code_are_all_empty(prompts: dict[str, str]) -> None:
    source = FrozenPrompts(WorkflowSource(HEAD + "        pass\n", prompts), "qa").source
    assert source.prompts == dict.fromkeys(prompts, "")
