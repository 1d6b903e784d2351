"""Prompts: both forms, never longer than allowed, and only ever short of context."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import byte_tokenizer
from transformers import AutoTokenizer

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.sources import DATA_VARIABLE, DataSource, load_source
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy import prompting
from aflow_grpo.policy.prompting import EncodedPrompt, encode_problem, excess_lengths
from aflow_grpo.records import DOMAINS, VisibleProblem
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt

MATH = VisibleProblem(id="p/1", dataset="sample", domain="math", question="What is 2+3?")
QA = VisibleProblem(
    id="p/2",
    dataset="sample",
    domain="qa",
    question="Who sang?",
    context="The choir. " * 500,
)
FORMS = ("compact", "full")
CHAT_START, CHAT_END = 151644, 151645
ONE_WORD = 40
"""Tokens of the longest word in the real contexts, one in Tamil."""


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def tiny():
    return AutoTokenizer.from_pretrained(shipped_path("data/tiny-policy"))


@pytest.mark.parametrize("problem", [MATH, QA], ids=["math", "qa"])
def test_compact_is_the_compact_prompt(problem, tokenizer):
    prompt = encode_problem(problem, tokenizer, "compact", 10_000)
    assert tokenizer.decode(prompt.ids) == compact_prompt(problem)
    assert not prompt.context_cut


def test_full_is_the_chat_template(tokenizer):
    text = tokenizer.decode(encode_problem(MATH, tokenizer, "full", 100_000).ids)
    system, user = (message["content"] for message in full_prompt(MATH))
    assert text == f"<system>{system}<user>{user}<assistant>"


def without_context(problem, tokenizer, form) -> int:
    """Tokens of the shortest prompt."""
    (need,) = excess_lengths([problem], tokenizer, form, 8).values()
    return need


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("room", [0, 1, 17, 120, 4000])
def test_a_long_context_is_shortened_as_little_as_needed(form, room, tokenizer):
    limit = without_context(QA, tokenizer, form) + room
    prompt = encode_problem(QA, tokenizer, form, limit)
    assert limit - 20 <= len(prompt.ids) <= limit
    assert prompt.context_cut
    text = tokenizer.decode(prompt.ids)
    assert text.count("The choir.") == pytest.approx(room / 11, abs=2)
    assert text.endswith("\n\nQuestion: Who sang?" + text.rpartition("Who sang?")[2])


@pytest.mark.parametrize("form", FORMS)
def test_what_fits_to_the_token_is_whole(form, tokenizer):
    whole = encode_problem(QA, tokenizer, form, 100_000)
    assert encode_problem(QA, tokenizer, form, len(whole.ids)) == whole
    assert encode_problem(QA, tokenizer, form, len(whole.ids) - 1).context_cut


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_fit_is_an_error_and_never_cut(form, tokenizer):
    problem = replace(QA, question="What is 2+3? " * 100)
    need = without_context(problem, tokenizer, form)
    assert encode_problem(problem, tokenizer, form, need).context_cut
    wanted = rf"p/2 takes {need} tokens .*max_prompt_tokens={need - 1}\. Raise it to at least"
    with pytest.raises(ConfigError, match=wanted):
        encode_problem(problem, tokenizer, form, need - 1)


def test_full_needs_a_chat_template():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(
        ConfigError, match="prompt_form=full needs a tokenizer with a chat template"
    ):
        encode_problem(MATH, tokenizer, "full", 100)


@given(
    st.lists(st.text(max_size=120) | st.sampled_from(["x" * 300, "語 " * 200, " \n"]), max_size=9),
    st.integers(0, 400),
)
@settings(deadline=None)
def test_no_prompt_is_longer_than_allowed(tiny, lines, room):
    problem = replace(QA, context="\n".join(lines))
    limit = without_context(problem, tiny, "compact") + room
    prompt = encode_problem(problem, tiny, "compact", limit)
    assert len(prompt.ids) <= limit
    assert prompt.context_cut == (len(tiny(compact_prompt(problem))["input_ids"]) > limit)


@given(st.text(max_size=300), st.integers(8, 700))
@settings(deadline=None)
def test_the_quick_look_finds_exactly_what_cannot_be_encoded(tiny, question, limit):
    problem = replace(QA, question=question)
    found = excess_lengths([MATH, problem], tiny, "compact", limit)
    for one in (MATH, problem):
        if one.id in found:
            assert found[one.id] > limit
            with pytest.raises(ConfigError, match=f"takes {found[one.id]} tokens"):
                encode_problem(one, tiny, "compact", limit)
        else:
            encode_problem(one, tiny, "compact", limit)


def test_the_quick_look_tokenizes_only_what_may_be_too_long(tiny, monkeypatch):
    tokenized = []
    inner = prompting._ids
    monkeypatch.setattr(
        prompting, "_ids", lambda texts, t: tokenized.extend(texts) or inner(texts, t)
    )
    many = [replace(MATH, id=f"p/{n}") for n in range(5000)]
    long = replace(MATH, id="long", question="What is 2+3? " * 200)
    (name,) = excess_lengths([*many, long], tiny, "compact", 640)
    assert name == "long"
    assert len(tokenized) == 2, "the domain's frame and the long one"


@pytest.mark.parametrize("domain", DOMAINS)
def test_shipped_problems_fit_the_shipped_policy_whole(domain, tiny):
    problems = [p.visible for p in load_source(DataSource("sample")) if p.domain == domain]
    for problem in problems[:100]:
        prompt = encode_problem(problem, tiny, "compact", 640)
        assert prompt == EncodedPrompt(tuple(tiny(compact_prompt(problem))["input_ids"]))


# Real problems


FOLDER = os.environ.get(DATA_VARIABLE, "")
real = pytest.mark.skipif(not FOLDER, reason=f"{DATA_VARIABLE} is not set")


@pytest.fixture(scope="module")
def hotpotqa() -> list[tuple[VisibleProblem, list[str]]]:
    """The problems with the titles of their paragraphs."""
    path = Path(FOLDER) / "aflow_format" / "hotpotqa_validate.jsonl"
    rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    problems = [p.visible for p in load_source(DataSource("hotpotqa", path=str(path)))]
    titles = [[title.strip() for title, text in row["context"] if "".join(text)] for row in rows]
    assert len(problems) == len(titles) == 200
    return list(zip(problems, titles, strict=True))


@real
def test_real_paragraphs_in_a_real_chat_keep_question_rules_and_titles(hotpotqa):
    tokenizer = AutoTokenizer.from_pretrained(Path(FOLDER) / "qwen2.5-tokenizer")
    cut = 0
    for problem, titles in hotpotqa:
        prompt = encode_problem(problem, tokenizer, "full", 2048)
        assert len(prompt.ids) <= 2048
        special = [i for i in prompt.ids if i in (CHAT_START, CHAT_END)]
        assert special == [CHAT_START, CHAT_END] * 2 + [CHAT_START]
        text = tokenizer.decode(prompt.ids)
        system, user = full_prompt(problem)
        rules = user["content"].partition("# Problem (qa)\n")[0]
        assert f"{system['content']}<|im_end|>" in text and rules in text
        assert text.endswith(f"\n\nQuestion: {problem.question}<|im_end|>\n<|im_start|>assistant\n")
        shown = text.replace("Context: ", "").splitlines()
        assert [title for title in titles if title not in shown] == []
        if prompt.context_cut:
            cut += 1
            assert len(prompt.ids) > 2048 - ONE_WORD
        else:
            assert problem.text in text
    assert 80 < cut < 120


@real
def test_real_paragraphs_for_the_tiny_policy_keep_question_and_titles(hotpotqa, tiny):
    for problem, titles in hotpotqa:
        prompt = encode_problem(problem, tiny, "compact", 640)
        text = tiny.decode(prompt.ids)
        assert 640 - ONE_WORD < len(prompt.ids) <= 640 and prompt.context_cut
        assert text.startswith("<qa>\nContext: ")
        assert text.endswith(f"\n\nQuestion: {problem.question}\n<workflow>\n")
        shown = text.replace("Context: ", "").splitlines()
        assert [title for title in titles if title not in shown] == []
