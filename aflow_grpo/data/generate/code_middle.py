"""Code problems with a loop and a rule: windows, chunks, digits, words, groups, ciphers."""

from __future__ import annotations

from collections.abc import Callable

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.code_easy import numbers, text
from aflow_grpo.data.generate.code_frame import Task, code_family, task
from aflow_grpo.data.generate.family import Family

__all__ = ["FAMILIES"]

_FOLDS: dict[str, Callable[[list[int]], int]] = {
    "sum": sum,
    "largest value": max,
    "smallest value": min,
}
_FOLD_NAMES = {"sum": "sum", "largest value": "max", "smallest value": "min"}
_WORDS = (
    "a", "to", "it", "we", "sun", "tree", "lamp", "river", "stone", "garden", "window", "mountain",
    "harbour",
)  # fmt: skip


def _window(dice: Dice) -> Task:
    k, default = dice.between(2, 6), dice.between(-3, 3)
    kind = dice.pick(("largest", "smallest"))
    best = max if kind == "largest" else min
    source = (
        f"    if len(nums) < {k}:\n        return {default}\n"
        f"    return {best.__name__}(sum(nums[i:i + {k}]) for i in range(len(nums) - {k} + 1))"
    )

    def oracle(nums: list[int]) -> int:
        sums = [sum(nums[i : i + k]) for i in range(len(nums) - k + 1)]
        return best(sums) if sums else default

    inputs = [(numbers(dice, k + 4, -9, 20),), (numbers(dice, k + 2, 1, 30),), ([],)]
    inputs += [(numbers(dice, k - 1, 4, 9),), (numbers(dice, k, 5, 9),)]
    inputs += [(numbers(dice, k + 5, -20, -1),), (numbers(dice, k + 1, 3, 50),)]
    inputs += [([-5] * k + [9],), ([5] * k + [-9],)]
    return task(
        dice,
        names=("best_window", "window_sum", "block_total"),
        args="nums",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(k, default, kind),
        fields={"k": k, "z": default, "m": kind},
    )


def _chunks(dice: Dice) -> Task:
    k, short = dice.between(2, 9), dice.pick(("kept", "dropped"))
    what = dice.pick(tuple(_FOLDS))
    end = "len(nums)" if short == "kept" else f"len(nums) - {k - 1}"
    source = f"    return [{_FOLD_NAMES[what]}(nums[i:i + {k}]) for i in range(0, {end}, {k})]"

    def oracle(nums: list[int]) -> list[int]:
        rest, result = list(nums), []
        while len(rest) >= (1 if short == "kept" else k):
            result.append(_FOLDS[what](rest[:k]))
            rest = rest[k:]
        return result

    inputs = [(numbers(dice, 2 * k + 1, 1, 30),), (numbers(dice, 2 * k, -9, 9),), ([],), ([4],)]
    inputs += [(numbers(dice, 3 * k - 1, 0, 60),), (numbers(dice, k - 1, 2, 9),)]
    inputs += [(list(range(3 * k, 0, -1)),), (list(range(2, 3 * k + 1)),)]
    return task(
        dice,
        names=("chunk_values", "group_list", "by_blocks"),
        args="nums",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(k, short, what),
        fields={"k": k, "s": short, "w": what},
    )


def _digits(dice: Dice) -> Task:
    base, factor = dice.between(2, 16), dice.between(1, 6)
    source = (
        f"    total = 0\n    while n:\n        total += n % {base}\n        n //= {base}\n"
        f"    return total * {factor}"
    )

    def oracle(n: int) -> int:
        return 0 if n == 0 else factor * (n % base) + oracle(n // base)

    inputs = [(dice.between(100, 999),), (dice.between(1000, 9999),), (0,), (base,), (base - 1,)]
    inputs += [(base**3 + 2,), (dice.between(10_000, 99_999),)]
    return task(
        dice,
        names=("digit_sum", "digit_score", "cross_sum"),
        args="n",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(base, factor),
        fields={"b": base, "k": factor},
    )


def _words(dice: Dice) -> Task:
    k, order = dice.between(2, 7), dice.pick(("in alphabetical order", "from last to first"))
    mark = dice.pick(("-", "+", "/", "_"))
    kept = f"[w for w in text.split() if len(w) > {k}]"
    arranged = f"sorted({kept})" if order.startswith("in") else f"{kept}[::-1]"

    def oracle(text: str) -> str:
        words = [word for word in text.split() if len(word) >= k + 1]
        return mark.join(sorted(words) if order.startswith("in") else reversed(words))

    edge = "z" * k + " " + "b" * (k + 1) + " " + "a" * (k + 2)
    inputs = [(edge,), (" ".join(dice.picks(_WORDS, 7)),), ("",), ("c" * k,), ("d" * (k + 1),)]
    inputs += [(" ".join(dice.picks(_WORDS, 9)),), (edge + " " + edge,)]
    return task(
        dice,
        names=("join_words", "long_words", "word_chain"),
        args="text",
        source=f"    return {mark!r}.join({arranged})",
        oracle=oracle,
        inputs=inputs,
        key=(k, order, mark),
        fields={"k": k, "o": order, "m": mark},
    )


def _caesar(dice: Dice) -> Task:
    shift, fill = dice.between(1, 25), dice.pick(("kept", "removed"))
    other = "c" if fill == "kept" else "''"
    source = (
        "    a = 'abcdefghijklmnopqrstuvwxyz'\n"
        f"    return ''.join(a[(a.index(c) + {shift}) % 26] if c in a else {other} for c in text)"
    )

    def oracle(text: str) -> str:
        moved = (
            chr((ord(c) - 97 + shift) % 26 + 97) if "a" <= c <= "z" else c if fill == "kept" else ""
            for c in text
        )
        return "".join(moved)

    inputs = [("abc xyz",), (text(dice, 6) + "!",), ("",), ("Zz",), ("12 a",), ("zzz",)]
    return task(
        dice,
        names=("encode", "shift_text", "cipher"),
        args="text",
        source=source,
        oracle=oracle,
        inputs=[*inputs, (text(dice, 9),)],
        key=(shift, fill),
        fields={"k": shift, "s": fill},
    )


def _groups(dice: Dice) -> Task:
    k, low = dice.between(2, 14), dice.between(1, 4)
    source = (
        f"    counts = {{}}\n    for r in (x % {k} for x in nums):\n"
        "        counts[r] = counts.get(r, 0) + 1\n"
        f"    return {{r: c for r, c in counts.items() if c >= {low}}}"
    )

    def oracle(nums: list[int]) -> dict[int, int]:
        rests = [x % k for x in nums]
        return {r: rests.count(r) for r in sorted(set(rests)) if rests.count(r) >= low}

    one, two = dice.picks(range(k), 2)
    full = [one + k * dice.between(-2, 5) for _ in range(low)]
    short = [two + k * dice.between(-2, 5) for _ in range(low - 1)]
    mixed = dice.shuffled(full + short)
    inputs = [([*mixed, one],), (dice.shuffled(mixed + short + [two]),), ([],), ([k - 1] * low,)]
    inputs += [(full,), (short,), (numbers(dice, 9, -9, 20),), ([-1, k - 1, 2 * k - 1, -1],)]
    return task(
        dice,
        names=("count_by_remainder", "group_counts", "residues"),
        args="nums",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(k, low),
        fields={"k": k, "c": low},
    )


def _fizz(dice: Dice) -> Task:
    first, second = sorted(dice.picks(range(2, 15), 2))
    word_1, word_2 = dice.picks(("fizz", "buzz", "ping", "pong", "tick", "tock"), 2)
    source = (
        "    result = []\n    for i in range(1, n + 1):\n"
        f"        word = {word_1!r} * (i % {first} == 0) + {word_2!r} * (i % {second} == 0)\n"
        "        result.append(word or str(i))\n    return result"
    )

    def oracle(n: int) -> list[str]:
        words = ((not i % first) * word_1 + (not i % second) * word_2 for i in range(1, n + 1))
        return [word or str(i) for i, word in enumerate(words, start=1)]

    inputs = [(second + 1,), (first,), (0,), (1,), (min(2 * second, 22),), (second,), (14,)]
    return task(
        dice,
        names=("word_game", "count_out", "speak_numbers"),
        args="n",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(first, second),
        fields={"a": first, "b": second, "v": word_1, "w": word_2},
    )


FAMILIES: tuple[Family, ...] = (
    code_family(
        "window",
        2,
        (
            "returns the {m} sum of {k} neighbouring numbers in the list, or {z} if it has fewer "
            "than {k}.",
            "finds the {m} total of {k} consecutive elements. For a list shorter than {k} the "
            "result is {z}.",
        ),
        "slides a window of length {k} over a list and returns the {m} window sum ({z} when there "
        "is no window).",
        "adds up each run of {k} adjacent entries and hands back the {m} total; without any such "
        "run, {z}.",
        "outputs the {m} result obtainable by adding {k} successive list items; lists with under "
        "{k} items give {z}.",
        _window,
    ),
    code_family(
        "chunks",
        2,
        (
            "splits the list into blocks of {k} and returns the {w} of each block. A shorter last "
            "block is {s}.",
            "cuts `nums` into groups of {k} elements, then lists the {w} of every group; an "
            "incomplete group at the end is {s}.",
        ),
        "takes {k} elements at a time and collects the {w} of each group, where a last group with "
        "fewer is {s}.",
        "gives the {w} for each successive block of {k} entries; what is left over as a short "
        "block is {s}.",
        "walks through the list {k} items per stage and outputs one number per stage, the {w} of "
        "its items; an unfinished final stage is {s}.",
        _chunks,
    ),
    code_family(
        "digit_sum",
        2,
        (
            "writes the non-negative integer n in base {b}, adds up its digits and multiplies the "
            "sum by {k}.",
            "returns {k} times the sum of the base-{b} digits of n (n >= 0).",
        ),
        "gives {k} times the digit sum that n >= 0 has when written in base {b}.",
        "repeatedly divides n >= 0 by {b}, totals the remainders and returns {k} times the total.",
        "expands n >= 0 in powers of {b} with coefficients below {b} and outputs {k} times the "
        "coefficients' total.",
        _digits,
    ),
    code_family(
        "words",
        2,
        (
            "takes the words of the text that have more than {k} letters, puts them {o} and joins "
            "them with '{m}'.",
            "splits a text at spaces, keeps words longer than {k} letters and returns them {o}, "
            "separated by '{m}'.",
        ),
        "joins by '{m}' all words with over {k} characters, {o}.",
        "drops every word of {k} letters or fewer and strings the others together with '{m}', {o}.",
        "outputs one string: those whitespace-separated pieces of the text whose length exceeds "
        "{k}, {o}, with '{m}' between them.",
        _words,
    ),
    code_family(
        "caesar",
        2,
        (
            "moves each lower-case letter {k} places forward in the alphabet, from z on to a. "
            "Other characters are {s}.",
            "encodes a text by a shift of {k} for the letters a to z (wrapping around); all other "
            "characters are {s}.",
        ),
        "applies a Caesar shift of {k} to lower-case letters, while anything else is {s}.",
        "advances a to z cyclically by {k}; whatever is no lower-case letter is {s}.",
        "swaps every lower-case letter for the one {k} later in a to z, restarting at a after z; "
        "symbols outside a-z are {s}.",
        _caesar,
    ),
    code_family(
        "groups",
        2,
        (
            "counts the numbers by their remainder modulo {k} and returns a dict from remainder to "
            "count, with counts of at least {c} only.",
            "returns a dict: for each remainder after division by {k}, how many elements have it. "
            "Leave out counts below {c}.",
        ),
        "maps each value of x % {k} to the number of elements x that have it, if that is {c} or "
        "more.",
        "sorts `nums` into classes modulo {k} and gives a dict of class sizes, sizes under {c} "
        "left out.",
        "tallies how the items of `nums` spread over the remainders of a division by {k}; the "
        "resulting dict, remainder to tally, omits tallies smaller than {c}.",
        _groups,
    ),
    code_family(
        "fizz",
        2,
        (
            "returns a list of strings for 1 to n: '{v}' for multiples of {a}, '{w}' for multiples "
            "of {b}, '{v}{w}' for both, else the number.",
            "lists 1 to n as text, with '{v}' in place of multiples of {a}, '{w}' of multiples of "
            "{b} and '{v}{w}' of both.",
        ),
        "plays a counting game up to n: say '{v}' when {a} divides, '{w}' when {b} divides, "
        "'{v}{w}' when both do, else the number as a string.",
        "gives strings for 1..n. Divisible by {a}: '{v}'. Divisible by {b}: '{w}'. By both: "
        "'{v}{w}'. Otherwise the number itself.",
        "outputs n strings, one per integer from 1: the integer's digits, unless {a} or {b} goes "
        "into it; then '{v}' for {a}, '{w}' for {b}, and '{v}{w}' if both go.",
        _fizz,
    ),
)
