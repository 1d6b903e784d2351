"""Is a short answer right? Normalised exact match decides; token F1 is reported beside it.

After SQuAD's evaluation (Rajpurkar et al. 2016, arXiv 1606.05250), with its blind spots mended:
`3.5` is not `35`, `1,000` and `1000.0` are one number, an answer that is an article stays, accents
and hyphens don't matter, and a gold yes or no gives nothing for any other text (as in HotpotQA's).

`correct` is exact match with any accepted answer, so a verbose answer that contains the gold text
does not win, and no nearly right answer earns reward; `value` is the best F1, for reports.
Only a whole text of the form `The answer is Paris.` is taken as `Paris`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from aflow_grpo.records import Score

__all__ = ["normalise_answer", "score_qa", "token_f1"]

_ARTICLES = frozenset({"a", "an", "the"})
_CLOSED = frozenset({"yes", "no"})
_WORDS_TO_TWELVE = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_WORDS_TO_TWELVE.split())}
_LEAD = re.compile(
    r"\s*(?:so,?\s+|therefore,?\s+)?(?:the\s+)?(?:final\s+|short\s+|correct\s+)?answer\s*"
    r"(?:is\b|[:=])\s*:?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)")
_MAX_NUMBER_CHARS = 50
_MAX_TEXT_CHARS = 100_000


def score_qa(answer: str, golds: Sequence[str]) -> Score:
    """Exact match with any of `golds` after normalisation; `value` is the best token F1.

    Args:
        answer: The workflow's answer, any text.
        golds: Every accepted answer, at least one.
    """
    answer = answer[:_MAX_TEXT_CHARS].strip()
    short = _without_lead(answer)
    forms = [normalise_answer(form) for form in (short, answer)]
    best = 0.0
    for gold in golds:
        expected = normalise_answer(gold)
        if (expected and expected in forms) or answer == gold.strip() != "":
            return Score(1.0, True, f"{short[:80]!r} is {gold[:80]!r}")
        best = max(best, token_f1(forms[0], expected))
    return Score(best, False, f"{short[:80]!r} is not {golds[0][:80]!r} (F1 {best:.2f})")


def normalise_answer(text: str) -> list[str]:
    """The words that count: no case, accents, punctuation or articles; numbers in one form.

    ``"The 1,000.0 Islands!"`` is ``["1000", "islands"]``.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    words = [word for chunk in plain.replace("%", " percent ").split() for word in _words(chunk)]
    return [word for word in words if word not in _ARTICLES] or words


def token_f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the shared tokens; 0 where gold is yes or no."""
    common = sum((Counter(answer) & Counter(gold)).values())
    if not common or (len(gold) == 1 and gold[0] in _CLOSED):
        return float(bool(answer) and list(answer) == list(gold))
    return 2 * common / (len(answer) + len(gold))


def _words(chunk: str) -> list[str]:
    """The words in a text without blanks: a number as one, else split at hyphens and slashes."""
    number = chunk.strip("\"'`()[]{}<>*_$€£,;:!?…").rstrip(".")
    if len(number) <= _MAX_NUMBER_CHARS and _NUMBER.fullmatch(number):
        return [_plain_number(number)]
    spaced = "".join(
        " " if unicodedata.category(sign) == "Pd" or sign == "/" else sign
        for sign in chunk
        if unicodedata.category(sign) == "Pd" or sign == "/" or _kept(sign)
    )
    return [_NUMBER_WORDS.get(word, word) for word in spaced.split()]


def _kept(sign: str) -> bool:
    return unicodedata.category(sign)[0] not in "PSC"


def _plain_number(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.lstrip("+-").replace(",", "").partition(".")
    digits = whole.lstrip("0") or "0"
    if decimals.rstrip("0"):
        digits += "." + decimals.rstrip("0")
    return digits if digits == "0" else sign + digits


def _without_lead(text: str) -> str:
    """`Paris.` of `The answer is Paris.`, when that one line is the whole text."""
    match = _LEAD.match(text)
    rest = text[match.end() :].strip() if match else ""
    return rest if rest and "\n" not in rest else text
