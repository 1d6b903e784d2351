"""The policy prompts: complete, with honest examples, and no question ever cut."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.records import DOMAINS, Domain, FaultKind, Problem, VisibleProblem
from aflow_grpo.workflow.contract import OPERATORS, TEN_OPERATORS
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.policy_prompt import (
    bad_example,
    compact_prompt,
    full_prompt,
    good_example,
    render_operator,
    shortened_context,
)
from aflow_grpo.workflow.validate import validate

QUESTION = "How many pens has Ann?"


def problem(domain: Domain, context: str = "") -> VisibleProblem:
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
    ).visible


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


# Shortened contexts

PARAGRAPHS = (
    "Ada\nAda Lovelace wrote the first program in the world.\n\n"
    "Babbage\nCharles Babbage built engines.\n\n\nGaps\nx"
)


@pytest.mark.parametrize(
    ("max_chars", "shown"),
    [
        (0, "..."),
        (20, "Ada\nAda ...\n\n...\n\nGaps\nx"),
        (40, "Ada\nAda Lovelace ...\n\nBabbage\nCharles ...\n\nGaps\nx"),
        (
            80,
            "Ada\nAda Lovelace wrote the first ...\n\nBabbage\nCharles Babbage built engines."
            "\n\nGaps\nx",
        ),
        (len(PARAGRAPHS), PARAGRAPHS),
    ],
)
def test_every_paragraph_keeps_its_title_and_its_beginning(max_chars: int, shown: str) -> None:
    assert shortened_context(PARAGRAPHS, max_chars) == shown


@pytest.mark.parametrize("line", ["語" * 900, "x" * 900], ids=["no spaces", "one long word"])
def test_a_text_without_spaces_is_cut_anywhere(line: str) -> None:
    assert shortened_context(line, 100) == line[:100] + " ..."
    assert shortened_context(line, 20) == "..."


def test_one_passage_keeps_its_beginning_up_to_a_whole_word() -> None:
    assert shortened_context("one two three four", 13) == "one two three ..."
    assert shortened_context("one two three four", 12) == "one two ..."


LETTERS = st.text("ab \n", max_size=60) | st.text(
    st.characters(exclude_characters="."), max_size=60
)
lines = st.lists(LETTERS, max_size=8)


@given(lines.map("\n".join), st.integers(0, 200))
def test_what_is_kept_are_beginnings_of_the_lines_in_their_order(context: str, room: int) -> None:
    short = shortened_context(context, room)
    if len(context) <= room:
        assert short == context
        return
    kept = [line for line in short.splitlines() if line]
    assert sum(len(line.removesuffix("...").strip()) for line in kept) <= room
    rest = iter(line.strip() for line in context.splitlines())
    for line in kept:
        beginning = line.removesuffix("...").strip()
        assert any(whole.startswith(beginning) for whole in rest) or line == "..."


@given(lines.map("\n".join), st.integers(0, 200))
def test_more_room_never_keeps_less(context: str, room: int) -> None:
    def words(shown: str) -> int:
        return sum(len(line.removesuffix("...").strip()) for line in shown.splitlines())

    assert words(shortened_context(context, room)) <= words(shortened_context(context, room + 1))


@given(st.text(max_size=400), st.integers(0, 300))
def test_only_the_context_is_shortened(context: str, room: int) -> None:
    asked = problem("qa", context)
    text = compact_prompt(asked, max_context_chars=room)
    assert text.startswith("<qa>\n") and text.endswith(f"{QUESTION}\n<workflow>\n")
    whole, short = user_text(asked), user_text(asked, max_context_chars=room)
    before = whole.index("# Problem (qa)")
    assert short[:before] == whole[:before]
    # Of a blank context nothing is left, not even the heading that tells it from the question.
    assert short.endswith(f"Question: {QUESTION}" if context.strip() else QUESTION)
    if len(context) <= room:
        assert asked.text in text and short == whole


def test_a_question_is_never_shortened() -> None:
    asked = dataclasses.replace(problem("code"), question="What? " * 2000)
    assert asked.question in compact_prompt(asked, max_context_chars=0)
    text = user_text(asked, max_context_chars=0)
    assert asked.question in text and text.endswith("# Entry point\ncount_pens")
