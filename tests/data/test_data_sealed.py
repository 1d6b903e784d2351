"""Sealed wordings: in no split, other words than the others, the same facts and answers."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate import (
    generate_problems,
    generate_sample,
    generate_worded,
    wording_kind,
)
from aflow_grpo.data.generate.family import Family, sentence
from aflow_grpo.data.generate.sample import FAMILIES
from aflow_grpo.data.sources import DataSource, load_source, load_sources
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

FAMILY = {family.name: family for family in FAMILIES}
SEALED = generate_worded(905, 600, "sealed")
SHIPPED = [problem for split in generate_sample().values() for problem in split]


def plain(problem: Problem) -> str:
    return re.sub(r"\W+", " ", problem.text.lower()).strip()


def words(text: str) -> list[str]:
    """The words of a wording without its placeholders."""
    return re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.lower()))


def names(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def others(family: Family) -> list[str]:
    wordings = family.wordings
    return [*wordings.seen, *wordings.held, *wordings.test]


def test_sealed_problems_are_of_the_sealed_kind_and_their_ids_say_so() -> None:
    assert {wording_kind(problem) for problem in SEALED} == {"sealed"}
    for problem in SEALED:
        assert re.fullmatch(
            r"sample/fresh-sealed-905/(math|code|qa)/\d{4}-\w+-sealed[01]", problem.id
        )
    assert Counter(p.domain for p in SEALED) == {"math": 240, "code": 180, "qa": 180}
    assert generate_worded(905, 600, "sealed") == SEALED


def test_every_family_is_among_them() -> None:
    assert {problem.id.split("-")[-2] for problem in SEALED} == set(FAMILY)


def test_sealed_problems_are_none_of_the_shipped_or_of_other_fresh_ones() -> None:
    texts = {plain(problem) for problem in SEALED}
    assert len(texts) == len(SEALED)
    fresh = [p for held in (True, False) for p in generate_problems(905, 300, held_out=held)]
    assert not texts & {plain(problem) for problem in [*SHIPPED, *fresh]}
    assert not {p.id for p in SEALED} & {p.id for p in [*SHIPPED, *fresh]}


def test_sealed_problems_are_other_ones_than_the_held_ones_of_their_seed() -> None:
    """Not the same facts in other words: a family and an answer agree by chance only."""
    held = generate_problems(905, 300, held_out=True)
    pairs = [(p.id.split("-")[-2], p.answer) for p in held if p.domain == "math"]
    sealed = [(p.id.split("-")[-2], p.answer) for p in SEALED if p.domain == "math"]
    assert sum(pair in pairs for pair in sealed) < 0.25 * len(sealed)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_sealed_wording_names_what_every_other_one_names(family: Family) -> None:
    always = set.intersection(*(names(text) for text in others(family)))
    ever = set.union(*(names(text) for text in others(family)))
    for text in family.wordings.sealed:
        assert always <= names(text) <= ever


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_sealed_wording_is_no_paraphrase_by_a_word(family: Family) -> None:
    """At most two thirds of its words in any other wording, and no run of five words."""
    for text in family.wordings.sealed:
        own = words(text)
        runs = {tuple(own[i : i + 5]) for i in range(len(own) - 4)}
        for other in map(words, others(family)):
            assert sum(word in other for word in own) <= 2 * len(own) / 3, (text, other)
            assert not runs & {tuple(other[i : i + 5]) for i in range(len(other) - 4)}, text


@pytest.mark.parametrize(("domain", "longest"), [("math", 300), ("code", 350), ("qa", 120)])
def test_sealed_texts_are_whole_and_short(domain: str, longest: int) -> None:
    for problem in (p for p in SEALED if p.domain == domain):
        assert 8 <= len(problem.question) <= longest, problem.id
        assert "  " not in problem.text
        assert not re.search(r"[{}]|\[[^\[\]]*\|", problem.question) or domain == "code"
        if domain == "code":
            assert f"`{problem.entry_point}(" in problem.question


def digits(numbers: list[int], text: str) -> int:
    *usable, length, limit = numbers
    made = {int("".join(map(str, p))) for p in permutations(usable, length)}
    fit = (n for n in made if n > limit and len(str(n)) == length)
    return sum(n % 2 == ("odd" in text) for n in fit)


def divisible(numbers: list[int], text: str) -> int:
    limit, low, high = numbers
    wanted = {"exactly one": (1,), "neither": (0,), "at least one": (1, 2)}
    (counts,) = (counts for mode, counts in wanted.items() if mode in text)
    return sum((n % low == 0) + (n % high == 0) in counts for n in range(1, limit + 1))


def tank(begin: int, fill: int, early: int, drain: int, goal: int) -> int:
    litres, minute = begin, 0
    while litres < goal:
        litres += fill - (drain if minute >= early else 0)
        minute += 1
    return minute if litres == goal else -1


def ages(times: int, older: int, total: int, years: int) -> Fraction:
    return Fraction(total - older, 1 + 2 * times) * times + older + years


# Family -> what its sealed wording's numbers, in order of appearance, come to.
WORKED: dict[str, Callable[..., Any]] = {
    "gain": lambda a, b: a + b,
    "loss": lambda a, b: a - b,
    "share": lambda a, b: Fraction(a, b),
    "percent": lambda a, p: Fraction(a * p, 100),
    "distance": lambda s, h: s * h,
    "remainder": lambda b, a, again: a % b if b == again else -1,
    "outfits": lambda a, b: a * b,
    "fraction_of": lambda a, top, low: Fraction(top, low) * a,
    "change": lambda m, a, p, b, q: m - a * p - b * q,
    "discount": lambda a, p, f: a - Fraction(a * p, 100) + f,
    "boxes": lambda a, b, k: math.ceil((a - b) / k),
    "mean": lambda c, g, *known: c * g - sum(known) if len(known) == c - 1 else -1,
    "wages": lambda d, h, r, s: r * h * d - s,
    "bells": lambda m, a, b: sum(n % a == 0 and n % b == 0 for n in range(1, m + 1)),
    "eaten": lambda a, top, low, g: a - Fraction(a * top, low) - g,
    "committee": lambda a, b: math.comb(a, 2) * b,
    "fractions": lambda p, q, r, s, t, u: Fraction(p, q) * Fraction(r, s) + Fraction(t, u),
    "week": lambda a, t, f, p, r: (a + a * t + a - f) * p - r,
    "tank": tank,
    "trip": lambda h, a, k, b, r, s, c: h + k + r + Fraction(h * a + k * b + s, c),
    "prices": lambda a, p, q, c, v: a * Fraction(100 + p, 100) * Fraction(100 - q, 100) * c - v,
    "ages": ages,
    "bakery": lambda o, p, k, f, b, c: o * p - math.ceil(math.ceil(o / k) * f / b) * c,
}
BY_TEXT = {"digits": digits, "divisible": divisible}


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.domain == "math"], ids=lambda f: f.name
)
def test_math_gold_follows_from_the_sealed_text(family: Family) -> None:
    for index in range(40):
        dice = Dice("sealed gold", family.name, index)
        instance = family.draw(dice)
        (wording,) = family.wordings.sealed
        text = sentence(dice, wording, instance.fields)
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        if family.name in BY_TEXT:
            value = BY_TEXT[family.name](numbers, text)
        else:
            value = WORKED[family.name](*numbers)
        assert Fraction(instance.answer) == value, text


def test_asking_by_split_or_by_name_is_the_same() -> None:
    for split, wordings in (("train", "seen"), ("val", "held"), ("test", "held")):
        by_split = DataSource("generated", split=split, limit=30, seed=906)  # type: ignore[arg-type]
        by_name = DataSource("generated", limit=30, seed=906, wordings=wordings)  # type: ignore[arg-type]
        assert load_source(by_split) == load_source(by_name)
        held_out = split != "train"
        assert load_source(by_split) == generate_problems(906, 30, held_out=held_out)


def test_fresh_problems_of_either_old_kind_are_the_same_as_ever() -> None:
    """Worked digests: other ones would mean other problems in every earlier run's data."""
    made = [generate_problems(7, 90, held_out=held) for held in (True, False)]
    found = [hashlib.sha256(repr(problems).encode()).hexdigest()[:12] for problems in made]
    assert found == ["abd4ac1475c4", "186df654ee0f"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_source_gives_sealed_problems_in_any_split(split: Any) -> None:
    source = DataSource("generated", split=split, limit=600, seed=905, wordings="sealed")
    assert load_source(source) == SEALED


def test_sealed_and_held_sources_go_together_and_twice_the_same_does_not() -> None:
    sealed = DataSource("generated", limit=20, seed=907, wordings="sealed")
    held = DataSource("generated", limit=20, seed=907, wordings="held")
    assert len(load_sources([sealed, held])) == 40
    with pytest.raises(DataError, match="is also in an earlier source"):
        load_sources([sealed, sealed])


def test_wrong_wordings_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="wordings is 'test', expected one of seen, held, sealed, or null"
    ):
        DataSource("generated", limit=3, wordings="test")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="wordings is 'sealed', expected null for `sample`"):
        DataSource("sample", wordings="sealed")
