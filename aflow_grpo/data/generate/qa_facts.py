"""What the reading problems share: people, passages with distractors, accepted spellings."""

from __future__ import annotations

from collections.abc import Sequence

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Draw, Family, Wordings
from aflow_grpo.data.generate.words import FIRST_NAMES, LAST_NAMES

__all__ = ["number_names", "passage", "people", "qa_family", "short_name"]

_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
_FILLERS = (
    "Visitors come all year round.",
    "Most of this is told in the local paper.",
    "The region is known for its mild winters.",
    "Few records from earlier times survive.",
    "A small museum keeps old photographs.",
    "The festival in June draws large crowds.",
)


def people(dice: Dice, count: int) -> list[str]:
    """`count` full names; no first or last name occurs twice."""
    firsts, lasts = dice.picks(FIRST_NAMES, count), dice.picks(LAST_NAMES, count)
    return [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]


def short_name(person: str) -> tuple[str, ...]:
    """The last name alone, accepted where last names are unique in the passage."""
    return (person.split()[-1],)


def number_names(number: int) -> tuple[str, ...]:
    """The number in words, up to ten."""
    return (_NUMBERS[number],) if number < len(_NUMBERS) else ()


def passage(dice: Dice, facts: Sequence[str], *, filler: bool = True) -> str:
    """The facts in random order as one paragraph, with one sentence that says nothing."""
    sentences = list(facts) + ([dice.pick(_FILLERS)] if filler else [])
    return " ".join(dice.shuffled(sentences))


def qa_family(
    name: str,
    difficulty: int,
    seen: tuple[str, ...],
    held: str,
    test: str,
    sealed: str,
    draw: Draw,
) -> Family:
    """A reading family with one wording each that is held, test-only and sealed."""
    return Family(name, "qa", difficulty, Wordings(seen, (held,), (test,), (sealed,)), draw)
