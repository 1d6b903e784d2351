"""Code problems with one idea: filter and fold, map, pick, replace, clamp."""

from __future__ import annotations

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.code_frame import Task, code_family, ordinal, task
from aflow_grpo.data.generate.family import Family

__all__ = ["FAMILIES"]

_LETTERS = "abcdefghiklmnoprstu"


def numbers(dice: Dice, count: int, low: int, high: int) -> list[int]:
    """`count` integers in [low, high]."""
    return [dice.between(low, high) for _ in range(count)]


def text(dice: Dice, count: int, letters: str = _LETTERS) -> str:
    """`count` letters."""
    return "".join(dice.pick(letters) for _ in range(count))


def _fold(dice: Dice) -> Task:
    k = dice.between(2, 12)
    kind = dice.pick(("greater than", "less than", "divisible by"))
    what = dice.pick(("sum", "count", "list"))
    test = {"greater than": "x > {k}", "less than": "x < {k}", "divisible by": "x % {k} == 0"}[kind]
    shape = {"sum": "sum({})", "count": "len([{}])", "list": "[{}]"}[what]
    source = "    return " + shape.format(f"x for x in nums if {test.format(k=k)}")

    def oracle(nums: list[int]) -> object:
        keep = {"greater than": k.__lt__, "less than": k.__gt__}.get(kind, lambda x: not x % k)
        kept = list(filter(keep, nums))
        return {"sum": sum(kept), "count": len(kept), "list": kept}[what]

    telling = [k - 1, k, k + 1, 2 * k, 2 * k + 2, 0, -k]
    inputs = [(dice.shuffled(telling),), ([k, 3 * k, k + 1, k - 1, k - 1, 5],), ([],), ([k],)]
    inputs += [(numbers(dice, 7, -20, 40),) for _ in range(2)] + [([k - 1, k + 1, k - 2, 2 * k],)]
    names = ("select_numbers", "filter_fold", "process_numbers")
    fields: dict[str, object] = {"k": k, "kind": kind, "what": what}
    return task(
        dice,
        names=names,
        args="nums",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(kind, what, k),
        fields=fields,
    )


def _affine(dice: Dice) -> Task:
    factor, shift = dice.between(2, 9), dice.between(1, 15)
    inputs = [([1, 2, 3],), ([0, -1, 10],), ([],), ([7],), (numbers(dice, 5, -30, 30),), ([0, 0],)]
    return task(
        dice,
        names=("scale_and_shift", "transform_all", "map_numbers"),
        args="nums",
        source=f"    return [{factor} * x + {shift} for x in nums]",
        oracle=lambda nums: [factor * x + shift for x in nums],
        inputs=inputs,
        key=(factor, shift),
        fields={"a": factor, "b": shift},
    )


def _letters(dice: Dice) -> Task:
    chosen = "".join(sorted(dice.picks(_LETTERS, dice.between(2, 3))))
    listed = " or ".join(f"'{letter}'" for letter in chosen)
    inputs = [(text(dice, 4) + chosen + text(dice, 3) + chosen[0],), (chosen.upper() + chosen,)]
    inputs += [("",), ("xyz",), (chosen[0] * 4,), (chosen[-1] + "w" + chosen[-1],)]
    inputs += [(text(dice, 12, chosen + "xyz"),)]
    return task(
        dice,
        names=("count_letters", "letter_total", "tally"),
        args="text",
        source=f"    return sum(c in {chosen!r} for c in text)",
        oracle=lambda text: sum(text.count(c) for c in chosen),
        inputs=inputs,
        key=(chosen,),
        fields={"l": listed},
    )


def _stride(dice: Dice) -> Task:
    start, step = dice.between(0, 7), dice.between(2, 9)
    inputs = [(list(range(10, 10 + start + 3 * step)),), (text(dice, start + 2 * step + 1),)]
    inputs += [([],), ("",), (numbers(dice, start + 1, 0, 9),), (text(dice, start + step),)]
    inputs += [(numbers(dice, 17, 0, 99),)]
    return task(
        dice,
        names=("take_every", "pick_positions", "thin_out"),
        args="seq",
        source=f"    return seq[{start}::{step}]",
        oracle=lambda seq: seq[start::step],
        inputs=inputs,
        key=(start, step),
        fields={"s": start, "k": step, "t": ordinal(step)},
    )


def _replace(dice: Dice) -> Task:
    old, new, also = dice.picks(_LETTERS, 3)
    inputs = [(text(dice, 3) + old + also + old,), (f"{also}{old}{new}",), ("",), (old * 3,)]
    inputs += [(also * 2,), (new + old.upper(),), (text(dice, 10, old + new + also),)]
    source = f"    return text.replace({old!r}, {new!r}).replace({also!r}, '')"
    return task(
        dice,
        names=("rewrite", "clean_text", "swap_letters"),
        args="text",
        source=source,
        oracle=lambda text: "".join(new if c == old else c for c in text if c != also),
        inputs=inputs,
        key=(old, new, also),
        fields={"o": old, "n": new, "r": also},
    )


def _clamp(dice: Dice) -> Task:
    low = dice.between(-30, 20)
    high = low + dice.between(5, 60)
    inputs = [(low - 5,), (high + 7,), ((low + high) // 2,), (low,), (high,), (low - 1,)]
    inputs += [(high + 1,), (0,)]
    return task(
        dice,
        names=("clamp", "limit_value", "keep_in_range"),
        args="x",
        source=f"    return max({low}, min({high}, x))",
        oracle=lambda x: low if x < low else high if x > high else x,
        inputs=inputs,
        key=(low, high),
        fields={"a": low, "b": high},
    )


def _fare(dice: Dice) -> Task:
    base, free, rate = dice.between(2, 9), dice.between(1, 6), dice.between(2, 7)
    inputs = [(free + 3,), (free,), (0,), (free - 1,), (free + 1,), (dice.between(20, 60),)]
    source = f"    return {base} + {rate} * max(0, km - {free})"
    return task(
        dice,
        names=("fare", "ride_price", "trip_cost"),
        args="km",
        source=source,
        oracle=lambda km: base if km <= free else base + (km - free) * rate,
        inputs=inputs,
        key=(base, free, rate),
        fields={"b": base, "k": free, "t": ordinal(free), "r": rate},
    )


FAMILIES: tuple[Family, ...] = (
    code_family(
        "fold",
        1,
        (
            "returns the {what} of [those|the] numbers in the list `nums` that are {kind} {k}.",
            "gets a list of integers and returns the {what} of its elements {kind} {k}.",
        ),
        "looks at the integers of a list and gives back the {what} of all that are {kind} {k}.",
        "yields the {what} of the elements of `nums` which turn out {kind} {k}, as its result.",
        "passes over `nums` once, ignores members that are not {kind} {k}, and outputs the {what} "
        "of the others.",
        _fold,
    ),
    code_family(
        "affine",
        1,
        (
            "multiplies each number of the list by {a}, adds {b} and returns the new list.",
            "returns a list with {a} * x + {b} for every x in `nums`.",
        ),
        "turns every element x of the given list into {a} times x plus {b}, in order.",
        "gives back `nums` with each entry scaled by {a} and then raised by {b}.",
        "outputs, for input numbers x1, x2, ..., the numbers {a} * x1 + {b}, {a} * x2 + {b}, ... "
        "as a list.",
        _affine,
    ),
    code_family(
        "letters",
        1,
        (
            "returns how many characters of the text are {l}. Only lower case counts.",
            "counts the occurrences of {l} (lower case) in a string.",
        ),
        "tells how often a lower-case {l} appears in a string.",
        "reports the total of characters equal to {l}; capital letters are not counted.",
        "walks along the text and outputs how many times it meets {l}; uppercase forms are "
        "skipped.",
        _letters,
    ),
    code_family(
        "stride",
        1,
        (
            "returns every {t} element of a list or string, starting at index {s}.",
            "takes the elements at index {s} and then at each {t} index after it, keeping the "
            "type.",
        ),
        "keeps only what stands at index {s}, {s} + {k}, {s} + 2 * {k} and so on of a sequence.",
        "thins out a list or string: begin at index {s}, go on in steps of {k}.",
        "jumps through the sequence: first the item at index {s}, then the one {k} further on, "
        "again and again, and outputs the picked items in the input's own type.",
        _stride,
    ),
    code_family(
        "replace",
        1,
        (
            "replaces each '{o}' in the text by '{n}' and removes each '{r}'.",
            "returns the string with '{o}' changed to '{n}' and without any '{r}'.",
        ),
        "copies a string, dropping '{r}' and writing '{n}' wherever '{o}' stood.",
        "rids the text of '{r}' and puts '{n}' in the place of '{o}'; all else stays.",
        "outputs the text after two edits: each '{r}' erased, each '{o}' turned into '{n}'.",
        _replace,
    ),
    code_family(
        "clamp",
        1,
        (
            "returns x, but {a} if x is smaller than {a} and {b} if x is larger than {b}.",
            "limits the number x to the range from {a} to {b}.",
        ),
        "returns the value between {a} and {b}, both included, that is nearest to x.",
        "gives x back unchanged inside {a} to {b} and the nearer bound outside.",
        "outputs {a} for any x under {a}, {b} for any x over {b}, and otherwise x itself.",
        _clamp,
    ),
    code_family(
        "fare",
        1,
        (
            "returns the price of a ride: {b}, plus {r} for each km beyond the first {k} km.",
            "computes a fare: {b} covers up to {k} km, every further km costs {r}.",
        ),
        "tells what a ride costs when {b} is the basic price and km after the {t} cost {r} each.",
        "prices a trip: a flat {b}, and {r} per km on top once {k} km are exceeded.",
        "bills a taxi customer: {b} for a journey of up to {k} km, and for a longer one {b} plus "
        "{r} times the km over {k}.",
        _fare,
    ),
)
