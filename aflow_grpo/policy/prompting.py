"""Turns a problem into the prompt's token ids, never longer than the policy may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from transformers import PreTrainedTokenizerBase

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Problem
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt

__all__ = ["PromptForm", "encode_problem"]

PromptForm = Literal["compact", "full"]
_COMPACT_CHARS = 600
"""Longest compact prompt in characters, unless its question alone is longer."""


def encode_problem(
    problem: Problem,
    tokenizer: PreTrainedTokenizerBase,
    form: PromptForm,
    max_tokens: int,
    operators: OperatorSet = TEN_OPERATORS,
) -> list[int]:
    """The prompt's ids, at most `max_tokens` of them.

    What does not fit loses the middle of its context; when that is not enough, or there is no
    context, the middle of the prompt itself, so that domain and output format stay.

    Raises:
        ConfigError: The full form is asked of a tokenizer without a chat template.
    """
    if form == "full" and not tokenizer.chat_template:
        raise ConfigError(
            "model.policy.prompt_form=full needs a tokenizer with a chat template, and this one "
            "has none. Use an instruct model, or prompt_form: compact."
        )
    budget = len(problem.context) if form == "full" else _COMPACT_CHARS

    def within(characters: int) -> list[int]:
        if form == "full":
            return _ids(_full(problem, tokenizer, characters, operators), tokenizer)
        return _ids(compact_prompt(problem, max_chars=characters), tokenizer)

    ids = within(budget)
    if len(ids) > max_tokens and problem.context:
        ids = _largest_that_fits(within, budget, max_tokens)
    if len(ids) > max_tokens:
        head = max_tokens // 2
        ids = ids[:head] + ids[len(ids) - (max_tokens - head) :]
    return ids


def _full(
    problem: Problem,
    tokenizer: PreTrainedTokenizerBase,
    context_chars: int,
    operators: OperatorSet,
) -> str:
    messages = full_prompt(problem, max_context_chars=context_chars, operators=operators)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [int(i) for i in ids]


def _largest_that_fits(
    encode: Callable[[int], list[int]], characters: int, max_tokens: int
) -> list[int]:
    """The longest encoding within the limit over budgets below `characters`, by bisection."""
    fits, too_many = encode(0), characters
    if len(fits) > max_tokens:
        return fits
    low = 0
    while too_many - low > 1:
        middle = (low + too_many) // 2
        ids = encode(middle)
        if len(ids) <= max_tokens:
            low, fits = middle, ids
        else:
            too_many = middle
    return fits
