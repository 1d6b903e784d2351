"""Math word problems of one step: whole numbers, fractions, percentages, rates, remainders."""

from __future__ import annotations

from fractions import Fraction

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Draw, Family, Instance, Wordings
from aflow_grpo.data.generate.words import FIRST_NAMES, ITEMS

__all__ = ["FAMILIES"]


def _gain(dice: Dice) -> Instance:
    have, more = dice.between(12, 95), dice.between(5, 80)
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": have, "b": more}
    return Instance((have, more), str(have + more), fields)


def _loss(dice: Dice) -> Instance:
    have = dice.between(40, 180)
    gone = dice.between(7, have - 5)
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": have, "b": gone}
    return Instance((have, gone), str(have - gone), fields)


def _share(dice: Dice) -> Instance:
    people, each = dice.between(3, 14), dice.between(4, 30)
    fields = {"n": dice.pick(FIRST_NAMES), "x": dice.pick(ITEMS), "a": people * each, "b": people}
    return Instance((people, each), str(each), fields)


def _percent(dice: Dice) -> Instance:
    percent = dice.pick((5, 10, 15, 20, 25, 30, 40, 60, 75, 80))
    whole = 20 * dice.between(3, 30)
    fields = {"p": percent, "a": whole, "x": dice.pick(ITEMS), "n": dice.pick(FIRST_NAMES)}
    return Instance((percent, whole), str(whole * percent // 100), fields)


def _distance(dice: Dice) -> Instance:
    speed, hours = dice.between(12, 96), dice.between(2, 9)
    vehicle = dice.pick(("train", "bus", "ship", "cyclist", "truck"))
    fields = {"v": vehicle, "s": speed, "h": hours}
    return Instance((speed, hours), str(speed * hours), fields)


def _remainder(dice: Dice) -> Instance:
    divisor = dice.between(4, 19)
    number = dice.between(divisor * 4, divisor * 30)
    fields = {"a": number, "b": divisor, "x": dice.pick(ITEMS)}
    return Instance((number, divisor), str(number % divisor), fields)


def _outfits(dice: Dice) -> Instance:
    first, second = dice.between(3, 16), dice.between(3, 16)
    fields = {"n": dice.pick(FIRST_NAMES), "a": first, "b": second}
    return Instance((first, second), str(first * second), fields)


def _fraction_of(dice: Dice) -> Instance:
    low = dice.pick((3, 4, 5, 6, 8))
    top = dice.between(1, low - 1)
    whole = low * dice.between(4, 30)
    share = str(Fraction(top, low))
    fields = {"f": share, "a": whole, "x": dice.pick(ITEMS), "n": dice.pick(FIRST_NAMES)}
    return Instance((share, whole), str(whole // low * top), fields)


def _family(
    name: str, seen: tuple[str, ...], held: str, test: str, sealed: str, draw: Draw
) -> Family:
    return Family(name, "math", 1, Wordings(seen, (held,), (test,), (sealed,)), draw)


FAMILIES: tuple[Family, ...] = (
    _family(
        "gain",
        (
            "{n} has {a} {x} and [buys|finds|gets] {b} more. How many {x} does {n} have [now|in "
            "all]?",
            "There are {a} {x} in a box. {n} puts in {b} more. How many {x} are in the box?",
            "{n} collected {a} {x} on Monday and {b} on Tuesday. How many is that together?",
        ),
        "After {n} added {b} {x} to a collection of {a}, how large was the collection?",
        "A shelf holds {a} {x}; {n} brings another {b}. Give the new number of {x}.",
        "{a} {x} lay on a table until {n} put {b} others beside them. State the total on the "
        "table.",
        _gain,
    ),
    _family(
        "loss",
        (
            "{n} had {a} {x} and [gave away|lost|sold] {b} of them. How many {x} are left?",
            "A shop has {a} {x} and sells {b} of them. How many {x} [remain|are left]?",
            "Of {a} {x}, {n} has used {b}. How many has {n} not used yet?",
        ),
        "{n} started with {a} {x} but {b} broke. What number stayed whole?",
        "Take {b} {x} out of a crate of {a}. Say how many the crate still holds.",
        "{n}'s drawer had {a} {x} in it; {b} of those were moved elsewhere. A recount of the "
        "drawer gives which number?",
        _loss,
    ),
    _family(
        "share",
        (
            "{n} shares {a} {x} equally among {b} friends. How many {x} does each friend get?",
            "{a} {x} are packed evenly into {b} bags. How many {x} are in [each|one] bag?",
            "{b} children split {a} {x} into equal parts. How many does every child [get|receive]?",
        ),
        "A gift of {a} {x} is divided fairly between {b} cousins. What is one cousin's share?",
        "{n} lays {a} {x} in {b} rows of the same length. Give the length of a row.",
        "{a} {x} are dealt out to {b} players until none remains, and all hold equally many. How "
        "big is one player's pile?",
        _share,
    ),
    _family(
        "percent",
        (
            "What is {p}% of {a}?",
            "{n} has {a} {x} and [sells|paints] {p}% of them. How many {x} is that?",
            "A school has {a} pupils and {p}% of them walk. How many pupils walk?",
        ),
        "Out of {a} {x}, {p} percent are red. What is the number of red ones?",
        "{p} percent of the {a} seats in a hall are taken. Give the number of taken seats.",
        "A survey reached {a} households; {p} in every hundred said yes. What was the count of "
        "yes answers?",
        _percent,
    ),
    _family(
        "distance",
        (
            "A {v} travels at {s} km per hour for {h} hours. How [far|many km] does it go?",
            "A {v} covers {s} km every hour. How many km does it cover in {h} hours?",
            "At {s} km per hour, how many km does a {v} travel in {h} hours?",
        ),
        "For {h} hours a {v} keeps a speed of {s} km/h. What distance is that in km?",
        "A {v} moves {s} km each hour without stopping. Give its way after {h} hours, in km.",
        "The log of a {v} grows by {s} km with each hour under way. Which length, in km, is "
        "logged over {h} hours?",
        _distance,
    ),
    _family(
        "remainder",
        (
            "What is the remainder when {a} is divided by {b}?",
            "{a} {x} are packed in boxes of {b}. How many {x} are left over?",
            "Divide {a} by {b}. What remainder [is left|do you get]?",
        ),
        "{a} {x} go into full bags of {b}; how many do not fit into a full bag?",
        "Compute {a} modulo {b}.",
        "Subtract {b} from {a} again and again until less than {b} is there. Which number is it "
        "then?",
        _remainder,
    ),
    _family(
        "outfits",
        (
            "{n} has {a} shirts and {b} pairs of trousers. How many different outfits are "
            "possible?",
            "A menu has {a} soups and {b} desserts. How many ways are there to choose one of each?",
            "There are {a} roads from home to the lake and {b} from the lake to town. How many "
            "routes lead from home to town?",
        ),
        "In how many ways can {n} pick one of {a} hats and one of {b} scarves?",
        "A lock has {a} colours on one ring and {b} on another. Count its settings.",
        "A kitchen offers {a} main dishes and {b} drinks; any dish goes with any drink. How long "
        "is the list of dish-drink pairs?",
        _outfits,
    ),
    _family(
        "fraction_of",
        (
            "{n} read {f} of a book with {a} pages. How many pages did {n} read?",
            "What is {f} of {a}?",
            "{f} of the {a} {x} in a jar belong to {n}. How many {x} [are those|is that]?",
        ),
        "A tank of {a} litres is filled to {f}. How many litres are in it?",
        "{n} has walked {f} of a path of {a} metres. Give the metres walked.",
        "{n} owes {a} dollars and repays {f} of the debt. Find the repaid amount in dollars.",
        _fraction_of,
    ),
)
