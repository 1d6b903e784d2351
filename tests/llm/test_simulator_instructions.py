"""Which instruction makes which reply: families of phrases, their strength, their conflicts."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.llm.simulator import prose
from aflow_grpo.llm.simulator.instructions import Reading, read_instruction, short_chance


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("Reply with the short answer.", "brevity"),
        ("Give ONLY the name.", "brevity"),
        ("Use no more than a few words.", "brevity"),
        ("Do not explain.", "silence"),
        ("Answer without any explanation!", "silence"),
        ("Explain your answer in detail.", "talk"),
        ("Think step by step.", "reasoning"),
        ("Break it down and show your work.", "reasoning"),
        ("Please double-check the result.", "check"),
        ("Verify that this is correct.", "check"),
        ("Rewrite and improve the solution.", "rewrite"),
        ("Extract the answer.", "extract"),
        ("Put the final answer in \\boxed{}.", "closing"),
        ("Give the answer with units.", "units"),
        ("Use the passage.", "grounding"),
        ("Mind the edge cases.", "edges"),
        ("Write the function in Python.", "code"),
        ("The code failed its tests.", "failure"),
    ],
)
def test_a_phrase_is_read_as_its_family(text: str, family: str) -> None:
    assert getattr(read_instruction(text), family) > 0.3


@pytest.mark.parametrize(
    "text", ["", "   ", "Hello there!", "12345", "\\boxed{12", "¿?", "The lonely shorts."]
)
def test_other_words_are_read_as_nothing(text: str) -> None:
    assert read_instruction(text) == Reading()
    assert read_instruction(text).empty


def test_a_forbidden_explanation_is_not_a_wanted_one() -> None:
    reading = read_instruction("Give the answer without explanation.")
    assert reading.silence > 0.5 and reading.talk == 0


def test_strength_grows_with_every_phrase_and_stays_below_one() -> None:
    texts = ["a short one", "only a short one", "only a short one in a few words"]
    one, two, three = (read_instruction(text).brevity for text in texts)
    assert 0 < one < two < three < 1


def test_both_ends_of_a_long_text_are_read_and_the_draft_between_is_not() -> None:
    filler = "lorem ipsum " * 400
    text = f"Answer briefly. {filler} verify {filler} Think step by step."
    reading = read_instruction(text)
    assert reading.brevity > 0.3 and reading.reasoning > 0.3 and reading.check == 0


@pytest.mark.parametrize(
    ("text", "draft", "low", "high"),
    [
        ("", False, 0.0, 0.05),
        ("Answer the question.", False, 0.0, 0.10),
        ("Give only the short answer.", False, 0.97, 1.0),
        ("Answer from the context with a few words, no sentence.", False, 0.97, 1.0),
        ("Give the answer alone.", False, 0.9, 1.0),
        ("Explain in detail, but give only the answer.", False, 0.3, 0.95),
        ("Explain in detail.", False, 0.0, 0.05),
        ("Format the answer.", True, 0.3, 0.7),
        ("Verify the answer and explain what you find.", True, 0.05, 0.2),
        ("Check it. Give only the short answer, no explanation.", True, 0.85, 0.97),
    ],
)
def test_short_answers_follow_the_request(text: str, draft: bool, low: float, high: float) -> None:
    assert low <= short_chance(read_instruction(text), draft=draft) <= high


@given(st.text(max_size=600), st.booleans(), st.floats(-3, 3))
def test_every_text_has_a_chance(text: str, draft: bool, plain: float) -> None:
    assert 0 <= short_chance(read_instruction(text), draft=draft, plain=plain) <= 1


@given(st.text(alphabet=string.ascii_letters + " .,", max_size=300))
def test_case_and_punctuation_do_not_count(text: str) -> None:
    assert read_instruction(text.upper()) == read_instruction(text.lower())
    assert read_instruction(text.replace(",", ";")) == read_instruction(text)


@pytest.mark.parametrize("seed", range(20))
def test_the_models_own_prose_instructs_nobody(seed: int) -> None:
    rng = random.Random(seed)
    texts = [
        prose.derivation(rng, 2000),
        prose.aside(rng, 600),
        prose.spoken(rng, 300),
        prose.code_notes(rng, 1500),
        prose.CODE_INTRO,
        "Therefore, the result is $\\boxed{18}$.",
        "This leaves 18, or 3 more than what was there at first",
    ]
    for text in texts:
        assert read_instruction(text) == Reading(), text


@pytest.mark.parametrize("chars", [40, 200, 1000, 3600])
def test_prose_has_about_the_length_asked_for(chars: int) -> None:
    lengths = [len(prose.derivation(random.Random(seed), chars)) for seed in range(300)]
    assert sum(lengths) / len(lengths) == pytest.approx(chars, rel=0.05, abs=50)
