"""Prompts: both forms, and never longer than allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_models import byte_tokenizer

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.prompting import encode_problem
from aflow_grpo.records import Problem
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt

MATH = Problem(id="p/1", dataset="sample", domain="math", question="What is 2+3?", answer="5")
QA = Problem(
    id="p/2",
    dataset="sample",
    domain="qa",
    question="Who sang?",
    answer="Ada",
    context="The choir. " * 500,
)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.mark.parametrize("problem", [MATH, QA], ids=["math", "qa"])
def test_compact_is_the_compact_prompt(problem, tokenizer):
    ids = encode_problem(problem, tokenizer, "compact", 1000)
    assert tokenizer.decode(ids) == compact_prompt(problem)


def test_full_is_the_chat_template(tokenizer):
    text = tokenizer.decode(encode_problem(MATH, tokenizer, "full", 100_000))
    system, user = (message["content"] for message in full_prompt(MATH))
    assert text == f"<system>{system}<user>{user}<assistant>"


@pytest.mark.parametrize("form", ["compact", "full"])
def test_a_long_context_is_shortened_as_little_as_needed(form, tokenizer):
    whole = len(encode_problem(replace(QA, context=""), tokenizer, form, 100_000))
    limit = whole + 120
    ids = encode_problem(QA, tokenizer, form, limit)
    text = tokenizer.decode(ids)
    assert limit - 10 <= len(ids) <= limit
    assert "The choir." in text
    assert "Who sang?" in text


@pytest.mark.parametrize("form", ["compact", "full"])
@pytest.mark.parametrize("limit", [8, 31, 200])
def test_what_still_does_not_fit_loses_its_middle(form, limit, tokenizer):
    problem = replace(MATH, question="What is 2+3? " * 100)
    whole = encode_problem(problem, tokenizer, form, 100_000)
    ids = encode_problem(problem, tokenizer, form, limit)
    assert len(ids) == limit
    assert ids[: limit // 2] == whole[: limit // 2]
    assert ids[-(limit - limit // 2) :] == whole[-(limit - limit // 2) :]


def test_a_context_that_leaves_no_room_for_itself(tokenizer):
    ids = encode_problem(QA, tokenizer, "compact", 12)
    assert len(ids) == 12
    assert tokenizer.decode(ids).endswith("low>\n")


def test_full_needs_a_chat_template():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(
        ConfigError, match="prompt_form=full needs a tokenizer with a chat template"
    ):
        encode_problem(MATH, tokenizer, "full", 100)
