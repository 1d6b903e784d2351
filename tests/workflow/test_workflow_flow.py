"""Paths through a workflow: variables that are not assigned, loops that do not end."""

from __future__ import annotations

import pytest
from workflow_catalogue import call

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.validate import validate


def rules(code: str) -> set[str]:
    return {finding.rule for finding in validate(WorkflowSource(code, {}), "math")}


BEFORE = "answer = ''"
FLOWS: dict[str, tuple[list[str], str | None]] = {
    "assigned before": ([BEFORE, "return answer, 0"], None),
    "parameter": (["problem = problem + '!'", "return problem, 0"], None),
    "never": (["return answer, 0", "answer = 1"], "unbound-variable"),
    "both branches": (["if problem:", "    a = 1", "else:", "    a = 2", "return a, 0"], None),
    "one branch": (["if problem:", "    a = 1", "return a, 0"], "possibly-unbound"),
    "other branch leaves": (
        ["if problem:", "    a = 1", "else:", "    return 1, 0", "return a, 0"],
        None,
    ),
    "loop over range": (["for i in range(3):", "    a = i", "return a, 0"], None),
    "loop over unknown": (["for c in problem:", "    a = c", "return a, 0"], "possibly-unbound"),
    "loop variable": (["for c in problem:", "    pass", "return c, 0"], "possibly-unbound"),
    "carried by the loop": (
        ["for i in range(3):", "    if i:", "        b = a", "    a = i", "return a, 0"],
        "possibly-unbound",
    ),
    "sum that never starts": (
        ["for i in range(3):", "    a += i", "return a, 0"],
        "unbound-variable",
    ),
    "continue first": (
        ["for i in range(3):", "    if not i:", "        continue", "    a = i", "return a, 0"],
        "possibly-unbound",
    ),
    "try with a default": (
        ["try:", "    a = int(problem)", "except ValueError:", "    a = 0", "return a, 0"],
        None,
    ),
    "try that passes": (
        ["try:", "    a = int(problem)", "except ValueError:", "    pass", "return a, 0"],
        "possibly-unbound",
    ),
    "try that raises": (
        ["try:", "    a = int(problem)", "except ValueError:", "    raise", "return a, 0"],
        None,
    ),
    "try with else": (
        ["try:", "    b = 1", "except ValueError:", "    return 1, 0", "else:", "    a = b",
         "return a, 0"],
        None,
    ),
    "finally": (["try:", "    b = 1", "finally:", "    a = 1", "return a + b, 0"], None),
    "while true": (["while True:", "    a = 1", "    if a:", "        break", "return a, 0"], None),
    "while else": (
        ["n = 0", "while n < 2:", "    n += 1", "else:", "    a = n", "return a, 0"],
        None,
    ),
    "match with default": (
        ["match problem:", "    case 'x':", "        a = 1", "    case _:", "        a = 2",
         "return a, 0"],
        None,
    ),
    "match without": (
        ["match problem:", "    case 'x':", "        a = 1", "return a, 0"],
        "possibly-unbound",
    ),
    "captured by match": (["match problem:", "    case a:", "        return a, 0"], None),
    "walrus": (["if (a := problem) and a != 'x':", "    return a, 0", "return a, 1"], None),
    "comprehension's own": (["x = [a for a in problem]", "a = x[0]", "return a, 0"], None),
    "comprehension reads": (
        ["x = [a + c for c in problem]", "a = 1", "return x[0], a"],
        "unbound-variable",
    ),
    "read in a closure": (
        ["def f():", "    return a", "a = 1", "return f(), 0"],
        None,
    ),
    "caught by a handler": (
        ["try:", "    a = a + 1", "except NameError:", "    a = 0", "return a, 0"],
        "possibly-unbound",
    ),
    "with as": (["import io", "with io.StringIO() as a:", "    pass", "return str(a), 0"], None),
    "augmented": (["a += 1", "return a, 0"], "unbound-variable"),
    "annotated only": (["a: int", "if problem:", "    a = 1", "return a, 0"], "possibly-unbound"),
    "import inside": (["import re", "return re.sub('a', 'b', problem), 0"], None),
    "import shadowed": (["x = re.sub('a', '', problem)", "re = x", "return re, 0"],
                        "unbound-variable"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rule"), FLOWS.values(), ids=FLOWS.keys())
def test_unbound_variables(lines: list[str], rule: str | None) -> None:
    assert rules(call(*lines)) == ({rule} if rule else set())


LOOPS: dict[str, tuple[list[str], str | None]] = {
    "true": (["while True:", "    ASK", "return 'x', 0"], "endless-loop"),
    "one": (["while 1:", "    ASK", "return 'x', 0"], "endless-loop"),
    "returns": (
        ["while True:", "    ASK", "    if r:", "        return 'x', 0"],
        "loop-without-bound",
    ),
    "breaks": (["while True:", "    ASK", "    break", "return 'x', 0"], "loop-without-bound"),
    "inner break": (
        ["while True:", "    for _ in 'ab':", "        break", "return 'x', 0"],
        "endless-loop",
    ),
    "false": (["while False:", "    ASK", "return 'x', 0"], None),
    "counted": (["n = 0", "while n < 3:", "    n += 1", "    ASK", "return 'x', 0"], None),
    "not counted": (["n = 0", "while n < 3:", "    ASK", "return 'x', 0"], "endless-loop"),
    "counted elsewhere": (
        ["n = 0", "def up():", "    nonlocal n", "    n += 1", "while n < 3:", "    up()",
         "return 'x', 0"],
        None,
    ),
    "list is filled": (["x = []", "while len(x) < 3:", "    x.append(1)", "return 'x', 0"], None),
    "list is emptied": (["x = [1]", "while x:", "    x.pop()", "return 'x', 0"], None),
    "left by an error": (
        ["try:", "    while True:", "        x = [][0]", "except IndexError:", "    pass",
         "return 'x', 0"],
        None,
    ),
    "33 calls": (["for i in range(99):", "    ASK", "return 'x', 0"], "too-many-calls"),
    "perhaps many": (
        ["for i in range(99):", "    if i > 2:", "        break", "    ASK", "return 'x', 0"],
        None,
    ),
    "many in one branch": (
        ["if problem == '?':", "    for i in range(99):", "        ASK", "return 'x', 0"],
        None,
    ),
    "unknown length": (["for c in problem:", "    ASK", "return 'x', 0"], None),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rule"), LOOPS.values(), ids=LOOPS.keys())
def test_loops(lines: list[str], rule: str | None) -> None:
    asked = [line.replace("ASK", "r = await self.custom(input=problem)") for line in lines]
    assert rules(call(*asked)) - {"path-without-return"} == ({rule} if rule else set())
