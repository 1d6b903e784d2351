"""Turns a problem into the prompt's token ids, never longer than the policy may read.

Only the context is ever shortened. A prompt that does not fit even without it is an error, never
a silent cut; `excess_lengths` finds such problems before anything is paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import VisibleProblem
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt

__all__ = ["EncodedPrompt", "PromptForm", "encode_problem", "excess_lengths"]

PromptForm = Literal["compact", "full"]

_CLOSE_ENOUGH = 8
"""The search for the longest context ends when at most this many tokens stay unused."""
_SEAM = 16
"""More tokens than a text can gain by being tokenized within another one."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the policy reads it."""

    ids: tuple[int, ...]
    context_cut: bool = False
    """Whether it holds only part of the problem's context."""


def encode_problem(
    problem: VisibleProblem,
    tokenizer: PreTrainedTokenizerBase,
    form: PromptForm,
    max_tokens: int,
    operators: OperatorSet = TEN_OPERATORS,
) -> EncodedPrompt:
    """The prompt, at most `max_tokens` long; what does not fit of a context is left out.

    Raises:
        ConfigError: It does not fit without any context, or the full form is asked of a tokenizer
            without a chat template.
    """

    def within(context_chars: int) -> list[int]:
        return _ids([_prompt(problem, tokenizer, form, context_chars, operators)], tokenizer)[0]

    whole = within(len(problem.context))
    if len(whole) <= max_tokens:
        return EncodedPrompt(tuple(whole))
    bare = within(0)
    if len(bare) > max_tokens:
        raise ConfigError(
            f"The prompt of {problem.id} takes {len(bare)} tokens without any context, but "
            f"model.policy.sampling.max_prompt_tokens={max_tokens}. Raise it to at least "
            f"{len(bare)}, or leave such problems out: data.skip_too_long: true."
        )
    return EncodedPrompt(tuple(_longest(within, problem, whole, bare, max_tokens)), True)


def excess_lengths(
    problems: Sequence[VisibleProblem],
    tokenizer: PreTrainedTokenizerBase,
    form: PromptForm,
    max_tokens: int,
    operators: OperatorSet = TEN_OPERATORS,
) -> dict[str, int]:
    """Problem id -> tokens of its prompt without context, where they are more than `max_tokens`.

    Quick for thousands of problems: one whose characters are few enough is not tokenized.
    """
    frames: dict[str, int] = {}
    doubtful: dict[str, str] = {}
    for problem in problems:
        frame = frames.get(problem.domain)
        if frame is None:
            empty = VisibleProblem("", problem.dataset, problem.domain, "", entry_point="f")
            frame = len(_ids([_prompt(empty, tokenizer, form, 0, operators)], tokenizer)[0])
            frames[problem.domain] = frame
        asked = problem.question + problem.entry_point
        # No token is shorter than a byte.
        if not asked.isascii() or frame + len(asked) + _SEAM > max_tokens:
            doubtful[problem.id] = _prompt(problem, tokenizer, form, 0, operators)
    lengths = map(len, _ids(list(doubtful.values()), tokenizer))
    return {
        name: length for name, length in zip(doubtful, lengths, strict=True) if length > max_tokens
    }


def _prompt(
    problem: VisibleProblem,
    tokenizer: PreTrainedTokenizerBase,
    form: PromptForm,
    context_chars: int,
    operators: OperatorSet,
) -> str:
    if form == "compact":
        return compact_prompt(problem, max_context_chars=context_chars)
    if not tokenizer.chat_template:
        raise ConfigError(
            "model.policy.prompt_form=full needs a tokenizer with a chat template, and this one "
            "has none. Use an instruct model, or prompt_form: compact."
        )
    messages = full_prompt(problem, max_context_chars=context_chars, operators=operators)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not texts:
        return []
    # Not verbose: a text above the model's own limit is tokenized only to be shortened.
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
    rows: list[list[int]] = encoded["input_ids"]
    return rows


def _longest(
    within: Callable[[int], list[int]],
    problem: VisibleProblem,
    whole: Sequence[int],
    bare: list[int],
    max_tokens: int,
) -> list[int]:
    """The longest prompt that fits, or one a few tokens short of it.

    Tokens grow almost evenly with characters, so the first guess lies near; every third one is
    the middle, for texts that are dense at one end only.
    """
    fits, low, high = bare, 0, len(problem.context)
    over, guesses = len(whole), 0
    while high - low > 1 and max_tokens - len(fits) > _CLOSE_ENOUGH:
        guesses += 1
        aim = max_tokens - _CLOSE_ENOUGH // 2
        share = (aim - len(fits)) / (over - len(fits)) if guesses % 3 else 0.5
        guess = min(max(low + round((high - low) * share), low + 1), high - 1)
        ids = within(guess)
        if len(ids) <= max_tokens:
            fits, low = ids, guess
        else:
            over, high = len(ids), guess
    return fits
