"""Reading problems that combine many sentences: filter and count, compare, subtract, three hops."""

from __future__ import annotations

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Family, Instance
from aflow_grpo.data.generate.qa_facts import number_names, passage, people, qa_family, short_name
from aflow_grpo.data.generate.words import CITIES, JOBS, WORKS

__all__ = ["FAMILIES"]


def _oldest(dice: Dice) -> Instance:
    names, cities = people(dice, 6), dice.picks(CITIES, 2)
    homes = dice.shuffled([cities[0]] * 3 + [cities[1]] * 3)
    years = dice.picks(range(1930, 2000), 6)
    rows = list(zip(names, homes, years, strict=True))
    facts = [f"{person} from {home} was born in {year}." for person, home, year in rows]
    city, word = dice.pick(cities), dice.pick(("oldest", "youngest"))
    ranked = sorted((year, person) for person, home, year in rows if home == city)
    person = (ranked[0] if word == "oldest" else ranked[-1])[1]
    key = (person, city, word, *(year for year, _ in ranked))
    fields = {"c": city, "w": word}
    return Instance(key, person, fields, short_name(person), passage(dice, facts, filler=False))


def _count(dice: Dice) -> Instance:
    names, jobs, cities = people(dice, 8), dice.picks(JOBS, 2), dice.picks(CITIES, 2)
    rows = [(person, dice.pick(jobs), dice.pick(cities)) for person in names]
    forms = ("{p} is a {j} in {c}.", "{p} works in {c} as a {j}.")
    facts = [dice.pick(forms).format(p=p, j=j, c=c) for p, j, c in rows]
    job, city = jobs[0], cities[0]
    count = sum((j, c) == (job, city) for _, j, c in rows)
    listed = "".join(str(int((j, c) == (job, city))) for _, j, c in rows)
    return Instance(
        (job, city, listed, names[0]),
        str(count),
        {"j": job, "c": city},
        number_names(count),
        passage(dice, facts, filler=False),
    )


def _years(dice: Dice) -> Instance:
    things = dice.picks(
        ("bridge", "mill", "school", "station", "church", "market hall", "canal"), 5
    )
    city, years = dice.pick(CITIES), dice.picks(range(1700, 1980), 5)
    forms = ("The {t} was built in {y}.", "In {y} the {t} was built.", "The {t} dates from {y}.")
    facts = [dice.pick(forms).format(t=t, y=y) for t, y in zip(things, years, strict=True)]
    facts.append(f"{city} has changed a lot.")
    first, second = sorted(dice.picks(range(5), 2), key=lambda at: years[at])
    gap = years[second] - years[first]
    fields = {"a": things[first], "b": things[second], "c": city}
    return Instance(
        (city, things[first], things[second], years[first], years[second]),
        str(gap),
        fields,
        (f"{gap} years", *number_names(gap)),
        passage(dice, facts),
    )


def _total(dice: Dice) -> Instance:
    names = people(dice, 4)
    while True:
        scores = [(dice.between(5, 40), dice.between(5, 40)) for _ in names]
        totals = [a + b for a, b in scores]
        if len(set(totals)) == len(totals):
            break
    days = dice.picks(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"), 2)
    facts = [
        f"{person} scored {points[day]} points on {days[day]}."
        for person, points in zip(names, scores, strict=True)
        for day in (0, 1)
    ]
    word = dice.pick(("most", "fewest"))
    target = max(totals) if word == "most" else min(totals)
    person = names[totals.index(target)]
    fields = {"w": word, "d": days[0], "e": days[1]}
    return Instance(
        (person, word, *totals),
        person,
        fields,
        short_name(person),
        passage(dice, facts, filler=False),
    )


def _teacher(dice: Dice) -> Instance:
    works, writers, cities = dice.picks(WORKS, 2), people(dice, 5), dice.picks(CITIES, 3)
    authors, teachers = writers[:2], writers[2:]
    facts = [f"{p} wrote {w}." for p, w in zip(authors, works, strict=True)]
    facts += [f"{p} was taught by {t}." for p, t in zip(authors, teachers, strict=False)]
    facts += [f"{t} lives in {c}." for t, c in zip(teachers, cities, strict=True)]
    facts.append(f"{authors[0]} and {authors[1]} met at school.")
    at = dice.below(2)
    return Instance(
        (works[at], authors[at], teachers[at], cities[at]),
        cities[at],
        {"w": works[at]},
        context=passage(dice, facts, filler=False),
    )


def _same_city(dice: Dice) -> Instance:
    names, cities = people(dice, 5), dice.picks(CITIES, 3)
    works = dice.picks(WORKS, 3)
    homes = [dice.pick(cities[:2]) for _ in names]
    facts = [f"{p} was born in {c}." for p, c in zip(names, homes, strict=True)]
    facts += [f"{p} wrote {w}." for p, w in zip(names, works, strict=False)]
    first, second = dice.picks(range(3), 2)
    answer = "yes" if homes[first] == homes[second] else "no"
    key = (names[first], names[second], works[first], works[second], answer)
    fields = {"a": works[first], "b": works[second]}
    return Instance(key, answer, fields, context=passage(dice, facts, filler=False))


FAMILIES: tuple[Family, ...] = (
    qa_family(
        "oldest",
        3,
        (
            "Who is the {w} of the people from {c}?",
            "Among those [who come from|from] {c}, who is the {w}?",
            "Which person from {c} is the {w}?",
            "Of everyone from {c}, who is the {w}?",
        ),
        "Name the {w} person who comes from {c}.",
        "Leaving out all who are not from {c}, whom would you call the {w}?",
        "Considering only {c}'s people, identify the {w} one.",
        _oldest,
    ),
    qa_family(
        "count",
        3,
        (
            "How many people work as a {j} in {c}?",
            "How many of the people [named|mentioned] are a {j} in {c}?",
            "In {c}, how many persons have the job of {j}?",
            "What is the number of people who are a {j} in {c}?",
        ),
        "Count the persons who do the work of a {j} in {c}.",
        "{c} employs how many people as {j}?",
        "For {c}, report the total of individuals whose occupation is {j}.",
        _count,
    ),
    qa_family(
        "years",
        3,
        (
            "How many years after the {a} was the {b} built?",
            "How many years [passed|went by] between the building of the {a} and of the {b}?",
            "By how many years is the {a} of {c} older than the {b}?",
            "How many years earlier than the {b} was the {a} built?",
        ),
        "Give the number of years from the {a} to the {b}.",
        "The {b} is younger than the {a} by what number of years?",
        "How large, in years, is the gap separating the {a}'s date and the {b}'s?",
        _years,
    ),
    qa_family(
        "total",
        3,
        (
            "Who scored the {w} points on {d} and {e} together?",
            "Adding {d} and {e}, who has the {w} points?",
            "Over both days, who scored the {w} points?",
            "Who had the {w} points in total[ after both days|]?",
        ),
        "Name the player with the {w} points when the two days are summed.",
        "With both scores put together, the {w} points belong to whom?",
        "Combining {d}'s score with {e}'s, identify whoever ends up with the {w} points.",
        _total,
    ),
    qa_family(
        "teacher",
        3,
        (
            "Where does the teacher of the author of {w} live?",
            "In which [city|town] does the person who taught the writer of {w} live?",
            "Which city is home to the teacher of {w}'s author?",
            "The author of {w} was taught by someone who lives in which city?",
        ),
        "Name the town where the one who taught the writer of {w} lives.",
        "To visit the teacher of whoever wrote {w}, one goes to which city?",
        "{w} has an author, who had a teacher: identify that teacher's place of residence.",
        _teacher,
    ),
    qa_family(
        "same_city",
        3,
        (
            "Were the authors of {a} and {b} born in the same city?",
            "Do the authors of {a} and {b} have the same birthplace?",
            "Is the birthplace of the writer of {a} also that of the writer of {b}?",
            "Did the writers of {a} and {b} come from one and the same [city|town]?",
        ),
        "Answer yes or no: {a} and {b} are by authors born in one town.",
        "Do {a} and {b} share their authors' native town?",
        "Is it true that one birth town is common to whoever wrote {a} and whoever wrote {b}?",
        _same_city,
    ),
)
