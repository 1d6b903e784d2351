"""Reading problems that join two sentences: the first names what the second must be asked about."""

from __future__ import annotations

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Family, Instance
from aflow_grpo.data.generate.qa_facts import passage, people, qa_family, short_name
from aflow_grpo.data.generate.words import CITIES, COUNTRIES, WORKS

__all__ = ["FAMILIES"]

_RIVERS = ("Alder", "Brask", "Cinder", "Dorn", "Esk", "Fallow", "Gann", "Hollow", "Isel", "Jarn")
_SIGHTS = ("lighthouse", "cathedral", "castle", "windmill", "observatory", "harbour", "opera house")
_TEAMS = ("Falcons", "Otters", "Rovers", "Comets", "Badgers", "Pilots", "Wolves", "Herons")


def _author_born(dice: Dice) -> Instance:
    works, names, cities = dice.picks(WORKS, 3), people(dice, 4), dice.picks(CITIES, 4)
    facts = [
        dice.pick(
            ("{p} wrote {w}.", "{w} was written by {p}.", "The author of {w} is {p}.")
        ).format(p=person, w=work)
        for person, work in zip(names, works, strict=False)
    ]
    facts += [f"{person} was born in {city}." for person, city in zip(names, cities, strict=True)]
    at = dice.below(3)
    return Instance(
        (works[at], names[at], cities[at]), cities[at], {"w": works[at]},
        context=passage(dice, facts, filler=False),
    )  # fmt: skip


def _mayor(dice: Dice) -> Instance:
    cities, names, sights = dice.picks(CITIES, 4), people(dice, 4), dice.picks(_SIGHTS, 4)
    forms = ("The mayor of {c} is {p}.", "{p} is mayor of {c}.", "{c} has {p} as its mayor.")
    facts = [dice.pick(forms).format(c=c, p=p) for c, p in zip(cities, names, strict=True)]
    facts += [f"{c} has a famous {s}." for c, s in zip(cities, sights, strict=True)]
    at = dice.below(4)
    return Instance(
        (sights[at], cities[at], names[at]),
        names[at],
        {"s": sights[at]},
        short_name(names[at]),
        passage(dice, facts, filler=False),
    )


def _coach(dice: Dice) -> Instance:
    teams, names, lands = dice.picks(_TEAMS, 3), people(dice, 4), dice.picks(COUNTRIES, 4)
    forms = ("The {t} are coached by {p}.", "{p} coaches the {t}.", "Coach of the {t} is {p}.")
    facts = [dice.pick(forms).format(t=t, p=p) for t, p in zip(teams, names, strict=False)]
    facts += [f"{p} comes from {land}." for p, land in zip(names, lands, strict=True)]
    at = dice.below(3)
    return Instance(
        (teams[at], names[at], lands[at]), lands[at], {"t": teams[at]},
        context=passage(dice, facts),
    )  # fmt: skip


def _painting(dice: Dice) -> Instance:
    works, cities, names = dice.picks(WORKS, 4), dice.picks(CITIES, 4), people(dice, 4)
    halls = [f"{name.split()[-1]} Gallery" for name in names]
    facts = [
        dice.pick(("{w} hangs in the {h}.", "The {h} owns the painting {w}.")).format(
            w=work, h=hall
        )
        for work, hall in zip(works, halls, strict=True)
    ]
    facts += [f"The {hall} is in {city}." for hall, city in zip(halls, cities, strict=True)]
    at = dice.below(4)
    return Instance(
        (works[at], halls[at], cities[at]), cities[at], {"w": works[at]},
        context=passage(dice, facts, filler=False),
    )  # fmt: skip


def _bridge(dice: Dice) -> Instance:
    cities, rivers, seas = dice.picks(CITIES, 4), dice.picks(_RIVERS, 4), dice.picks(COUNTRIES, 4)
    facts = [
        dice.pick(("{c} lies on the river {r}.", "The river {r} runs through {c}.")).format(
            c=city, r=river
        )
        for city, river in zip(cities, rivers, strict=True)
    ]
    facts += [f"The {river} rises in {land}." for river, land in zip(rivers, seas, strict=True)]
    at = dice.below(4)
    return Instance(
        (cities[at], rivers[at], seas[at]), seas[at], {"c": cities[at]},
        context=passage(dice, facts, filler=False),
    )  # fmt: skip


FAMILIES: tuple[Family, ...] = (
    qa_family(
        "author_born",
        2,
        (
            "Where was the author of {w} born?",
            "In which [city|town] was the person who wrote {w} born?",
            "What is the birthplace of the writer of {w}?",
            "The author of {w} was born in which [city|town]?",
        ),
        "Name the town in which the writer behind {w} was born.",
        "{w}: its author's native town is which one?",
        "Somebody created {w}; identify the place where this somebody's life began.",
        _author_born,
    ),
    qa_family(
        "mayor",
        2,
        (
            "Who is the mayor of the city with the famous {s}?",
            "What is the name of the mayor of the city that has a famous {s}?",
            "Which person is mayor where the famous {s} [stands|is]?",
            "Who is mayor of the town known for its {s}?",
        ),
        "Name the mayor of the place where the {s} is famous.",
        "The town hall of the city with the {s} is led by whom?",
        "A city owes its fame to the {s}; identify whoever governs it as mayor.",
        _mayor,
    ),
    qa_family(
        "coach",
        2,
        (
            "Which country does the coach of the {t} come from?",
            "What country is the coach of the {t} from?",
            "From which country is the person who coaches the {t}?",
            "Where does the {t}' coach come from?",
        ),
        "Name the home country of the one who coaches the {t}.",
        "The {t} are trained by somebody from which land?",
        "Somebody coaches the {t}; identify this somebody's country of origin.",
        _coach,
    ),
    qa_family(
        "painting",
        2,
        (
            "In which city is the gallery that [owns|shows] {w}?",
            "Which city has the gallery with the painting {w}?",
            "To which city must one go to see {w}?",
            "Where is the gallery in which {w} hangs?",
        ),
        "Name the city whose gallery holds {w}.",
        "A visitor who wants to see {w} travels to what city?",
        "Identify the city where the canvas {w} is on display.",
        _painting,
    ),
    qa_family(
        "bridge",
        2,
        (
            "In which country does the river through {c} rise?",
            "Where does the river that runs through {c} rise?",
            "Which country is the source of the river at {c} in?",
            "The river of {c} rises in which country?",
        ),
        "Name the country where the river on which {c} lies begins.",
        "The water that passes {c} has its spring in what country?",
        "Trace the river of {c} back to its beginning: identify the country reached.",
        _bridge,
    ),
)
