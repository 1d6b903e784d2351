"""Verdicts on candidates, honest ones and wrong ones; `test_judge_cheats.py` has the others."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_steps import Steps

from aflow_grpo.sandbox.judge import Verdict, judge

_ADD = "def add(a, b):\n    return a + b\n"


def _judge(steps: Steps, candidate: str, entry_point: str, *tests: str, **options: Any) -> Verdict:
    verdict = steps.wait(judge(steps.sandbox, candidate, entry_point, tests, **options))
    assert isinstance(verdict, Verdict)
    return verdict


def test_each_test_has_its_verdict_and_message(jail: Steps) -> None:
    verdict = _judge(jail, _ADD, "add", "assert add(1, 2) == 3", " assert add(2, 2)==5 ")
    assert verdict.passed == (True, False)
    assert verdict.messages == ("", "assert add(2, 2)==5\nadd(2, 2) returned 4")
    assert verdict.error == ""
    assert not verdict.all_passed


def test_no_tests_is_no_pass(jail: Steps) -> None:
    assert not _judge(jail, _ADD, "add").all_passed
    assert not Verdict((), ()).all_passed
    assert _judge(jail, _ADD, "add", "assert add(1, 1) == 2").all_passed


@pytest.mark.parametrize(
    ("candidate", "test", "setup"),
    [
        ("f = lambda x: x + 1", "assert f(1) == 2", ""),
        ("f = lambda x: x + 1", "assert candidate(1) == 2", ""),
        ("f = lambda x: x > 5", "assert not f(1)", ""),
        ("f = lambda x: x > 5", "assert f(7)", ""),
        ("f = lambda x: x > 5", "assert f(7) is True, 'seven is more'", ""),
        ("f = lambda x: x / 3", "assert abs(f(1) - 0.3333333) < 1e-6", ""),
        ("f = lambda x: x + 1", "assert f(f(1)) == 3", ""),
        ("f = lambda x: x + 1", "assert f(x=f(candidate(1))) == 4", ""),
        ("f = lambda x: [x, x]", "assert set(f(2)) == {2}", ""),
        ("f = lambda x: (i for i in range(x))", "assert list(f(3)) == [0, 1, 2]", ""),
        ("f = lambda x: map(str, x)", "assert sum(len(s) for s in list(f([1, 22]))) == 3", ""),
        (
            "f = lambda x: x ** 0.5",
            "assert math.isclose(f(2), 1.41421356, abs_tol=1e-6)",
            "import math",
        ),
        ("f = lambda x: x", "assert f(math.pi) == math.pi", "import math"),
        ("f = lambda x: x * 2", "assert f(2) == f(1) + f(1)", ""),
        ("f = lambda x: x", "assert 0 < f(1) < f(2) <= 2", ""),
        ("f = lambda x: x.upper()", "assert f('a').startswith('A') and f('b')[0] == 'B'", ""),
        ("f = lambda g, x: g(x)", "assert f(lambda y: y + 1, 1) == 2", ""),
        (
            "f = lambda n: n.v",
            "assert f(Node(3)) == 3",
            "class Node:\n    def __init__(s, v): s.v = v",
        ),
        (
            "class Node:\n    v = 1\ndef f(n): return n.v",
            "assert f(root) == int(math.sqrt(1))",
            "root = Node()\nimport math",
        ),
        ("f = lambda x: x", r"assert f('\d') == '\\d'", r"y = '\d'"),
        ("f = lambda: float('nan')", "assert f() != f()", ""),
        ("f = lambda: None", "assert f() is None", ""),
        ("f = lambda x: (x, {x: {x}})", "assert f('ä') == ('ä', {'ä': {'ä'}})", ""),
        ("f = lambda x: 10 ** x", "assert f(5000) == 10 ** 5000", ""),
        (
            "from fractions import Fraction\nf = lambda: Fraction(1, 3)",
            "assert f() * 3 == 1",
            "",
        ),
        ("from collections import Counter\nf = Counter", "assert f('aab') == {'a': 2, 'b': 1}", ""),
        ("def f(x):\n    return math.floor(x)", "assert f(1.5) == 1", "import math"),
        ("print('top level')\ndef f():\n    print('in f')\n    return 1", "assert f() == 1", ""),
        ("def f(): return 1\nif __name__ == '__main__':\n    f(input())", "assert f() == 1", ""),
    ],
)
def test_right_candidates_pass(jail: Steps, candidate: str, test: str, setup: str) -> None:
    verdict = _judge(jail, candidate, "f", test, setup=setup)
    assert verdict.all_passed, verdict


@pytest.mark.parametrize(
    ("candidate", "test", "message"),
    [
        ("f = lambda x: x", "assert f(1) == 2", "f(1) returned 1"),
        ("f = lambda x: x", "assert not f(1)", "f(1) returned 1"),
        ("f = lambda x: x", "assert candidate(1) == 2", "f(1) returned 1"),
        ("f = lambda x: None", "assert abs(f(1) - 1) < 1", "the comparison failed: "),
        ("f = lambda x: 1 / x", "assert f(0) == 1", "ZeroDivisionError: division by zero"),
        ("f = lambda x: (i for i in [1])", "assert f(0) == 1", "unsupported type 'generator'"),
        ("async def f(x): return x", "assert f(0) == 0", "unsupported type 'coroutine'"),
        ("f = 5", "assert f(0) == 0", "'int' object is not callable"),
        ("f = lambda x: 'a' * 1000", "assert f(0) == ''", "aaa..."),
        ("f = lambda x: 10 ** 5000", "assert f(0) == 1", "f(0) returned a int too big to show"),
        ("f = lambda x: x", "assert f(1) ==", "does not parse"),
        ("f = lambda x: x", "f(1)", "the test holds no assert statement"),
    ],
)
def test_failures_say_why(jail: Steps, candidate: str, test: str, message: str) -> None:
    verdict = _judge(jail, candidate, "f", test, "assert f(1) != 'other'")
    assert verdict.passed[0] is False
    assert message in verdict.messages[0], verdict
    assert verdict.messages[0].startswith(test)


def test_tests_without_a_call_count_only_beside_one_with_a_call(jail: Steps) -> None:
    assert _judge(jail, _ADD, "add", "assert True", "assert add(1, 1) == 2").all_passed
    assert _judge(jail, _ADD, "add", "assert False", "assert add(1, 1) == 2").passed == (
        False,
        True,
    )
    alone = _judge(jail, _ADD, "add", "assert True", "assert 1 + 1 == 2")
    assert alone.passed == (False, False)
    assert alone.messages[0] == "assert True\nno test calls add"


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ("", "the code defines nothing named add"),
        ("def ad(a, b): return a + b", "the code defines nothing named add"),
        ("def add(a, b:", "SyntaxError"),
        ("x = int(input())\n" + _ADD, "EOFError"),
        ("import sys\n" + _ADD + "sys.exit(0)", "SystemExit"),
        ("import os\n" + _ADD + "os._exit(0)", "exit code 0"),
        ("raise AssertionError", "AssertionError"),
        ("while True: pass", "did not finish within 0.5 s"),
        ("x = bytearray(3 << 30)", "MemoryError"),
    ],
)
def test_code_that_does_not_load_fails_every_test(
    jail: Steps, candidate: str, message: str
) -> None:
    tests = ("assert add(1, 2) == 3", "assert add(1, 3) == 4")
    verdict = _judge(jail, candidate, "add", *tests, timeout_s=0.5)
    assert verdict.passed == (False, False)
    assert message in verdict.error
    assert verdict.messages == (verdict.error, verdict.error)


def test_one_endless_call_leaves_the_earlier_verdicts(jail: Steps) -> None:
    candidate = "def f(x):\n    while x: pass\n    return x"
    verdict = _judge(jail, candidate, "f", "assert f(0) == 0", "assert f(1) == 1", timeout_s=0.5)
    assert verdict.passed == (True, False)
    assert "f(1) failed: did not finish within 0.5 s of processor time" in verdict.messages[1]


def test_a_value_made_to_stall_the_comparison_only_fails(jail: Steps) -> None:
    """The value is honest, the comparison `3 ** value` is not: it is stopped in the second job."""
    verdict = _judge(jail, "f = lambda: 10 ** 12", "f", "assert 3 ** f() > 1", timeout_s=0.5)
    assert verdict.passed == (False,)
    assert "the comparison failed" in verdict.messages[0]


def test_broken_setup_is_said(jail: Steps) -> None:
    verdict = _judge(jail, _ADD, "add", "assert add(1, 2) == 3", setup="import nothing_like_it")
    assert "nothing_like_it" in verdict.error


@pytest.mark.parametrize("passes", [True, False])
def test_fallback_judges_too(monty: Steps, passes: bool) -> None:
    candidate = "def f(x):\n    return [x, {'a': (1, 2)}]\n"
    expected = "[3, {'a': (1, 2)}]" if passes else "[3, {'a': [1, 2]}]"
    verdict = _judge(monty, candidate, "f", f"assert f(3) == {expected}", "assert candidate(1)[0]")
    assert verdict.passed == (passes, True), verdict
