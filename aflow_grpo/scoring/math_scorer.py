r"""Is a mathematical answer right? Finds the one value that the text states, and compares exactly.

An answer counts only where the text commits to it, in this order: inside `\boxed{}`, after
`####`, as a stated final answer (`The answer is 5.`), or as the whole text (`5`, `18 dollars`).
A number that merely occurs in running text is no answer, and neither is a choice of several:
two different boxed values, or a list of every candidate, are wrong.

Not covered: how a value is read and compared (`math_values`).
"""

from __future__ import annotations

import re

from aflow_grpo.records import Score
from aflow_grpo.scoring.math_values import Value, parse_value, same_value

__all__ = ["score_math", "stated_answers"]

_MAX_TEXT_CHARS = 100_000
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?=(\w)))")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_STATED = re.compile(
    r"\b(?P<final>final\s+)?answer\b(?:\s+(?:to|for)\b[^.:=\n]{0,80}?)?\s*"
    r"(?:\b(?:is|are)\b|[:=])[ \t]*:?[ \t]*(?P<value>[^\n]*?)(?:[.!](?=\s|$)|\n|$)",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(?<![\d)}])\*\*|\*\*(?![\d({])")
"""Markdown's two stars, but not the power in `2**10`."""


def score_math(answer: str, gold: str) -> Score:
    r"""1 when the one value that `answer` states is the gold value, else 0; nothing between.

    Args:
        answer: The workflow's answer, any text.
        gold: The gold value, or a text that states it (`\boxed{}`, `#### 18`).
    """
    expected = _one_value(stated_answers(gold))
    if expected is None:
        expected = parse_value(gold)
    if expected is None:
        return Score(0.0, False, f"the gold answer {gold[:80]!r} is no value")
    if len(answer) > _MAX_TEXT_CHARS:
        return Score(0.0, False, f"the answer has {len(answer)} characters: too long to judge")
    candidates = stated_answers(answer)
    value = _one_value(candidates)
    if value is None:
        shown = ", ".join(repr(text[:40]) for text in candidates[:4])
        return Score(0.0, False, f"no single stated value in the answer ({shown or 'empty'})")
    right = same_value(value, expected)
    detail = f"{candidates[-1][:80]!r} {'is' if right else 'is not'} {gold[:80]!r}"
    return Score(float(right), right, detail)


def stated_answers(text: str) -> list[str]:
    r"""Where `text` commits to an answer: all `\boxed{}`, else all `####`, else all statements.

    A text without any of these states itself. Several entries that differ in value mean that the
    text commits to nothing.
    """
    boxed = _boxed(text)
    if boxed:
        return boxed
    text = _BOLD.sub("", text)
    hashes: list[str] = _HASHES.findall(text)
    if hashes:
        return hashes
    statements = [(bool(m["final"]), m["value"]) for m in _STATED.finditer(text) if m["value"]]
    final = [value for is_final, value in statements if is_final]
    if final or statements:
        return final or [value for _, value in statements]
    return [text.strip()] if text.strip() else []


def _one_value(candidates: list[str]) -> Value | None:
    """The value that all candidates state; None when one is no value or two differ."""
    values = [parse_value(candidate) for candidate in candidates]
    if not values:
        return None
    last = values[-1]
    if last is None or any(value is None or not same_value(value, last) for value in values):
        return None
    return last


def _boxed(text: str) -> list[str]:
    """The contents of every outermost `\\boxed{}`; braces may nest, unclosed ones are skipped."""
    found: list[str] = []
    position = 0
    while match := _BOXED.search(text, position):
        if match[1]:  # the brace-less form, \boxed 5
            found.append(match[1])
            position = match.end() + 1
            continue
        end = _closing_brace(text, match.end())
        if end is None:
            return found
        found.append(text[match.end() : end])
        position = end + 1
    return found


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position
    return None
