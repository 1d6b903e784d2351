"""Code problems that need dynamic programming or a simulation: coins, stairs, rings, stacks."""

from __future__ import annotations

from functools import cache

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.code_frame import Task, code_family, ordinal, task
from aflow_grpo.data.generate.family import Family

__all__ = ["FAMILIES"]


def _coins(dice: Dice) -> Task:
    coins = tuple(sorted(dice.picks(range(1, 13), 3)))
    ordered = dice.pick((True, False))
    loops = (
        ("for total in range(1, amount + 1):", f"for coin in {coins}:")
        if ordered
        else (f"for coin in {coins}:", "for total in range(coin, amount + 1):")
    )
    source = (
        f"    ways = [1] + [0] * amount\n    {loops[0]}\n        {loops[1]}\n"
        "            if total >= coin:\n                ways[total] += ways[total - coin]\n"
        "    return ways[amount]"
    )

    @cache
    def count(amount: int, usable: int) -> int:
        if amount == 0:
            return 1
        return sum(
            count(amount - coin, len(coins) if ordered else place)
            for place, coin in enumerate(coins[:usable], start=1)
            if coin <= amount
        )

    top = coins[-1]
    inputs = [(top + coins[0],), (top,), (0,), (1,), (coins[0] + coins[1],), (top * 2 + 1,)]
    inputs += [(coins[1] * 2,), (sum(coins),), (30,), (36,)]
    return task(
        dice,
        names=("count_ways", "ways_to_pay", "combinations"),
        args="amount",
        source=source,
        oracle=lambda amount: count(amount, len(coins)),
        inputs=inputs,
        key=(*coins, int(ordered)),
        fields={
            "c": f"{coins[0]}, {coins[1]} and {coins[2]}",
            "o": "counts as different" if ordered else "does not matter",
        },
    )


def _stairs(dice: Dice) -> Task:
    steps = tuple(sorted(dice.picks(range(1, 7), dice.between(2, 3))))
    bad = dice.between(3, 9)
    listed = ", ".join(map(str, steps[:-1])) + f" or {steps[-1]}"
    source = (
        "    ways = [1] + [0] * n\n    for i in range(1, n + 1):\n"
        f"        if i % {bad} != 0:\n"
        f"            ways[i] = sum(ways[i - s] for s in {steps} if s <= i)\n    return ways[n]"
    )

    @cache
    def oracle(n: int) -> int:
        if n <= 0:
            return int(n == 0)
        return 0 if n % bad == 0 else sum(oracle(n - step) for step in steps)

    inputs = [(bad + 2,), (bad - 1,), (bad,), (0,), (1,), (2 * bad + 1,), (steps[-1] + bad,), (14,)]
    inputs += [(bad + 1,), (2 * bad - 1,), (sum(steps),), (19,), (23,)]
    return task(
        dice,
        names=("climb", "stair_ways", "paths_up"),
        args="n",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(bad, *steps),
        fields={"s": listed, "b": bad},
    )


def _josephus(dice: Dice) -> Task:
    step, left = dice.between(2, 12), dice.between(1, 5)
    source = (
        "    ring, at = list(range(1, n + 1)), 0\n"
        f"    while len(ring) > {left}:\n        at = (at + {step - 1}) % len(ring)\n"
        "        ring.pop(at)\n    return ring"
    )

    def oracle(n: int) -> list[int]:
        ring = list(range(1, n + 1))
        while len(ring) > left:
            turn = (step - 1) % len(ring)
            ring = ring[turn + 1 :] + ring[:turn]
        return sorted(ring)

    inputs = [
        (7,),
        (dice.between(8, 12),),
        (left,),
        (left + 1,),
        (0,),
        (dice.between(13, 30),),
        (5,),
    ]
    return task(
        dice,
        names=("survivors", "last_ones", "ring_game"),
        args="n",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(step, left),
        fields={"t": ordinal(step), "c": left},
    )


def _machine(dice: Dice) -> Task:
    start, modulus = dice.between(1, 9), dice.between(11, 99)
    source = (
        f"    stack = [{start}]\n    for token in program.split():\n        if token == 'dup':\n"
        "            stack.append(stack[-1])\n"
        "        elif token in ('+', '*') and len(stack) > 1:\n"
        "            b, a = stack.pop(), stack.pop()\n"
        f"            stack.append((a + b if token == '+' else a * b) % {modulus})\n"
        "        elif token.isdigit():\n            stack.append(int(token))\n    return stack[-1]"
    )

    def oracle(program: str) -> int:
        stack: tuple[int, ...] = (start,)
        for token in program.split():
            if token.isdigit():
                stack += (int(token),)
            elif token == "dup":
                stack += stack[-1:]
            elif len(stack) > 1:
                a, b = stack[-2:]
                stack = (*stack[:-2], (a + b if token == "+" else a * b) % modulus)
        return stack[-1]

    one, two, three = (dice.between(2, 60) for _ in range(3))
    programs = [f"{one} + dup *", f"dup {two} * {three} +", "", "+", f"{one} {two} * dup +"]
    programs += [f"{three}", f"dup dup * * {two} *", f"{one} {two} {three} * + +"]
    return task(
        dice,
        names=("run_program", "stack_machine", "evaluate"),
        args="program",
        source=source,
        oracle=oracle,
        inputs=[(program,) for program in programs],
        key=(start, modulus),
        fields={"s": start, "m": modulus},
    )


FAMILIES: tuple[Family, ...] = (
    code_family(
        "coins",
        3,
        (
            "returns the number of ways to pay an amount with coins of {c}, any number of each. "
            "The order of coins {o}.",
            "counts how an amount >= 0 can be made from unlimited coins of {c}, where the order "
            "{o}.",
        ),
        "tells in how many ways coins worth {c} add up to the amount; a change of order {o}.",
        "computes the count of sums of {c}, repeats allowed, equal to the amount. Order {o}.",
        "outputs how many payments of exactly the amount are possible with coin values {c}, each "
        "available without limit. A different sequence of the coins {o}.",
        _coins,
    ),
    code_family(
        "stairs",
        3,
        (
            "counts the ways to climb n stairs with steps of {s}, never standing on a stair whose "
            "number is a multiple of {b}. There is 1 way for n = 0.",
            "returns in how many ways one can go from 0 to exactly n by jumps of {s} without "
            "landing on a positive multiple of {b} (1 way if n is 0).",
        ),
        "gives the number of jump sequences from 0 to n, jumps being {s}, that avoid all positive "
        "multiples of {b}; one for n = 0.",
        "finds how many ordered sums of {s} make n while no partial sum, n included, is a multiple "
        "of {b}. For n = 0 it is 1.",
        "outputs the count of walks from floor 0 up to floor n >= 0 with moves of {s} floors that "
        "never touch a positive floor number divisible by {b}; standing still is the single walk "
        "for n = 0.",
        _stairs,
    ),
    code_family(
        "josephus",
        3,
        (
            "places people 1 to n in a circle, removes every {t} person, counting on from the last "
            "one removed, until {c} are left, and returns them in rising order.",
            "plays the counting-out game on 1 to n: each {t} goes until at most {c} remain. It "
            "returns the remaining numbers, sorted.",
        ),
        "returns the sorted list of the last {c} (or fewer) of n people in a ring from which every "
        "{t} is taken out in turn, counting from 1.",
        "counts around a circle of 1..n, striking out each {t} still there, and stops at {c} or "
        "fewer; gives those, ascending.",
        "seats persons 1 to n round a table and sends away every {t} one, again and again, the "
        "count resuming behind the empty seat, until {c} or fewer sit there; outputs their "
        "numbers, smallest first.",
        _josephus,
    ),
    code_family(
        "machine",
        3,
        (
            "runs a stack program, tokens split at spaces, on a stack holding {s}: a number is "
            "pushed, 'dup' copies the top, '+' and '*' replace the top two by the result modulo "
            "{m} (ignored if fewer than two). Returns the top.",
            "evaluates tokens on a stack that starts with {s}. Numbers are pushed, 'dup' doubles "
            "the top entry, '+' and '*' combine the top two modulo {m} and do nothing on a single "
            "one. It returns the top.",
        ),
        "interprets 'dup' (copy the top), '+', '*' (merge the top two modulo {m}, skip if there is "
        "one) and numbers (push) over a stack begun with {s}, and returns its top.",
        "ends with the top of a stack that begins as {s} and obeys the program's tokens: numbers "
        "push, 'dup' repeats the top, '+' and '*' fold two entries modulo {m} if there are two.",
        "works through the tokens with a pile that has {s} on it at first: a number goes on top, "
        "'dup' puts a second copy of the topmost there, '+' and '*' swap the two topmost for "
        "their sum or product mod {m}, or do nothing if only one is there. It outputs the topmost "
        "in the end.",
        _machine,
    ),
)
