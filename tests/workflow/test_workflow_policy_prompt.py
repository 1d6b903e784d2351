"""The policy prompts: complete, with honest examples, and no question ever cut."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.records import DOMAINS, Domain, FaultKind, Problem
from aflow_grpo.workflow.contract import OPERATORS, TEN_OPERATORS
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.policy_prompt import (
    bad_example,
    compact_prompt,
    full_prompt,
    good_example,
    render_operator,
)
from aflow_grpo.workflow.validate import validate

QUESTION = "How many pens has Ann?"


def problem(domain: Domain, context: str = "") -> Problem:
    return Problem(
        id="sample/train/1",
        dataset="sample",
        domain=domain,
        question=QUESTION,
        answer="GOLD-ANSWER",
        context=context,
        entry_point="count_pens" if domain == "code" else "",
        public_tests=("assert count_pens(1) == 1",),
        hidden_tests=("assert HIDDEN",),
    )


def user_text(*args: object, **kwargs: object) -> str:
    system, user = full_prompt(*args, **kwargs)  # type: ignore[arg-type]
    assert (system["role"], user["role"]) == ("system", "user")
    return user["content"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_full_prompt_offers_exactly_the_domains_operators(domain: Domain) -> None:
    text = user_text(problem(domain))
    offered = TEN_OPERATORS.offered(domain)
    for spec in OPERATORS:
        assert (f"await self.{spec.attribute}(" in text.split("# Rules")[0]) == (spec in offered)
    recommended = [spec.attribute for spec in offered if domain in spec.recommended]
    assert f"# Recommended for {domain}\n{', '.join(recommended)}\n" in text
    assert 2 <= len(recommended) <= 3
    assert QUESTION in text
    assert ("# Entry point\ncount_pens" in text) == (domain == "code")


@pytest.mark.parametrize("domain", DOMAINS)
def test_full_prompt_never_shows_gold_or_tests(domain: Domain) -> None:
    text = user_text(problem(domain))
    assert "GOLD-ANSWER" not in text
    assert "HIDDEN" not in text


@pytest.mark.parametrize("domain", DOMAINS)
def test_good_example_in_the_prompt_is_really_good(domain: Domain) -> None:
    text = user_text(problem(domain))
    shown = text.split("# Good example\n")[1].split("\n\n# Bad example")[0]
    source = parse_completion(shown).source
    assert source is not None and source.hybrid and not source.repaired
    assert source == good_example(domain)
    assert validate(source, domain) == ()
    assert source.prompts


@pytest.mark.parametrize("domain", DOMAINS)
def test_bad_example_in_the_prompt_is_really_bad(domain: Domain) -> None:
    assert bad_example().graph_code.strip() in user_text(problem(domain))
    kinds = {finding.kind for finding in validate(bad_example(), domain)}
    assert kinds == {FaultKind.BAD_SIGNATURE, FaultKind.UNKNOWN_OPERATOR, FaultKind.BAD_RETURN}


def test_enabled_narrows_operators_and_example() -> None:
    text = user_text(problem("math"), enabled={"custom", "revise"})
    assert "self.custom(" in text and "self.revise(" in text and "self.review(" not in text
    assert validate(good_example("math", enabled={"custom"}), "math", enabled={"custom"}) == ()
    with pytest.raises(ValueError, match=r"operators\.enabled=\['review'\]"):
        full_prompt(problem("math"), enabled={"review"})


def test_operator_is_rendered_from_its_contract() -> None:
    (test,) = (spec for spec in OPERATORS if spec.attribute == "test")
    assert render_operator(test).startswith(
        "- await self.test(problem: str, solution: str, entry_point: str, test_loop: int = 3)"
        ' -> {"result": bool, "solution": str}\n'
    )


def test_compact_prompt() -> None:
    assert compact_prompt(problem("math")) == f"<math>\n{QUESTION}\n<workflow>\n"


@given(st.text(max_size=400), st.integers(0, 300))
def test_only_the_context_is_shortened(context: str, max_chars: int) -> None:
    asked = problem("qa", context)
    text = compact_prompt(asked, max_chars)
    assert QUESTION in text
    assert text.startswith("<qa>\n") and text.endswith("\n<workflow>\n")
    bare = compact_prompt(dataclasses.replace(asked, context=""), max_chars)
    assert len(text) <= max(max_chars, len(bare))
    if len(asked.text) + len("<qa>\n\n<workflow>\n") <= max_chars:
        assert asked.text in text


def test_a_shortened_context_keeps_both_ends() -> None:
    asked = problem("qa", "a" * 500 + "b" * 500)
    text = compact_prompt(asked, 200)
    assert len(text) == 200
    assert "aaa ... bbb" in text
    assert "Context: " + "a" * 21 + " ... " in user_text(asked, max_context_chars=46)
