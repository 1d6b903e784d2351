"""Code problems that scan a structure: runs, intervals, brackets, grids, stretches."""

from __future__ import annotations

import itertools

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.code_easy import numbers
from aflow_grpo.data.generate.code_frame import Task, code_family, task
from aflow_grpo.data.generate.family import Family

__all__ = ["FAMILIES"]

_RUN_ENTRIES = {
    "letter and length": "(c, i - start)",
    "start index and length": "(start, i - start)",
    "letter and start index": "(c, start)",
}
_MERGED = {
    "the sorted list of the results": "merged",
    "the total length of the results": "sum(b - a for a, b in merged)",
    "how many remain": "len(merged)",
}


def _runs(dice: Dice) -> Task:
    k, order = dice.between(2, 7), dice.pick(("from left to right", "from right to left"))
    shape = dice.pick(tuple(_RUN_ENTRIES))
    back = "[::-1]" if order == "from right to left" else ""
    source = (
        "    result, i = [], 0\n    while i < len(text):\n        start, c = i, text[i]\n"
        "        while i < len(text) and text[i] == c:\n            i += 1\n"
        f"        if i - start >= {k}:\n            result.append({_RUN_ENTRIES[shape]})\n"
        f"    return result{back}"
    )

    def oracle(text: str) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        place = 0
        for letter, group in itertools.groupby(text):
            size = len(list(group))
            facts = {"letter": letter, "length": size, "start index": place}
            if size >= k:
                found.append(tuple(facts[part] for part in shape.split(" and ")))
            place += size
        return found if order == "from left to right" else found[::-1]

    def runs(*sizes: int) -> str:
        return "".join(
            c * s for c, s in zip(dice.picks("abcdexyz", len(sizes)), sizes, strict=True)
        )

    inputs = [(runs(k, 1, k + 1),), (runs(k - 1, k, 2, k + 2),), ("",), (runs(k - 1),), (runs(k),)]
    inputs += [(runs(k + 3, k - 1, k),), (runs(1, 1, k + 1) + "q",)]
    return task(
        dice,
        names=("find_runs", "long_runs", "repeats"),
        args="text",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(k, shape, order),
        fields={"k": k, "s": shape, "o": order},
    )


def _intervals(dice: Dice) -> Task:
    gap, what = dice.between(0, 12), dice.pick(tuple(_MERGED))
    source = (
        "    merged = []\n    for a, b in sorted(spans):\n"
        f"        if merged and a - merged[-1][1] <= {gap}:\n"
        "            merged[-1][1] = max(b, merged[-1][1])\n"
        f"        else:\n            merged.append([a, b])\n    return {_MERGED[what]}"
    )

    def oracle(spans: list[list[int]]) -> list[list[int]] | int:
        rest, merged = sorted(spans), []
        while rest:
            low, high = rest.pop(0)
            while rest and rest[0][0] <= high + gap:
                high = max(high, rest.pop(0)[1])
            merged.append([low, high])
        if what == "how many remain":
            return len(merged)
        return sum(high - low for low, high in merged) if "length" in what else merged

    def spans(count: int) -> list[list[int]]:
        starts = numbers(dice, count, 0, 40)
        return [[start, start + dice.between(1, 9)] for start in starts]

    touch = [[0, 3], [3 + gap, 9 + gap], [10 + 2 * gap, 12 + 2 * gap]]
    inputs = [(touch,), (spans(4),), ([],), ([[5, 8], [1, 20], [9 + gap, 10 + gap]],)]
    inputs += [([[2, 4], [5 + gap, 7 + gap]],), (spans(6),), (touch[::-1],)]
    return task(
        dice,
        names=("merge_spans", "join_intervals", "cover"),
        args="spans",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(gap, what),
        fields={"g": gap, "w": what},
    )


def _brackets(dice: Dice) -> Task:
    pairs = dice.pick(("()", "()[]", "()[]{}", "[]{}", "()<>", "[]<>"))
    depth = dice.between(2, 9)
    match = dict(zip(pairs[1::2], pairs[::2], strict=True))
    source = (
        f"    match, stack = {match!r}, []\n    for c in text:\n"
        "        if c in match.values():\n            stack.append(c)\n"
        f"            if len(stack) > {depth}:\n                return False\n"
        "        elif c in match and (not stack or stack.pop() != match[c]):\n"
        "            return False\n    return not stack"
    )

    def oracle(text: str) -> bool:
        text = "".join(c for c in text if c in pairs)
        level = deepest = 0
        for c in text:
            level += 1 if c in pairs[::2] else -1
            deepest = max(deepest, level)
        kinds = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
        while any(kind in text for kind in kinds):
            for kind in kinds:
                text = text.replace(kind, "")
        return not text and deepest <= depth

    one, two = pairs[:2], pairs[-2:]
    inputs = [(one[0] * depth + one[1] * depth,), (one[0] * (depth + 1) + one[1] * (depth + 1),)]
    inputs += [("",), (one[::-1],), ("a" + two[0] + "b" + two[1] + one,), (one[0] + two,)]
    inputs += [(one[0] + two[0] + one[1] + two[1],), (two * (depth + 1),), (two + one[1],)]
    inputs += [("x" + two[0] * more + two[1] * more,) for more in (depth, depth + 1)]
    return task(
        dice,
        names=("well_nested", "check_brackets", "balanced"),
        args="text",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(pairs, depth),
        fields={"p": pairs, "d": depth},
    )


def _matrix(dice: Dice) -> Task:
    k = dice.between(2, 8)
    rest, what = dice.below(k), dice.pick(("sum", "maximum"))
    source = (
        "    picked = [x for i, row in enumerate(grid) for j, x in enumerate(row)\n"
        f"              if (i + 2 * j) % {k} == {rest}]\n"
        + ("    return sum(picked)" if what == "sum" else "    return max(picked, default=0)")
    )

    def oracle(grid: list[list[int]]) -> int:
        cells = {(i, j): x for i, row in enumerate(grid) for j, x in enumerate(row)}
        kept = [x for (i, j), x in sorted(cells.items()) if (i + 2 * j - rest) % k == 0]
        return sum(kept) if what == "sum" else max([*kept], default=0)

    sizes = ((2, 3), (3, 3), (1, 1), (1, k + 2), (k + 1, 1), (4, 3))
    grids = [[numbers(dice, wide, -9, 30) for _ in range(high)] for high, wide in sizes]
    inputs = [(grid,) for grid in grids] + [([],), ([[-4] * 4] * 3,)]
    return task(
        dice,
        names=("pick_cells", "grid_score", "board_value"),
        args="grid",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(k, rest, what),
        fields={"k": k, "r": rest, "w": what},
    )


def _subarray(dice: Dice) -> Task:
    limit, kind = dice.between(1, 24), dice.pick(("absolute difference", "sum"))
    bad = "abs(nums[i] - nums[i - 1])" if "difference" in kind else "nums[i] + nums[i - 1]"
    source = (
        "    best = size = 0\n    for i in range(len(nums)):\n"
        f"        size = 1 if i == 0 or {bad} > {limit} else size + 1\n"
        "        best = max(best, size)\n    return best"
    )

    def oracle(nums: list[int]) -> int:
        def fits(part: list[int]) -> bool:
            pairs = itertools.pairwise(part)
            return all((abs(a - b) if "difference" in kind else a + b) <= limit for a, b in pairs)

        slices = (nums[a:b] for a in range(len(nums)) for b in range(a + 1, len(nums) + 1))
        return max((len(part) for part in slices if fits(part)), default=0)

    edge = [0, limit, 0, limit + 1, 0, limit, 0, limit]
    inputs = [(edge,), (numbers(dice, 8, 0, limit + 3),), ([],), ([5],), ([0, limit + 1],)]
    inputs += [([limit, 0, 0, limit + 1],), (numbers(dice, 9, -limit, limit),)]
    return task(
        dice,
        names=("longest_part", "calm_stretch", "longest_run"),
        args="nums",
        source=source,
        oracle=oracle,
        inputs=inputs,
        key=(limit, kind),
        fields={"k": limit, "w": kind},
    )


FAMILIES: tuple[Family, ...] = (
    code_family(
        "runs",
        3,
        (
            "returns a list of tuples ({s}) for each run of at least {k} equal neighbouring "
            "letters in the text, {o}.",
            "finds all maximal runs of one letter with length {k} or more and returns their {s} as "
            "tuples, {o}.",
        ),
        "lists, as tuples of {s}, the maximal blocks of equal letters that are {k} or longer, {o}.",
        "scans a string for stretches of the same letter, {k} or longer, and gives ({s}) for each, "
        "{o}.",
        "breaks the text into unbroken repetitions of one letter, as long as they go, discards "
        "those with fewer than {k} letters and outputs a list with a tuple ({s}) per remaining "
        "one, {o}.",
        _runs,
    ),
    code_family(
        "intervals",
        3,
        (
            "merges intervals [a, b] that overlap or lie at most {g} apart and returns {w}.",
            "sorts the intervals [a, b], joins neighbours when the gap between them is {g} or "
            "less, and returns {w}.",
        ),
        "unites all intervals [a, b] with gaps of at most {g} and gives {w}.",
        "closes every gap of {g} or less between intervals [a, b], then delivers {w}.",
        "fuses spans [a, b] as long as two of them cross or are no further than {g} from each "
        "other, and outputs {w}.",
        _intervals,
    ),
    code_family(
        "brackets",
        3,
        (
            "returns True if the brackets {p} in the text are balanced and nested at most {d} "
            "deep, else False. Other characters are ignored.",
            "checks that each bracket of {p} is closed in the right order and that no more than "
            "{d} are open at once; other characters do not matter.",
        ),
        "decides whether the text is well nested in {p} with a depth of {d} at most (True or "
        "False), whatever else it holds.",
        "says True only for texts whose brackets, of the kinds {p}, pair up properly and never "
        "stack beyond {d}.",
        "outputs True when every bracket among {p} in the text has its partner in proper order "
        "and at most {d} openers wait at any moment, False otherwise. The remaining symbols are "
        "skipped.",
        _brackets,
    ),
    code_family(
        "matrix",
        3,
        (
            "returns the {w} of the cells of a grid at row i and column j (from 0) where (i + 2 * "
            "j) % {k} == {r}; 0 if there is none.",
            "takes a list of rows and gives the {w} of all entries with (row + 2 * column) % {k} "
            "equal to {r}, counting from 0; without such entries 0.",
        ),
        "selects cells (i, j), from 0, with remainder {r} of i + 2j modulo {k} and returns their "
        "{w}, 0 for none.",
        "looks up the {w} over those grid entries whose row plus twice their column leaves {r} "
        "when divided by {k} (indices from 0; 0 for none).",
        "picks the numbers of the nested list whose zero-based row index plus double the "
        "zero-based column index is congruent to {r} mod {k}, and outputs their {w} (0 if nothing "
        "is picked).",
        _matrix,
    ),
    code_family(
        "subarray",
        3,
        (
            "returns the length of the longest part of the list in which the {w} of any two "
            "neighbours is at most {k}.",
            "finds the longest contiguous run where the {w} of each adjacent pair is no more than "
            "{k}, and returns its length.",
        ),
        "measures the longest slice of `nums` in which every adjacent pair has its {w} at {k} or "
        "less.",
        "gives the greatest number of consecutive elements such that no neighbouring pair exceeds "
        "{k} in {w}.",
        "outputs the size of the biggest block of successive items of `nums` such that the {w} of "
        "two items side by side is never above {k}.",
        _subarray,
    ),
)
