"""Is a short answer right? One strict comparison decides; official measures are reported beside.

An answer is the whole text, or what follows a lead that opens it (`The answer is Paris.`,
`**Answer:** Paris`, `\\boxed{Paris}`). It is right when it is an accepted answer up to case,
accents, punctuation, articles, the way in which a number or a date is written, and the order of
several spans. So a sentence that contains the gold text is wrong, and so are reasoning, a list of
candidates, and what is nearly right: `value` is 1 or 0.

For DROP a number may carry a unit that the gold answer leaves out, `20 years` for `20`, unless the
question asks for another one.

Not covered: how words, numbers, dates and spans are read (`qa_values`), the measures
(`qa_measures`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aflow_grpo.records import Score
from aflow_grpo.scoring.qa_measures import drop_measures, hotpotqa_measures, official_normal
from aflow_grpo.scoring.qa_values import (
    answer_spans,
    normalise_answer,
    numbers_in,
    read_date,
    read_quantity,
    same_quantity,
)

__all__ = ["normalise_answer", "score_qa", "short_answer"]

_LEAD = re.compile(
    r"[\s*_#>\"'`]*(?:so,?\s+|therefore,?\s+|thus,?\s+)?(?:the\s+|my\s+)?"
    r"(?:(?:final|short|correct|corrected|refined|revised|original|formatted|concise|exact)\s+)*"
    r"answer\s*(?:to\s+the\s+question\s*)?[*_]*\s*(?:is\b|[:=])\s*[*_]*\s*:?[\s*_]*",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\$*\s*\\boxed\s*\{(?:\\text\s*\{)?(?P<inside>[^{}]*)\}{1,2}\s*\.?\s*\$*")
_ASKED = re.compile(
    r"how (?:many|much)\s+(?:more|fewer|less|total|combined|in)?\s*([a-z]+)", re.IGNORECASE
)
_MAX_TEXT_CHARS = 100_000
_MAX_SPAN_CHARS = 2_000
"""A longer text is not read as spans: no gold answer is that long."""


def score_qa(answer: str, golds: Sequence[str], *, drop: bool = False, question: str = "") -> Score:
    """1 when `answer` is one of `golds`, else 0; nothing between.

    Args:
        answer: The workflow's answer, any text.
        golds: Every accepted answer, at least one.
        drop: By DROP's rules: a unit may be left out or added, and its official measures.
        question: Says which unit is asked for (`drop`).

    Returns:
        With `measures` ``exact_match`` and ``f1``: the official ones of HotpotQA or of DROP, best
        over `golds`, of the answer without its lead.
    """
    answer = answer[:_MAX_TEXT_CHARS].strip()
    forms = list(dict.fromkeys([short_answer(answer), answer]))
    asked = match[1].lower() if drop and (match := _ASKED.search(question)) else ""
    found = next(
        (gold for gold in golds for form in forms if _is_right(form, gold, drop, asked)), None
    )
    measures = _measures(forms, golds, drop=drop)
    if found is not None:
        return Score(1.0, True, f"{forms[0][:80]!r} is {found[:80]!r}", measures)
    f1 = measures["f1"]
    detail = f"{forms[0][:80]!r} is not {golds[0][:80]!r} (F1 {f1:.2f})"
    return Score(0.0, False, detail, measures)


def short_answer(text: str) -> str:
    """`text` without a lead that opens it: `Paris.` of `**Final answer:** Paris.`."""
    for _ in range(2):  # `Answer: the answer is Paris`
        match = _LEAD.match(text)
        rest = text[match.end() :].strip() if match else ""
        if not rest:
            break
        text = rest
    boxed = _BOXED.fullmatch(text)
    return boxed["inside"] if boxed and boxed["inside"].strip() else text


def _is_right(answer: str, gold: str, drop: bool, asked: str) -> bool:
    if not answer or not gold.strip():
        return False
    if answer == gold.strip() or _same_span(answer, gold, drop, asked):
        return True
    if len(answer) > _MAX_SPAN_CHARS:
        return False
    given, wanted = answer_spans(answer), answer_spans(gold)
    return (
        min(len(given), len(wanted)) > 1
        and all(any(_same_span(a, b, drop, asked) for a in given) for b in wanted)
        and all(any(_same_span(a, b, drop, asked) for b in wanted) for a in given)
    )


def _same_span(answer: str, gold: str, drop: bool, asked: str) -> bool:
    """Whether two texts are one answer: words, official normal form, date or quantity."""
    given, wanted = normalise_answer(answer), normalise_answer(gold)
    if given == wanted:
        return bool(wanted)
    if numbers_in(given) == numbers_in(wanted):
        normal = official_normal(gold)
        if normal and official_normal(answer) == normal:
            return True
    date = read_date(wanted)
    if date is not None and date == read_date(given):
        return True
    quantity, expected = read_quantity(given), read_quantity(wanted)
    if quantity is None or expected is None:
        return False
    return same_quantity(quantity, expected, loose=drop, asked=asked)


def _measures(forms: Sequence[str], golds: Sequence[str], *, drop: bool) -> dict[str, float]:
    pairs = [(form[:_MAX_SPAN_CHARS], gold) for form in forms for gold in golds if gold.strip()]
    if drop:
        found = [drop_measures([form], [gold]) for form, gold in pairs]
        found += [drop_measures(answer_spans(form), answer_spans(gold)) for form, gold in pairs]
    else:
        found = [hotpotqa_measures(form, gold) for form, gold in pairs]
    exact = max((exact for exact, _ in found), default=0.0)
    return {"exact_match": exact, "f1": max((f1 for _, f1 in found), default=0.0)}
