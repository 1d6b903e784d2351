"""Reading problems whose answer stands in one sentence of the passage, among similar ones."""

from __future__ import annotations

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Family, Instance
from aflow_grpo.data.generate.qa_facts import passage, people, qa_family, short_name
from aflow_grpo.data.generate.words import CITIES, COUNTRIES, JOBS

__all__ = ["FAMILIES"]

_PLACES = ("museum", "library", "swimming pool", "town hall", "post office", "theatre", "zoo")
_FIRMS = ("mill", "brewery", "shipyard", "glassworks", "printing house", "railway", "bank")


def _birthplace(dice: Dice) -> Instance:
    names, cities = people(dice, 4), dice.picks(CITIES, 5)
    forms = ("{p} was born in {c}.", "{p} comes from {c}.", "{c} is the birthplace of {p}.")
    facts = [
        dice.pick(forms).format(p=person, c=city)
        for person, city in zip(names, cities, strict=False)
    ]
    facts.append(f"{names[1]} now lives in {cities[4]}.")
    at = dice.below(4)
    return Instance(
        (names[at], cities[at]), cities[at], {"p": names[at]}, context=passage(dice, facts)
    )


def _capital(dice: Dice) -> Instance:
    lands, cities = dice.picks(COUNTRIES, 4), dice.picks(CITIES, 5)
    forms = ("The capital of {l} is {c}.", "{c} is the capital of {l}.", "{l} is ruled from {c}.")
    facts = [
        dice.pick(forms).format(l=land, c=city) for land, city in zip(lands, cities, strict=False)
    ]
    facts.append(f"The largest city of {lands[0]} is {cities[4]}.")
    at = dice.below(4)
    return Instance(
        (lands[at], cities[at]), cities[at], {"l": lands[at]}, context=passage(dice, facts)
    )


def _founded(dice: Dice) -> Instance:
    firms, city = dice.picks(_FIRMS, 4), dice.pick(CITIES)
    years = dice.picks(range(1720, 1990), 5)
    forms = ("The {f} was founded in {y}.", "In {y} the {f} was founded.")
    facts = [
        dice.pick(forms).format(f=firm, y=year) for firm, year in zip(firms, years, strict=False)
    ]
    at = dice.below(4)
    facts.append(f"The {firms[at]} got a new roof in {years[4]}.")
    facts.append(f"All this can be seen in {city}.")
    fields = {"f": firms[at], "c": city}
    return Instance(
        (firms[at], city, years[at]), str(years[at]), fields, context=passage(dice, facts)
    )


def _job(dice: Dice) -> Instance:
    names, jobs, city = people(dice, 5), dice.picks(JOBS, 5), dice.pick(CITIES)
    forms = ("{p} works as a {j}.", "{p} is a {j}.", "The {j} of the town is {p}.")
    facts = [dice.pick(forms).format(p=p, j=j) for p, j in zip(names, jobs, strict=True)]
    facts[0] = facts[0].replace(".", f", as a cousin of {names[1]} once was.", 1)
    at = dice.below(4) + 1
    return Instance(
        (names[at], jobs[at], city),
        names[at],
        {"j": jobs[at], "c": city},
        short_name(names[at]),
        passage(dice, [*facts, f"They all live in {city}."], filler=False),
    )


def _opening(dice: Dice) -> Instance:
    places, city = dice.picks(_PLACES, 4), dice.pick(CITIES)
    opens, closes = dice.picks(range(6, 12), 4), dice.picks(range(3, 10), 4)
    facts = [
        dice.pick(
            ("The {} opens at {} am and closes at {} pm.", "The {} is open from {} am to {} pm.")
        ).format(place, start, end)
        for place, start, end in zip(places, opens, closes, strict=True)
    ]
    at, first = dice.below(4), dice.pick((True, False))
    hour, half = (opens[at], "am") if first else (closes[at], "pm")
    fields = {"x": places[at], "c": city, "w": "open" if first else "close"}
    facts.append(f"These are the hours in {city}.")
    accepted = (f"{hour}:00 {half}", f"{hour}{half}", f"{hour} {half[0]}.m.")
    return Instance(
        (places[at], city, hour, half), f"{hour} {half}", fields, accepted, passage(dice, facts)
    )


FAMILIES: tuple[Family, ...] = (
    qa_family(
        "birthplace",
        1,
        (
            "Where was {p} born?",
            "In which [city|town] was {p} born?",
            "What is the birthplace of {p}?",
            "Which [city|town] does {p} come from?",
        ),
        "Name the town where {p} was born.",
        "{p} is a native of which place?",
        "Identify the place in which {p}'s life began.",
        _birthplace,
    ),
    qa_family(
        "capital",
        1,
        (
            "What is the capital of {l}?",
            "Which city is the capital of {l}?",
            "[From which city is {l} ruled?|Which city is {l} ruled from?]",
            "What is {l}'s capital called?",
        ),
        "Name the seat of government of {l}.",
        "{l} has which city as its capital?",
        "If {l} receives an ambassador, to which capital does this guest travel?",
        _capital,
    ),
    qa_family(
        "founded",
        1,
        (
            "When was the {f} in {c} founded?",
            "In [which|what] year was the {f} founded?",
            "What year was the {f} of {c} founded?",
            "In which year did the {f} begin?",
        ),
        "Name the founding year of the {f}.",
        "The {f} of {c} dates back to what year?",
        "Identify the calendar year that saw the {f} of {c} come into being.",
        _founded,
    ),
    qa_family(
        "job",
        1,
        (
            "Who is the {j}?",
            "Who works as a {j} in {c}?",
            "What is the name of the {j}?",
            "Which person [works as|is] a {j}?",
        ),
        "Name the person with the job of {j}.",
        "The profession of {j} belongs to whom in {c}?",
        "Anyone in need of a {j} in {c} should ask for whom?",
        _job,
    ),
    qa_family(
        "opening",
        1,
        (
            "When does the {x} {w}?",
            "At what time does the {x} in {c} {w}?",
            "What time does the {x} {w}?",
            "At which hour does the {x} {w}?",
        ),
        "State the hour at which the {x} will {w}.",
        "The doors of the {x} {w} at what time?",
        "Someone waits for the {x} in {c} to {w}: identify the clock time.",
        _opening,
    ),
)
