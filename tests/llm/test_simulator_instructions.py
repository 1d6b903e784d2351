"""Which instruction makes which reply: families of phrases, their strength, their conflicts."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, problems, system

from aflow_grpo.llm.simulator import SimulatorSettings, prose
from aflow_grpo.llm.simulator.instructions import Reading, read_instruction, short_chance
from aflow_grpo.llm.simulator.values import extract, is_right
from aflow_grpo.llm.simulator.world import World

N = 600


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
        ("Plan the computation in short steps.", "plan"),
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


def test_a_plan_holds_no_answer() -> None:
    for domain in ("math", "code"):
        made = problems(domain, 40)
        world = World(made, MARKERS, SimulatorSettings())
        for problem in made:
            text = world.text(system("custom"), f"Plan it in short steps.\n\n{problem.text}", 1)
            assert extract(text) is None and "```" not in text


@pytest.mark.parametrize(
    ("instruction", "low", "high"),
    [
        ("Give only the short answer.", 0.9, 1.0),
        ("Answer the question.", 0.0, 0.15),
        ("Explain in detail.", 0.0, 0.1),
        ("Explain in detail. Give only the short answer, no explanation.", 0.6, 1.0),
    ],
)
def test_on_qa_the_instruction_decides_on_the_form(
    instruction: str, low: float, high: float
) -> None:
    made = problems("qa", N, 1)
    world = World(made, MARKERS, SimulatorSettings())
    texts = [world.text(system("custom"), f"{instruction}\n\n{p.text}", 1) for p in made]
    short = sum(len(text.split()) < 6 for text in texts) / N
    assert low <= short <= high


def test_a_step_that_verifies_a_short_answer_mostly_makes_it_wordy() -> None:
    made = problems("qa", N, 1)
    world = World(made, MARKERS, SimulatorSettings())

    def exact(instruction: str) -> float:
        prompts = [f"{instruction}\n\n{p.text}\n\nAnswer: {p.answer}" for p in made]
        texts = [world.text(system("custom"), prompt, 1) for prompt in prompts]
        return sum(text == p.answer for p, text in zip(made, texts, strict=True)) / N

    assert exact("Give only the short answer.") > 0.95
    assert 0.8 < exact("Check the answer. Give only the short answer.") < 0.97
    assert exact("Verify the answer and explain what you find.") < 0.25


def test_a_draft_is_mostly_taken_over_in_math() -> None:
    made = problems("math", N, 3)
    world = World(made, MARKERS, SimulatorSettings())

    def share(draft: str) -> float:
        """Of replies that are right."""
        texts = [
            world.text(system("custom"), f"Refine it.\n\n{p.text}\nResult: {draft or p.answer}", 1)
            for p in made
        ]
        return sum(is_right(p, extract(text)) for p, text in zip(made, texts, strict=True)) / N

    alone = (
        sum(
            is_right(p, extract(world.text(system("custom"), f"Refine it.\n\n{p.text}", 1)))
            for p in made
        )
        / N
    )
    assert share("") > 0.93
    assert share("") - alone > 0.4


def test_unconditional_rewriting_spoils_code() -> None:
    made = problems("code", N, 1)
    world = World(made, MARKERS, SimulatorSettings())
    block = "Rewrite and improve the code.\n\n{}\n\n```python\n{}\n```"
    texts = [world.text(system("custom"), block.format(p.text, p.answer), 1) for p in made]
    kept = sum(f"```python\n{p.answer}\n```" in t for p, t in zip(made, texts, strict=True)) / N
    assert kept == pytest.approx(0.86, abs=0.05)
    assert all("```python" in text for text in texts)


def test_a_critique_of_code_is_words() -> None:
    made = problems("code", 50, 1)
    world = World(made, MARKERS, SimulatorSettings())
    for p in made:
        prompt = f"Review the code and say what is missing.\n\n{p.text}\n\n{p.answer}"
        assert "```" not in world.text(system("custom"), prompt, 1)
