r"""Short answers: reading one out of a text, telling right from wrong, inventing wrong ones.

The judging here serves the imitated model (what does it vote for, what does its review say);
whether a rollout is right is decided elsewhere, by the scorers.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction
from functools import lru_cache

from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = [
    "canonical",
    "extract",
    "is_right",
    "mentioned",
    "near_miss",
    "with_unit",
    "wrong_values",
]

_ANSWER_TAG = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_SOLUTION_TAG = re.compile(r"<solution>\s*(.*?)\s*</solution>", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_STATED = re.compile(
    r"answer\b[^.:\n]{0,40}?(?:\bis\b|[:=])[\s:]*([^\n]+?)(?:\.(?=\s|$)|\n|$)", re.IGNORECASE
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LATEX_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_BRACELESS_FRACTION = re.compile(r"\\([dt]?frac)\s*(\d)\s*(\d)")
_NAMES = re.compile(r"\b[A-Z][a-z]+(?:\s+[A-Z][a-z]+)*\b")
_ASKED_UNIT = re.compile(r"how many ([a-z]+)", re.IGNORECASE)
_SHORT_WORDS = 12
_MAX_VALUE_CHARS = 200
_HOW_MANY = 6
_LAST_RESORTS = {
    "math": ("0", "1", "2", "3", "5", "10", "12"),
    "qa": ("not stated", "none of them", "both of them", "all of them"),
    "code": ("0", "1", "2", "3", "5", "10", "12"),
}


def extract(text: str) -> str | None:
    r"""The answer that `text` states: tag, last `\boxed{}`, `####`, bold, stated, or the text."""
    for pattern in (_ANSWER_TAG, _SOLUTION_TAG):
        text = _last(pattern, text) or text
    stated = _last_boxed(text)
    for pattern in (_HASHES, _BOLD, _STATED):
        stated = stated or _last(pattern, text)
    if stated:
        return stated
    plain = text.strip()
    return plain if plain and "\n" not in plain and len(plain.split()) <= _SHORT_WORDS else None


@lru_cache(maxsize=8192)
def canonical(value: str) -> str:
    """One form for answers that mean the same: numbers as fractions, words without articles."""
    text = value.strip().strip("$").strip().rstrip(".").replace("\\!", "").replace("\\,", "")
    fraction = _LATEX_FRACTION.fullmatch(_with_braces(text))
    number = f"{fraction[1]}{fraction[2]}/{fraction[3]}" if fraction else text.replace(",", "")
    try:
        return str(Fraction(number.replace("--", "").strip("$%€£ ")))
    except (ValueError, ZeroDivisionError):
        words = re.sub(r"[^\w\\{}^+\-*/=<>.]+", " ", text.lower()).split()
        return " ".join(word for word in words if word not in ("a", "an", "the"))


def is_right(problem: Problem, value: str | None) -> bool:
    """Whether `value` is the gold answer or an accepted alternative."""
    return value is not None and canonical(value) in _right_forms(problem)


@lru_cache(maxsize=8192)
def _right_forms(problem: Problem) -> frozenset[str]:
    golds = [canonical(gold) for gold in _golds(problem)]
    return frozenset([*golds, canonical(near_miss(problem))] if problem.domain == "qa" else golds)


@lru_cache(maxsize=8192)
def near_miss(problem: Problem) -> str:
    """The gold answer with a word too few, or a word of the question too many: half a point."""
    gold = extract(problem.answer) or problem.answer
    words = gold.split()
    if len(words) > 1:
        return " ".join(words[1:] if derive_seed("near", problem.id) % 2 else words[:-1])
    asked = _ASKED_UNIT.search(problem.question)
    word = asked[1] if asked else (_NAMES.findall(problem.question) or ["indeed"])[-1].split()[-1]
    return f"{gold} {word}"


def _golds(problem: Problem) -> tuple[str, ...]:
    return extract(problem.answer) or problem.answer, *problem.alternatives


def mentioned(problem: Problem, text: str) -> str | None:
    """The answer to `problem` that `text` shows as a draft: a known one, right or wrong, that it
    states or that stands on a line of its own, after a label or not; None for none."""
    if not text.strip():
        return None
    known = {canonical(value) for value in wrong_values(problem)} | _right_forms(problem)
    stated = extract(text)
    if stated is not None and canonical(stated) in known:
        return stated
    for line in reversed(text.splitlines()):
        for value in (line, line.rpartition(": ")[2]):
            if value.strip() and len(value) <= _MAX_VALUE_CHARS and canonical(value) in known:
                return value.strip()
    return None


def with_unit(problem: Problem, value: str) -> str:
    """`value` with the unit that the question asks for, where both are clear."""
    asked = _ASKED_UNIT.search(problem.question)
    return f"{value} {asked[1]}" if asked and _NUMBER.fullmatch(value.strip()) else value


@lru_cache(maxsize=4096)
def wrong_values(problem: Problem) -> tuple[str, ...]:
    """Three to six wrong answers in the gold answer's form, always the same for a problem."""
    rng = random.Random(derive_seed("wrong values", problem.id))
    gold = extract(problem.answer) or problem.answer
    pool = _near_numbers(gold, rng) if _NUMBER.search(gold) else _other_phrases(problem, gold, rng)
    chosen: list[str] = []
    seen: set[str] = set()
    for value in [*pool, *_LAST_RESORTS[problem.domain]]:
        form = canonical(value)
        if form not in seen and not is_right(problem, value):
            seen.add(form)
            chosen.append(value)
    return tuple(chosen[:_HOW_MANY])


def _near_numbers(gold: str, rng: random.Random) -> list[str]:
    """`gold` with its last number changed: off by one, doubled, a digit slip."""
    gold = _with_braces(gold)
    match = list(_NUMBER.finditer(gold))[-1]
    number = match[0]
    if "." in number:
        places = len(number.split(".")[1])
        value = float(number)
        step = 10.0**-places if value < 10 else 1.0
        changed = [f"{v:.{places}f}" for v in (value + step, value * 2, value * 10, value - step)]
    else:
        whole = int(number)
        steps = [1, 2, 10] if abs(whole) < 100 else [1, 10, 100]
        shifts = [whole + step for step in steps] + [whole - step for step in steps]
        shifts = [shift for shift in shifts if (shift > 0) == (whole > 0)]
        changed = [
            str(v) for v in (*shifts, whole * 2, whole // 2 if abs(whole) > 3 else whole + 5)
        ]
    rng.shuffle(changed)
    return [gold[: match.start()] + value + gold[match.end() :] for value in changed]


def _other_phrases(problem: Problem, gold: str, rng: random.Random) -> list[str]:
    """Phrases of the passage that are not the gold answer; yes for no; a sign for symbols."""
    if problem.domain == "math" and not _NAMES.search(gold):
        return [f"-{gold}", f"2{gold}", f"{gold}+1"]
    if gold.lower() in ("yes", "no"):
        return ["no" if gold.lower() == "yes" else "yes"]
    names = {match[0] for match in _NAMES.finditer(problem.context or problem.question)}
    words = set(gold.lower().split())
    others = sorted(name for name in names if not words & set(name.lower().split()))
    rng.shuffle(others)
    return others


def _with_braces(text: str) -> str:
    r"""`\frac12` as `\frac{1}{2}`, so that its numbers stand apart."""
    return _BRACELESS_FRACTION.sub(r"\\\1{\2}{\3}", text)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    """The last match that says something; a prompt's `<answer>...</answer>` does not."""
    found = [match.strip() for match in pattern.findall(text)]
    return next((match for match in reversed(found) if match.strip(".… ")), None)


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[start + len("\\boxed{") : position].strip() or None
    return None
