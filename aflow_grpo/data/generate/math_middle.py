"""Math word problems of two or three steps: money, percentages, means, lcm, combinations."""

from __future__ import annotations

import math
from fractions import Fraction

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Draw, Family, Instance, Wordings
from aflow_grpo.data.generate.words import FIRST_NAMES, ITEMS

__all__ = ["FAMILIES"]


def _change(dice: Dice) -> Instance:
    count_1, count_2 = dice.between(2, 9), dice.between(2, 9)
    price_1, price_2 = dice.between(2, 12), dice.between(2, 12)
    cost = count_1 * price_1 + count_2 * price_2
    note = next(n for n in (20, 50, 100, 200, 300) if n > cost)
    first, second = dice.picks(ITEMS, 2)
    fields = {"n": dice.pick(FIRST_NAMES), "x": first, "y": second, "a": count_1, "b": count_2}
    fields |= {"p": price_1, "q": price_2, "m": note}
    return Instance((count_1, price_1, count_2, price_2), str(note - cost), fields)


def _discount(dice: Dice) -> Instance:
    price = 20 * dice.between(3, 30)
    percent, fee = dice.pick((5, 10, 15, 20, 25, 30, 40)), dice.between(3, 25)
    thing = dice.pick(("coat", "bicycle", "tent", "lamp", "desk", "guitar"))
    fields = {"n": dice.pick(FIRST_NAMES), "t": thing, "a": price, "p": percent, "f": fee}
    return Instance((price, percent, fee), str(price * (100 - percent) // 100 + fee), fields)


def _boxes(dice: Dice) -> Instance:
    size, total = dice.between(4, 15), dice.between(80, 260)
    given = dice.between(10, 60)
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": total, "b": given, "k": size}
    return Instance((total, given, size), str(-(-(total - given) // size)), fields)


def _mean(dice: Dice) -> Instance:
    count, goal = dice.between(4, 6), dice.between(60, 90)
    known = [goal + dice.between(-9, 9) for _ in range(count - 1)]
    missing = goal * count - sum(known)
    listed = ", ".join(map(str, known[:-1])) + f" and {known[-1]}"
    fields = {"n": dice.pick(FIRST_NAMES), "s": listed, "g": goal, "c": count, "d": count - 1}
    return Instance((goal, *known), str(missing), fields)


def _wages(dice: Dice) -> Instance:
    rate, hours, days = dice.between(9, 30), dice.between(3, 8), dice.between(3, 12)
    spent = dice.between(15, rate * hours * days // 2)
    fields = {"n": dice.pick(FIRST_NAMES), "r": rate, "h": hours, "d": days, "s": spent}
    return Instance((rate, hours, days, spent), str(rate * hours * days - spent), fields)


def _bells(dice: Dice) -> Instance:
    first, second = dice.picks(range(4, 31), 2)
    again, limit = math.lcm(first, second), dice.between(2, 6)
    fields = {"a": first, "b": second, "m": again * limit}
    return Instance((first, second, limit), str(limit), fields)


def _eaten(dice: Dice) -> Instance:
    low = dice.pick((3, 4, 5, 6, 8))
    part = dice.between(6, 25)
    top, given = dice.between(1, low - 2), dice.between(2, part - 1)
    left = part * (low - top) - given
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": part * low}
    share = str(Fraction(top, low))
    fields |= {"f": share, "g": given}
    return Instance((share, part * low, given), str(left), fields)


def _committee(dice: Dice) -> Instance:
    women, men = dice.between(3, 12), dice.between(3, 12)
    answer = math.comb(women, 2) * men
    return Instance((women, men), str(answer), {"a": women, "b": men})


def _fractions(dice: Dice) -> Instance:
    low_1, low_2 = dice.picks(range(3, 13), 2)
    first = Fraction(dice.between(1, low_1 - 1), low_1)
    second = Fraction(dice.between(1, low_2 - 1), low_2)
    total = first * second + Fraction(1, low_1)
    fields = {"n": dice.pick(FIRST_NAMES), "p": str(first), "q": str(second), "r": f"1/{low_1}"}
    return Instance((str(first), str(second), low_1), str(total), fields)


def _family(
    name: str, seen: tuple[str, ...], held: str, test: str, sealed: str, draw: Draw
) -> Family:
    return Family(name, "math", 2, Wordings(seen, (held,), (test,), (sealed,)), draw)


FAMILIES: tuple[Family, ...] = (
    _family(
        "change",
        (
            "{n} buys {a} {x} at ${p} each and {b} {y} at ${q} each, and pays with ${m}. How much "
            "change does {n} get[ back|]?",
            "In a shop, {x} cost ${p} each and {y} cost ${q} each. {n} has ${m} and buys {a} {x} "
            "and {b} {y}. How many dollars [are left|remain]?",
            "With ${m} in hand, {n} pays for {a} {x} (${p} each) and {b} {y} (${q} each). How much "
            "money is left?",
        ),
        "What remains of ${m} after {n} pays for {a} {x} at ${p} and {b} {y} at ${q} apiece?",
        "A bill lists {a} {x}, ${p} each, then {b} {y}, ${q} each. {n} hands over ${m}. Give the "
        "change in dollars.",
        "{n}'s purse holds ${m}. Purchases: {a} {x} at a unit price of ${p}, then {b} {y} at a "
        "unit price of ${q}. How many dollars does the purse hold afterwards?",
        _change,
    ),
    _family(
        "discount",
        (
            "A {t} costs ${a}. It is [sold|offered] at {p}% off, and delivery costs ${f}. How much "
            "does {n} pay [in all|in total]?",
            "{n} buys a {t} priced at ${a} with a {p}% discount and pays ${f} for delivery. What "
            "is the total?",
            "The price of a {t} is ${a}. First {p}% is taken off, then a fee of ${f} is added. "
            "What is the final price?",
        ),
        "With {p} percent off and ${f} for shipping, what does {n} pay for a {t} listed at ${a}?",
        "A {t}, list price ${a}, is reduced by {p}%; the ${f} fee is not. Give the sum due.",
        "{n} orders a {t}. The catalogue says ${a}, a coupon cuts that by {p} percent, and "
        "postage of ${f} comes on top. What is charged to {n}?",
        _discount,
    ),
    _family(
        "boxes",
        (
            "{n} has {a} {x}, gives away {b} and packs the rest in boxes of {k}. How many boxes "
            "are needed?",
            "From {a} {x}, {b} are [sold|thrown away]. The others go into bags that hold {k}. How "
            "many bags does {n} need?",
            "{b} of {a} {x} are broken. A tray holds {k} whole ones. How many trays are needed for "
            "all whole ones?",
        ),
        "Each crate takes {k} {x}. How many crates hold what is left of {a} {x} after {n} keeps "
        "{b}?",
        "{n} sets {b} of {a} {x} aside and stacks the others, at most {k} to a stack. Give the "
        "smallest number of stacks.",
        "Of {n}'s {a} {x}, {b} go to a neighbour. Envelopes take up to {k} each. What is the "
        "least count of envelopes for all the others?",
        _boxes,
    ),
    _family(
        "mean",
        (
            "{n} scored {s} in {d} tests. What must {n} score in the next test for an average of "
            "{g}?",
            "The average of {c} numbers is {g}. [All but one|{d} of them] are {s}. What is the "
            "other number?",
            "After {d} games with {s} points, how many points does {n} need in game {c} to average "
            "{g}?",
        ),
        "A mean of {g} over {c} weeks is the aim. So far: {s}. What must the last week bring?",
        "{c} parcels weigh {g} kg on average; {d} weigh {s} kg. Give the weight of the last, in "
        "kg.",
        "A table of {c} readings has mean {g}. One reading is smudged; the rest are {s}. Recover "
        "the smudged one.",
        _mean,
    ),
    _family(
        "wages",
        (
            "{n} earns ${r} an hour and works {h} hours a day for {d} days. Then {n} spends ${s}. "
            "How much money is left?",
            "Working {h} hours a day at ${r} an hour, {n} works {d} days and pays ${s} for "
            "[tools|travel|food]. How much does {n} keep?",
            "{n} gets ${r} per hour. After {d} days of {h} hours, ${s} goes to rent. What remains?",
        ),
        "What is left of {d} days' pay, {h} hours each at ${r} an hour, once {n} has spent ${s}?",
        "A job of {d} days takes {h} hours daily and pays ${r} hourly. Costs are ${s}. Give the "
        "gain.",
        "{n}'s contract: {d} shifts, {h} hours per shift, ${r} for an hour. From the income a "
        "bill of ${s} is settled. How many dollars stay with {n}?",
        _wages,
    ),
    _family(
        "bells",
        (
            "One bell rings every {a} minutes, another every {b} minutes. Both ring now. In the "
            "next {m} minutes, how many more times do they ring together?",
            "How many numbers from 1 to {m} are multiples of both {a} and {b}?",
            "Two lamps flash together, then every {a} and every {b} seconds. How many times do "
            "they flash together again within {m} seconds?",
        ),
        "Count the whole numbers up to {m} that {a} and {b} both divide.",
        "Buses leave every {a} and every {b} minutes, both at noon. Within {m} minutes after noon, "
        "how often do they leave at the same time again?",
        "On a walk of {m} steps, a flag is planted after every {a} steps and a stone laid after "
        "every {b} steps. How many spots get a flag as well as a stone?",
        _bells,
    ),
    _family(
        "eaten",
        (
            "{n} had {a} {x}, sold {f} of them and then gave away {g}. How many {x} are left?",
            "A box holds {a} {x}. {f} of them are taken out, then {g} more. How many [remain|are "
            "left in the box]?",
            "Of {a} {x}, {f} are red, {g} are blue and the rest are green. How many are green?",
        ),
        "After losing {f} of {a} {x}, and later {g} more, how many does {n} still have?",
        "{n} plants {f} of {a} seeds on Monday and {g} on Tuesday. Give the number not planted.",
        "{n} prints {a} tickets: {f} of the batch is sold online, a further {g} tickets at the "
        "door. How many tickets find no buyer?",
        _eaten,
    ),
    _family(
        "committee",
        (
            "A club has {a} women and {b} men. How many ways are there to choose 2 women and 1 "
            "man?",
            "From {a} novels and {b} comics, 2 novels and 1 comic are [chosen|picked]. How many "
            "selections are possible?",
            "A pizza gets 2 of {a} toppings and 1 of {b} sauces. How many pizzas are possible?",
        ),
        "In how many ways can 2 of {a} singers and 1 of {b} drummers form a trio?",
        "A prize holds two different cards out of {a} and one coin out of {b}. Count the prizes.",
        "{a} apples and {b} pears, no two alike, lie in a bowl. Tell how many distinct bags of "
        "exactly two apples and one pear can be put together.",
        _committee,
    ),
    _family(
        "fractions",
        (
            "{n} takes {p} of {q} of a cake and then another {r} of the cake. What fraction of the "
            "cake is that?",
            "Multiply {p} by {q}, then add {r}. Give the result as a fraction[ in lowest terms|].",
            "{q} of a garden is planted, and {p} of that part is lawn. Then {r} of the garden is "
            "made lawn too. What fraction is lawn?",
        ),
        "What fraction is {r} more than {p} of {q}?",
        "Work out {p} × {q} + {r} as a reduced fraction.",
        "{p} of {q} of a wall is blue. A separate {r} of the wall is blue as well. Which part of "
        "the wall is blue, in simplest form?",
        _fractions,
    ),
)
