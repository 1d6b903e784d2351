"""Math word problems of four or five steps: longer chains, several rates, counting with rules."""

from __future__ import annotations

from itertools import permutations

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Draw, Family, Instance, Wordings
from aflow_grpo.data.generate.words import FIRST_NAMES, ITEMS

__all__ = ["FAMILIES"]


def _week(dice: Dice) -> Instance:
    first, times = dice.between(12, 60), dice.between(2, 4)
    fewer, price, rent = dice.between(3, 11), dice.between(2, 9), dice.between(10, 60)
    total = first + first * times + (first - fewer)
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": first, "t": times}
    fields |= {"f": fewer, "p": price, "r": rent}
    return Instance((first, times, fewer, price, rent), str(total * price - rent), fields)


def _tank(dice: Dice) -> Instance:
    drain, extra = dice.between(3, 9), dice.between(4, 12)
    fill = drain + extra
    early, late = dice.between(4, 12), dice.between(5, 20)
    begin = dice.between(10, 90)
    goal = begin + fill * early + extra * late
    fields = {"w": begin, "f": fill, "d": drain, "e": early, "g": goal}
    return Instance((drain, fill, early, late, begin), str(early + late), fields)


def _divisible(dice: Dice) -> Instance:
    first, second = dice.picks((2, 3, 4, 5, 6, 7, 8, 9, 10, 12), 2)
    limit = dice.between(60, 400)
    mode = dice.pick(("exactly one of", "neither of", "at least one of"))
    wanted = {"exactly one of": (1,), "neither of": (0,), "at least one of": (1, 2)}[mode]
    count = sum((n % first == 0) + (n % second == 0) in wanted for n in range(1, limit + 1))
    low, high = sorted((first, second))
    fields: dict[str, object] = {"a": low, "b": high, "m": limit, "w": mode}
    return Instance((low, high, limit, mode), str(count), fields)


def _trip(dice: Dice) -> Instance:
    speed_1, speed_2 = dice.picks((20, 30, 40, 50, 60, 80, 90), 2)
    hours_1, hours_2 = dice.between(2, 5), dice.between(2, 5)
    rest, back = dice.between(2, 4), dice.pick((10, 15, 20, 25, 30))
    way = speed_1 * hours_1 + speed_2 * hours_2
    way_back = -(-way // back)
    short = way_back * back - way
    answer = hours_1 + hours_2 + rest + way_back
    fields: dict[str, object] = {"n": dice.pick(FIRST_NAMES), "a": speed_1, "h": hours_1}
    fields |= {"b": speed_2, "k": hours_2, "r": rest, "c": back, "s": short}
    return Instance((speed_1, hours_1, speed_2, hours_2, rest, back), str(answer), fields)


def _prices(dice: Dice) -> Instance:
    price = 100 * dice.between(1, 9)
    rise, fall = dice.pick((10, 20, 30, 40, 50)), dice.pick((10, 20, 30, 40))
    count, voucher = dice.between(2, 6), dice.between(10, 90)
    each = price * (100 + rise) * (100 - fall) // 10_000
    thing = dice.pick(("chair", "phone", "radio", "watch", "camera"))
    fields = {"n": dice.pick(FIRST_NAMES), "t": thing, "a": price, "p": rise, "q": fall}
    fields |= {"c": count, "v": voucher}
    return Instance((price, rise, fall, count, voucher), str(each * count - voucher), fields)


def _ages(dice: Dice) -> Instance:
    youngest, times = dice.between(3, 14), dice.between(2, 4)
    older, years = dice.between(3, 12), dice.between(2, 15)
    second = youngest * times
    third = second + older
    total = youngest + second + third
    one, two, three = dice.picks(FIRST_NAMES, 3)
    fields: dict[str, object] = {"u": one, "v": two, "w": three, "t": times, "o": older}
    fields |= {"s": total, "y": years}
    return Instance((youngest, times, older, years), str(third + years), fields)


def _digits(dice: Dice) -> Instance:
    length = dice.between(3, 4)
    digits = sorted(dice.picks(range(10), dice.between(4, 6)))
    limit = dice.between(2, 8) * 10 ** (length - 1)
    parity = dice.pick(("even", "odd"))
    numbers = (int("".join(map(str, p))) for p in permutations(digits, length) if p[0] != 0)
    count = sum(n > limit and n % 2 == (parity == "odd") for n in numbers)
    fields: dict[str, object] = {"l": length, "e": parity, "m": limit}
    fields["d"] = ", ".join(map(str, digits[:-1])) + f" and {digits[-1]}"
    return Instance((length, limit, parity, *digits), str(count), fields)


def _bakery(dice: Dice) -> Instance:
    batch, flour = dice.between(6, 20), dice.between(150, 400) // 10 * 10
    batches = dice.between(3, 9)
    spare = dice.between(1, batch - 1)
    bag, cost = dice.pick((500, 750, 1000)), dice.between(2, 6)
    orders = batches * batch - spare
    bags = -(-batches * flour // bag)
    price = bags * cost // orders + dice.between(1, 4)
    gain = orders * price - bags * cost
    fields: dict[str, object] = {"n": dice.pick(FIRST_NAMES), "o": orders, "k": batch}
    fields |= {"f": flour, "b": bag, "c": cost, "p": price}
    return Instance((orders, batch, flour, bag, cost, price), str(gain), fields)


def _family(
    name: str, seen: tuple[str, ...], held: str, test: str, sealed: str, draw: Draw
) -> Family:
    return Family(name, "math", 3, Wordings(seen, (held,), (test,), (sealed,)), draw)


FAMILIES: tuple[Family, ...] = (
    _family(
        "week",
        (
            "{n} sells {a} {x} on Monday, {t} times as many on Tuesday and {f} fewer than Monday "
            "on Wednesday. Each costs ${p}. After paying ${r} rent, how much does {n} [keep|have]?",
            "On day one {n} makes {a} {x}, on day two {t} times as many, on day three {f} fewer "
            "than on day one. All are sold at ${p} each and ${r} goes to a helper. How much is "
            "left?",
            "{n} sold {a} {x} in May, {t} times that in June, and in July {f} less than in May. "
            "One brings ${p}; costs were ${r} in all. What was the profit?",
        ),
        "At ${p} apiece, {n} sells {a} {x}, then {t} times as many, then {f} fewer than at first. "
        "What is left after ${r} for the stand?",
        "Three markets: {a} {x} sold, then {t} times that, then {f} fewer than the first. Price "
        "${p} each, fees ${r} altogether. Give {n}'s gain in dollars.",
        "{n}'s stall: {a} {x} go on the first morning, {t} times the first morning's number on "
        "the second, and on the third {f} short of the first's. Every one is worth ${p}; the "
        "stall itself costs ${r}. Work out the net takings.",
        _week,
    ),
    _family(
        "tank",
        (
            "A tank holds {w} litres. A pump adds {f} litres a minute. After {e} minutes a drain "
            "opens that takes {d} litres a minute. How many minutes after the start are {g} litres "
            "in the tank?",
            "A pool has {w} litres and gains {f} litres a minute. From minute {e} on it also loses "
            "{d} litres a minute. After how many minutes [in all|from the start] does it hold {g}?",
            "A hose pours {f} litres a minute into a barrel with {w} litres. After {e} minutes it "
            "springs a leak of {d} litres a minute. How many minutes from the start until {g} "
            "litres?",
        ),
        "Starting from {w} litres, a cistern takes in {f} a minute; once {e} minutes are over it "
        "also gives out {d} a minute. When, in minutes from the start, does it reach {g} litres?",
        "Water enters a basin of {w} litres at {f} per minute. {e} minutes later an outlet of {d} "
        "per minute opens too. Give the minutes from the start to {g} litres.",
        "A reservoir contains {w} litres. An inlet supplies {f} litres each minute throughout. A "
        "valve, shut for the first {e} minutes, then lets {d} litres out each minute. How many "
        "minutes does it take from the beginning until the content is {g} litres?",
        _tank,
    ),
    _family(
        "divisible",
        (
            "How many whole numbers from 1 to {m} are divisible by {w} {a} and {b}?",
            "Count the integers between 1 and {m}, both included, that are multiples of {w} {a} "
            "and {b}.",
            "Cards are numbered 1 to {m}. How many show a number that is divisible by {w} {a} and "
            "{b}?",
        ),
        "Of the numbers 1, 2, ..., {m}, how many have {w} {a} and {b} as a divisor?",
        "Lockers 1 to {m}: a locker opens when its number is a multiple of {w} {a} and {b}. Count "
        "the open lockers.",
        "Each positive integer up to {m} has a lamp, lit if {w} {a} and {b} goes into that "
        "integer evenly. Find the number of lit lamps.",
        _divisible,
    ),
    _family(
        "trip",
        (
            "{n} drives {h} hours at {a} km/h and {k} hours at {b} km/h, rests {r} hours and "
            "returns by a road that is {s} km longer at {c} km/h. How many hours does it take in "
            "all?",
            "A boat sails {h} hours at {a} km/h, then {k} hours at {b} km/h. After {r} hours in "
            "port it goes home at {c} km/h on a route {s} km longer. How many hours was it "
            "[away|gone]?",
            "{n} travels at {a} km/h for {h} hours, at {b} km/h for {k} hours, waits {r} hours, "
            "and takes a way back that is {s} km longer at {c} km/h. How long is the whole trip in "
            "hours?",
        ),
        "Out: {h} hours at {a} km/h and {k} hours at {b} km/h. Stay: {r} hours. Back: {s} km more "
        "than out, at {c} km/h. How many hours pass in all for {n}?",
        "A van needs {h} hours at {a} km/h plus {k} hours at {b} km/h to deliver, unloads for {r} "
        "hours and comes back at {c} km/h with a detour of {s} km. Give its total hours.",
        "{n}'s diary: {h} hours of motorway with {a} km/h, {k} hours of country roads with {b} "
        "km/h, a break of {r} hours, and home on a detour that adds {s} km, with {c} km/h. From "
        "start to return, what time has gone by in hours?",
        _trip,
    ),
    _family(
        "prices",
        (
            "A {t} costs ${a}. The price rises by {p}% and then falls by {q}%. {n} buys {c} of "
            "them with a voucher of ${v}. How much does {n} pay?",
            "The ${a} price of a {t} goes up {p}%, then the new price goes down {q}%. What do {c} "
            "cost after ${v} is taken off the [total|bill]?",
            "A shop raises the price of a {t}, ${a}, by {p}% and later cuts it by {q}%. {n} orders "
            "{c} and has a ${v} credit. What is to pay?",
        ),
        "For {c} of a {t}, once ${a} each, made {p}% dearer and then {q}% cheaper, {n} pays ${v} "
        "less than they cost. What is the amount?",
        "List price of a {t}: ${a}. Step one: plus {p}%. Step two: minus {q}% of that. Give the "
        "bill for {c} after a rebate of ${v}.",
        "A {t} is tagged ${a}. The tag is first increased by {p} percent, and the increased tag "
        "then lowered by {q} percent. {n} takes {c} at the last tag, and a gift card pays ${v} of "
        "it. How many dollars are still owed?",
        _prices,
    ),
    _family(
        "ages",
        (
            "{v} is {t} times as old as {u}. {w} is {o} years older than {v}. Together they are "
            "{s}. How old will {w} be in {y} years?",
            "The ages of {u}, {v} and {w} add up to {s}. {v} is {t} times as old as {u}, and {w} "
            "is {o} years older than {v}. What will {w}'s age be {y} years from now?",
            "{u}, {v} and {w} are {s} years old in all. {w} is {o} years older than {v}, who is "
            "{t} times {u}'s age. How old is {w} in {y} years?",
        ),
        "{w} was born {o} years before {v}, and {v}'s age is {t} times {u}'s. Their ages total "
        "{s}. What is {w}'s age after {y} more years?",
        "Sum of three ages: {s}. {v} has {t} times the years of {u}; {w} has {o} more than {v}. "
        "Give {w}'s age {y} years later.",
        "Call {u}'s years one part. {v} counts {t} such parts, {w} counts {v}'s years and {o} "
        "besides. All three make {s} years. How old is {w} when {y} further years are over?",
        _ages,
    ),
    _family(
        "digits",
        (
            "How many {e} {l}-digit numbers greater than {m} can be made from the digits {d} if no "
            "digit is used twice?",
            "Using each of the digits {d} at most once, how many {l}-digit numbers are {e} and "
            "greater than {m}?",
            "A code is an {e} {l}-digit number above {m}, made of different digits out of {d}. How "
            "many codes are [possible|there]?",
        ),
        "Without repeating a digit, how many {e} numbers of {l} digits above {m} can {d} form?",
        "Tiles show {d}, one each. {l} tiles laid side by side make an {e} number larger than {m}. "
        "Count these numbers.",
        "Each digit from the list {d} may be written once or left out. How many {l}-place numbers "
        "that are {e} and exceed {m} can be written?",
        _digits,
    ),
    _family(
        "bakery",
        (
            "{n} must bake {o} rolls. A batch makes {k} rolls and needs {f} g of flour. Flour "
            "comes in bags of {b} g at ${c}. Rolls sell at ${p}. All {o} are sold: what is the "
            "profit?",
            "A batch of {k} rolls takes {f} g of flour, sold in {b} g bags for ${c} each. {n} "
            "bakes whole batches to sell {o} rolls at ${p}. How much is left after buying flour?",
            "{o} rolls are ordered at ${p} each. {n} bakes full batches of {k}, {f} g of flour per "
            "batch, and buys {b} g bags for ${c} each. What is earned after flour?",
        ),
        "Flour bags of {b} g cost ${c}. {n} bakes batches of {k} rolls, {f} g each batch, until "
        "there are {o} to sell at ${p}. What does {n} earn once the flour is paid?",
        "Order: {o} rolls, ${p} each. Oven: {k} rolls per batch, whole batches, {f} g flour. "
        "Store: {b} g bags only, ${c}. Give {n}'s surplus.",
        "{n} has customers for {o} rolls at ${p} a roll. The oven runs only in full loads of {k} "
        "rolls, {f} g of flour to a load. Flour is bought in whole sacks of {b} g, ${c} a sack. "
        "What stays with {n} when the sacks are paid for?",
        _bakery,
    ),
)
