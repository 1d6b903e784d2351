r"""Is a mathematical answer right? Finds the one value that the text states, and compares.

An answer counts only where the text commits to it, in this order: inside `\boxed{}`, after
`####`, as a stated final answer (`The answer is 5.`), or as the whole text (`5`, `18 dollars`).
A number that merely occurs in running text is no answer, and neither is a choice of several:
two different boxed values, or a list of every candidate, are wrong.

Numbers, and lists of them, compare exactly (`math_values`); other formulas in the child process of
`equivalence`, where `math_forms` lets them. Not covered: where a text commits (`math_statements`).
"""

from __future__ import annotations

from collections.abc import Sequence

from aflow_grpo.records import Score
from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_forms import formulas
from aflow_grpo.scoring.math_statements import stated_answers
from aflow_grpo.scoring.math_values import Value, ValueList, parse_value, same_value

__all__ = ["score_math", "stated_answers"]

_MAX_TEXT_CHARS = 100_000
_MAX_CANDIDATES = 50
"""A text that commits itself more often than that commits to nothing."""
_MAX_QUESTIONS = 20
"""Most comparisons in the child process for one answer."""


async def score_math(answer: str, gold: str, equivalence: Equivalence) -> Score:
    r"""1 when the one value that `answer` states is the gold value, else 0; nothing between.

    Args:
        answer: The workflow's answer, any text.
        gold: The gold value, or a text that states it (`\boxed{}`, `#### 18`).
        equivalence: Decides about formulas that are no plain numbers.
    """
    expected = _gold_value(gold)
    if expected is None:
        return Score(0.0, False, f"the gold answer {gold[:80]!r} is no value")
    if len(answer) > _MAX_TEXT_CHARS:
        return Score(0.0, False, f"the answer has {len(answer)} characters: too long to judge")
    candidates = stated_answers(answer)
    values = [parse_value(candidate) for candidate in candidates[:_MAX_CANDIDATES]]
    value = values[-1] if values and len(candidates) <= _MAX_CANDIDATES else None
    judge = _Judge(equivalence)
    if value is None or not await judge.all_same(values[:-1], value):
        shown = ", ".join(repr(text[:40]) for text in candidates[:4])
        return Score(0.0, False, f"no single stated value in the answer ({shown or 'empty'})")
    right = await judge.same(value, expected)
    detail = f"{candidates[-1][:80]!r} {'is' if right else 'is not'} {gold[:80]!r}"
    return Score(float(right), right, detail + judge.trouble)


class _Judge:
    """Compares values: exactly where it can, else in the child process, within its rules."""

    def __init__(self, equivalence: Equivalence) -> None:
        self._equivalence = equivalence
        self._questions = 0
        self.trouble = ""
        """What kept the child from an answer, for the score's detail; empty for nothing."""

    async def all_same(self, values: Sequence[Value | None], last: Value) -> bool:
        """Whether every one is a value, and the same as `last`."""
        for value in values:
            if value is None or not await self.same(value, last):
                return False
        return True

    async def same(self, answer: Value, gold: Value) -> bool:
        """Whether `answer` is `gold`; a comparison that takes too long counts as no."""
        if same_value(answer, gold):
            return True
        if isinstance(answer, ValueList) and isinstance(gold, ValueList):
            return await self._same_list(answer, gold)
        pair = formulas(answer, gold)
        if pair is None or self._questions >= _MAX_QUESTIONS or self.trouble:
            return False
        self._questions += 1
        verdict = await self._equivalence.compare(*pair)
        if verdict in ("timeout", "failed"):
            self.trouble = f" ({verdict} while comparing)"
        return verdict == "equal"

    async def _same_list(self, answer: ValueList, gold: ValueList) -> bool:
        if answer.brackets != gold.brackets or len(answer.items) != len(gold.items):
            return False
        left = list(answer.items)
        for item in gold.items:
            for other in left[:1] if gold.brackets else left:
                if await self.same(other, item):
                    left.remove(other)
                    break
            else:
                return False
        return True


def _gold_value(gold: str) -> Value | None:
    """The value that gold states: the last one, in a solution that boxes its steps too."""
    stated = stated_answers(gold)
    return (parse_value(stated[-1]) if stated else None) or parse_value(" ".join(gold.split()))
