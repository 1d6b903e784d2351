"""Reads a short answer: its words, its numbers, a date, a number with a unit, several spans.

After SQuAD's normalisation (Rajpurkar et al. 2016, arXiv 1606.05250), with its blind spots
mended: `3.5` is not `35`, `1,000` and `1000.0` are one number, `twenty-one` is `21`, an answer
that is an article stays, accents and hyphens don't matter.

Not covered: what makes two of them one answer (`qa_scorer`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = [
    "Quantity",
    "answer_spans",
    "normalise_answer",
    "numbers_in",
    "read_date",
    "read_quantity",
    "same_quantity",
]

_ARTICLES = frozenset({"a", "an", "the"})
_TO_NINETEEN = """zero one two three four five six seven eight nine ten eleven twelve thirteen
    fourteen fifteen sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {
    **{word: number for number, word in enumerate(_TO_NINETEEN.split())},
    **{word: 10 * number for number, word in enumerate(_TENS.split(), start=2)},
}
_ORDINAL_WORDS = "first second third fourth fifth sixth seventh eighth ninth tenth"
_ORDINALS = {
    word: f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number, 'th')}"
    for number, word in enumerate(_ORDINAL_WORDS.split(), start=1)
}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_MONTHS = """january february march april may june july august september october november
    december"""
_MONTH_OF = {
    **{month: number for number, month in enumerate(_MONTHS.split(), start=1)},
    **{month[:3]: number for number, month in enumerate(_MONTHS.split(), start=1)},
    "sept": 9,
}
_UNITS = {
    alias: unit
    for unit, aliases in {
        "year": "year years yr yrs",
        "month": "month months",
        "week": "week weeks",
        "day": "day days",
        "hour": "hour hours hr hrs",
        "minute": "minute minutes min mins",
        "second": "seconds sec secs",
        "yard": "yard yards yd yds",
        "foot": "foot feet ft",
        "inch": "inch inches",
        "mile": "mile miles mi",
        "metre": "meter meters metre metres m",
        "kilometre": "kilometer kilometers kilometre kilometres km",
        "percent": "percent pct",
        "dollar": "dollar dollars usd",
        "pound": "pound pounds lb lbs",
        "ton": "ton tons tonne tonnes",
        "point": "point points pts",
        "touchdown": "touchdown touchdowns td tds",
        "person": "person people persons",
    }.items()
    for alias in aliases.split()
}
_SENTENCE_WORDS = """or and nor to than then minus plus over under about but if not no is are was
    were be been maybe perhaps unknown wrong at most least between more less fewer off out of half
    quarter dozen hundred thousand million billion trillion"""
_NO_UNIT = frozenset(_SENTENCE_WORDS.split())
"""Words that make the text a hedge, a list or a formula rather than a number with its unit."""
_MAX_UNIT_WORDS = 3
_NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)")
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?")
_MAX_NUMBER_CHARS = 50
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_YEAR = re.compile(r"\d{3,4}")
_SEPARATOR = re.compile(
    r"\s*(?:[|;\n]|,(?!\d{3}(?!\d)))\s*(?:and\b|&|[-*•]\s|\d+\.\s)?|\s+(?:and|&)\s+"
)


@dataclass(frozen=True)
class Quantity:
    """A number and the words after it."""

    number: str
    unit: str
    """Words in one spelling; empty for none."""
    known: bool
    """The unit is one of measure."""


def normalise_answer(text: str) -> list[str]:
    """The words that count: no case, accents, punctuation or articles; numbers in one form.

    ``"The 1,000.0 Islands!"`` is ``["1000", "islands"]``.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    words = [word for chunk in plain.replace("%", " percent ").split() for word in _words(chunk)]
    return _folded([word for word in words if word not in _ARTICLES] or words)


def numbers_in(words: Sequence[str]) -> list[str]:
    """The words that are numbers, in order."""
    return [word for word in words if _PLAIN.fullmatch(word)]


def answer_spans(text: str) -> list[str]:
    """The parts between commas, semicolons, bars, line breaks and `and`; a whole text is one.

    The comma of `1,000` separates nothing.
    """
    parts = (part.strip() for part in _SEPARATOR.split(text.strip().lstrip("-*• ")))
    return [part for part in parts if part] or [text]


def read_date(words: Sequence[str]) -> tuple[int, int, str] | None:
    """(day, month, year) of `June 13, 1960`, `13th of June` and the like; None for other words.

    The day is 0 and the year empty where there is none, but not both.
    """
    rest = [word for word in words if word != "of"]
    months = [word for word in rest if word in _MONTH_OF]
    if len(months) != 1 or not 2 <= len(rest) <= 3:
        return None
    rest.remove(months[0])
    year = rest.pop() if _YEAR.fullmatch(rest[-1]) else ""
    day = _DAY.fullmatch(rest[0]) if len(rest) == 1 else None
    if rest and day is None:
        return None
    return int(day[1]) if day else 0, _MONTH_OF[months[0]], year


def read_quantity(words: Sequence[str]) -> Quantity | None:
    """`20 years` of its words; None for what is no number with at most three words after it."""
    if not words or not _PLAIN.fullmatch(words[0]):
        return None
    unit = words[1:]
    if len(unit) > _MAX_UNIT_WORDS or any(_no_unit(word) for word in unit):
        return None
    return Quantity(
        words[0],
        " ".join(_UNITS.get(word, word) for word in unit),
        len(unit) == 1 and unit[0] in _UNITS,
    )


def same_quantity(answer: Quantity, gold: Quantity, *, loose: bool, asked: str = "") -> bool:
    """Whether two quantities are one answer.

    Args:
        answer: What was given.
        gold: What is accepted.
        loose: A unit may be added to the gold number; a unit of measure may be left out.
        asked: What the question counts (`years`): an added unit must not contradict it.
    """
    if answer.number != gold.number:
        return False
    if answer.unit == gold.unit:
        return True
    if not loose:
        return False
    if not answer.unit:
        return gold.known
    if gold.unit:
        return False
    wanted = _UNITS.get(asked, "")
    return not (answer.known and wanted and answer.unit != wanted)


def _no_unit(word: str) -> bool:
    return word in _NO_UNIT or word in _MONTH_OF or any(sign.isdigit() for sign in word)


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
    return spaced.split()


def _folded(words: Sequence[str]) -> list[str]:
    """Number words as digits: `twenty one` is `21`, `1.6 million` is `1600000`."""
    found: list[str] = []
    mergeable = False  # the last word found is a round number that another may be added to
    for word in words:
        value = _NUMBER_WORDS.get(word)
        last = found[-1] if found else ""
        if value is not None:
            if mergeable and 0 < value < 10 and len(last) == 2:
                found[-1] = str(int(last) + value)
            else:
                found.append(str(value))
            mergeable = value >= 20
            continue
        mergeable = False
        if word in _SCALES and _PLAIN.fullmatch(last):
            found[-1] = _plain_number(f"{Decimal(last) * _SCALES[word]:f}")
        else:
            found.append(_ORDINALS.get(word, word))
    return found


def _kept(sign: str) -> bool:
    return unicodedata.category(sign)[0] not in "PSC"


def _plain_number(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.lstrip("+-").replace(",", "").partition(".")
    digits = whole.lstrip("0") or "0"
    if decimals.rstrip("0"):
        digits += "." + decimals.rstrip("0")
    return digits if digits == "0" else sign + digits
