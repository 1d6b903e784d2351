"""Gold answers of generated math and reading problems, worked out again from their text alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations

import pytest

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate import generate_problems, generate_sample, generate_worded
from aflow_grpo.data.generate.family import sentence
from aflow_grpo.data.generate.sample import FAMILIES
from aflow_grpo.records import Problem

FAMILY = {family.name: family for family in FAMILIES}
READING = [p for p in generate_problems(21, 600, held_out=False) if p.domain == "qa"]
READING += [p for p in generate_worded(921, 600, "sealed") if p.domain == "qa"]


def tank_by_minutes(begin: int, fill: int, early: int, drain: int, goal: int) -> int:
    litres, minute = begin, 0
    while litres < goal:
        litres += fill - (drain if minute >= early else 0)
        minute += 1
    assert litres == goal
    return minute


def trip(h: int, a: int, k: int, b: int, r: int, s: int, c: int) -> Fraction:
    return h + k + r + Fraction(h * a + k * b + s, c)


def bakery(o: int, k: int, f: int, b: int, c: int, p: int, _: int) -> int:
    bags = math.ceil(math.ceil(o / k) * f / b)
    return o * p - bags * c


def ages(t: int, o: int, s: int, y: int) -> int:
    youngest = Fraction(s - o, 1 + 2 * t)
    assert youngest.denominator == 1
    return int(youngest) * t + o + y


def digits(length: int, limit: int, *usable: int) -> tuple[int, int]:
    made = {int("".join(map(str, p))) for p in permutations(usable, length)}
    fit = [n for n in made if n > limit and len(str(n)) == length]
    return sum(n % 2 == 0 for n in fit), sum(n % 2 for n in fit)


# Family -> what the first wording's numbers, in order of appearance, come to.
WORKED: dict[str, Callable[..., object]] = {
    "gain": lambda a, b: a + b,
    "loss": lambda a, b: a - b,
    "share": lambda a, b: Fraction(a, b),
    "percent": lambda p, a: Fraction(a * p, 100),
    "distance": lambda s, h: s * h,
    "remainder": lambda a, b: a % b,
    "outfits": lambda a, b: a * b,
    "fraction_of": lambda top, low, a: Fraction(top, low) * a,
    "change": lambda a, p, b, q, m: m - a * p - b * q,
    "discount": lambda a, p, f: a - Fraction(a * p, 100) + f,
    "boxes": lambda a, b, k: math.ceil((a - b) / k),
    "wages": lambda r, h, d, s: r * h * d - s,
    "bells": lambda a, b, m: sum(n % a == 0 and n % b == 0 for n in range(1, m + 1)),
    "eaten": lambda a, top, low, g: a - Fraction(a * top, low) - g,
    "committee": lambda a, b, two, one: math.comb(a, two) * math.comb(b, one),
    "week": lambda a, t, f, p, r: (a + a * t + a - f) * p - r,
    "tank": tank_by_minutes,
    "trip": trip,
    "prices": lambda a, p, q, c, v: a * Fraction(100 + p, 100) * Fraction(100 - q, 100) * c - v,
    "ages": ages,
    "bakery": bakery,
}


@pytest.mark.parametrize("name", list(WORKED))
def test_math_gold_follows_from_the_numbers_in_the_text(name: str) -> None:
    family = FAMILY[name]
    for index in range(40):
        dice = Dice("gold", name, index)
        instance = family.draw(dice)
        text = sentence(dice, family.wordings.seen[0], instance.fields)
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        assert Fraction(instance.answer) == WORKED[name](*numbers), text


def test_mean_fractions_divisible_and_digits_gold() -> None:
    for index in range(40):
        dice = Dice("gold", index)
        instance = FAMILY["mean"].draw(dice)
        goal, *known = instance.key
        values = [*known, int(instance.answer)]
        assert sum(values) == goal * len(values)  # type: ignore[operator,arg-type]
        fields = FAMILY["fractions"].draw(dice)
        p, q, r = (Fraction(str(fields.fields[name])) for name in "pqr")
        assert fields.answer == str(p * q + r)
        count = FAMILY["divisible"].draw(dice)
        low, high, limit, mode = count.key
        hits = [(n % low == 0, n % high == 0) for n in range(1, limit + 1)]  # type: ignore[operator]
        rule = {"exactly one of": (1,), "neither of": (0,), "at least one of": (1, 2)}[str(mode)]
        assert int(count.answer) == sum(sum(hit) in rule for hit in hits)
        number = FAMILY["digits"].draw(dice)
        length, limit, parity, *usable = number.key
        assert int(number.answer) == digits(length, limit, *usable)[parity == "odd"]  # type: ignore[arg-type]


def test_math_answers_are_plain_numbers() -> None:
    for problem in (p for split in generate_sample().values() for p in split if p.domain == "math"):
        assert re.fullmatch(r"\d+(/\d+)?", problem.answer), problem.id
        assert problem.answer == str(Fraction(problem.answer))


def of(name: str) -> list[Problem]:
    found = [problem for problem in READING if f"-{name}-" in problem.id]
    assert found
    return found


def test_short_answers_stand_in_the_passage() -> None:
    computed = ("count", "years", "same_city")
    for problem in READING:
        if problem.id.split("-")[-2] not in computed:
            assert problem.answer in problem.context, problem.id
        assert problem.answer not in problem.alternatives


def test_oldest_and_youngest_are_right() -> None:
    for problem in of("oldest"):
        rows = re.findall(r"(\w+ \w+) from (\w+) was born in (\d+)\.", problem.context)
        assert len(rows) == 6
        wanted = [(int(y), person) for person, city, y in rows if city in problem.question]
        chosen = min(wanted) if "oldest" in problem.question else max(wanted)
        assert problem.answer == chosen[1]


def test_counts_are_right() -> None:
    for problem in of("count"):
        jobs = re.findall(r"is a (\w+) in (\w+)\.", problem.context)
        jobs += [(j, c) for c, j in re.findall(r"works in (\w+) as a (\w+)\.", problem.context)]
        assert len(jobs) == 8
        hits = [1 for job, city in jobs if job in problem.question and city in problem.question]
        assert problem.answer == str(len(hits))


def test_year_gaps_are_right() -> None:
    for problem in of("years"):
        years = {}
        for text in re.findall(r"[^.]*\d{4}[^.]*\.", problem.context):
            thing = re.search(r"[Tt]he ([a-z ]+?) (?:was built|dates)", text)
            assert thing is not None
            years[thing.group(1)] = int(re.findall(r"\d{4}", text)[0])
        named = [year for thing, year in years.items() if f"the {thing}" in problem.question]
        assert len(years) == 5
        assert int(problem.answer) == max(named) - min(named)


def test_totals_are_right() -> None:
    for problem in of("total"):
        totals: dict[str, int] = {}
        for person, points in re.findall(r"(\w+ \w+) scored (\d+) points", problem.context):
            totals[person] = totals.get(person, 0) + int(points)
        pick = max if "most" in problem.question else min
        assert problem.answer == pick(totals, key=lambda person: totals[person])


def test_three_hops_and_same_city_are_right() -> None:
    for problem in of("teacher") + of("same_city"):
        wrote = {work: p for p, work in re.findall(r"(\w+ \w+) wrote ([^.]+)\.", problem.context)}
        named = [person for work, person in wrote.items() if work in problem.question]
        if "-teacher-" in problem.id:
            taught = dict(re.findall(r"(\w+ \w+) was taught by (\w+ \w+)\.", problem.context))
            lives = dict(re.findall(r"(\w+ \w+) lives in (\w+)\.", problem.context))
            assert problem.answer == lives[taught[named[0]]]
        else:
            born = dict(re.findall(r"(\w+ \w+) was born in (\w+)\.", problem.context))
            assert problem.answer == ("yes" if born[named[0]] == born[named[1]] else "no")


def test_yes_and_no_are_both_frequent() -> None:
    answers = [problem.answer for problem in of("same_city")]
    assert 0.25 < answers.count("yes") / len(answers) < 0.75
