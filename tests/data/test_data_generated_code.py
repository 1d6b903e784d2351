"""Generated code problems: the reference passes every test, simple mutants of it fail.

Everything runs in one isolated child process per check, the problems' own code only.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

from aflow_grpo.data.generate import generate_problems, generate_sample
from aflow_grpo.data.generate.sample import FAMILIES
from aflow_grpo.records import Problem

CODE = [p for split in generate_sample().values() for p in split if p.domain == "code"]
CODE += [p for p in generate_problems(31, 300, held_out=True) if p.domain == "code"]
RUNNER = """
import signal
def too_long(*_):
    raise TimeoutError
def runs(code, scope):
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        exec(code, scope)
        return True
    except BaseException:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, too_long)
for code, tests in jobs:
    scope = {}
    print(runs(code, scope) * sum(runs(test, scope) for test in tests))
"""


def passed(jobs: list[tuple[str, tuple[str, ...]]], limit_s: float = 0.1) -> list[int]:
    """How many of its tests each program passes, each within `limit_s` seconds."""
    result = subprocess.run(
        [sys.executable, "-I", "-"],
        input=f"jobs = {jobs!r}\nlimit_s = {limit_s}\n{RUNNER}",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    counts = [int(line) for line in result.stdout.split()]
    assert len(counts) == len(jobs)
    return counts


def mutants(code: str) -> Iterator[str]:
    """Each number one larger, each comparison off by its bound: the usual slips."""
    swaps = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
    nodes = list(ast.walk(ast.parse(code)))
    for at, found in enumerate(nodes):
        is_number = isinstance(found, ast.Constant) and type(found.value) is int
        if not is_number and not (isinstance(found, ast.Compare) and type(found.ops[0]) in swaps):
            continue
        mutant = ast.parse(code)
        node = list(ast.walk(mutant))[at]
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            node.value += 1
        elif isinstance(node, ast.Compare):
            node.ops[0] = swaps[type(node.ops[0])]()
        yield ast.unparse(mutant)


def lazy(problem: Problem) -> list[str]:
    """Programs that do nothing of what is asked."""
    head = problem.answer.splitlines()[0]
    argument = head.partition("(")[2].partition(")")[0]
    bodies = (argument, "None", "0", "[]", "''", "False", f"len({argument})")
    return [f"{head}\n    return {body}\n" for body in bodies]


def test_references_pass_all_their_tests() -> None:
    tests = [(*p.public_tests, *p.hidden_tests) for p in CODE]
    counts = passed([(p.answer, group) for p, group in zip(CODE, tests, strict=True)], 10)
    failing = [p.id for p, n, group in zip(CODE, counts, tests, strict=True) if n != len(group)]
    assert failing == []


def test_every_family_is_among_them() -> None:
    families = {problem.id.split("-")[-2] for problem in CODE}
    assert families == {family.name for family in FAMILIES if family.domain == "code"}


def test_lazy_programs_fail_the_hidden_tests() -> None:
    jobs = [(code, p.hidden_tests) for p in CODE for code in lazy(p)]
    for (code, tests), count in zip(jobs, passed(jobs), strict=True):
        assert count < len(tests), code


def test_hidden_tests_catch_nearly_all_slips() -> None:
    chosen = CODE[::7]
    jobs = [(code, p.hidden_tests) for p in chosen for code in mutants(p.answer)]
    survivors = [
        code for (code, tests), n in zip(jobs, passed(jobs), strict=True) if n == len(tests)
    ]
    assert len(jobs) > 200
    # Some mutants compute the same function (a range that starts one later, where 1 is no coin).
    assert len(survivors) <= 0.03 * len(jobs), survivors[:3]


def test_public_tests_let_some_slips_through() -> None:
    """Else the Test operator would see everything that the scorer sees."""
    chosen = CODE[::7]
    jobs = [(code, p.public_tests) for p in chosen for code in mutants(p.answer)]
    survivors = sum(n == len(tests) for (_, tests), n in zip(jobs, passed(jobs), strict=True))
    assert 0.02 * len(jobs) < survivors < 0.5 * len(jobs)


def test_tests_are_literal_asserts_on_the_entry_point() -> None:
    for problem in CODE:
        assert 1 <= len(problem.public_tests) <= 2
        assert len(problem.hidden_tests) >= 3
        assert not set(problem.public_tests) & set(problem.hidden_tests)
        assert f"`{problem.entry_point}(" in problem.question or (
            f"def {problem.entry_point}(" in problem.question
        )
        for test in (*problem.public_tests, *problem.hidden_tests):
            (statement,) = ast.parse(test).body
            assert isinstance(statement, ast.Assert)
            compare = statement.test
            assert isinstance(compare, ast.Compare)
            call = compare.left
            assert isinstance(call, ast.Call)
            assert isinstance(call.func, ast.Name)
            assert call.func.id == problem.entry_point
            for literal in (*call.args, *compare.comparators):
                ast.literal_eval(literal)
