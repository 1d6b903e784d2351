"""Tests that must run to know what they ask: loops, helpers, comprehensions."""

from __future__ import annotations

import pytest
from sandbox_steps import Steps

from aflow_grpo.sandbox.judge import Verdict, judge

_LOOP = """
from random import randint
for _ in range(30):
    x, y = randint(0, 1000), randint(0, 1000)
    assert candidate(x, y) == x + y
"""
_HELPER = """
import copy, math, random
rng = random.Random(42)
for _ in range(20):
    line = [rng.randint(1, 9), rng.randint(1, 9)]
    root = candidate(copy.deepcopy(line))
    assert math.fabs(value(line, root)) < 1e-6
"""
_VALUE = "def value(line, x):\n    return line[0] + line[1] * x"
_ROOT = "def f(line):\n    return -line[0] / line[1]"


def _judge(steps: Steps, candidate: str, *tests: str, setup: str = "") -> Verdict:
    verdict = steps.wait(judge(steps.sandbox, candidate, "f", tests, setup=setup, timeout_s=2))
    assert isinstance(verdict, Verdict)
    return verdict


@pytest.mark.parametrize(
    ("candidate", "test", "setup"),
    [
        ("def f(a, b): return a + b", _LOOP, ""),
        (_ROOT, _HELPER, _VALUE),
        (f"{_VALUE}\n{_ROOT}", _HELPER, _VALUE),
        ("f = lambda x: x", "x = f(1)\nassert x == 1", ""),
        ("f = lambda x: x", "str = 'ab'\nassert f(str) == str", ""),
        ("f = lambda x: x", r"y = '\d'" "\nassert f(y) == y", ""),
        ("f = lambda x: x", "assert all(f(i) == i for i in range(25))", ""),
        ("f = lambda x: x", "assert [f(j) for i in [1] for j in [i]] == [1]", ""),
        ("f = lambda x: x", "assert (lambda y: f(y))(1) == 1", ""),
        ("f = lambda x: x", "assert list(map(f, [1])) == [1]", ""),
        ("f = lambda x: x + 1", "x = 0\nwhile f(x) < 9: x += 1\nassert x == 8", ""),
        ("f = lambda x, *, y: {x: (y,)}", "a = f('ä', y=None)\nassert a == {'ä': (None,)}", ""),
        ("f = lambda x: x[0]", "x = [2, 1]\ny = f(x)\nx.sort()\nassert (y, f(x)) == (2, 1)", ""),
        ("f = lambda x: [x]", "a = f(1)\na.append(2)\nassert f(1) == [1] and a == [1, 2]", ""),
        ("f = lambda x: 1 / x", "try:\n    f(0)\n    ok = False\nexcept Exception:\n    ok = True\n"
         "assert ok and f(1) == 1", ""),
        ("f = lambda x: x", "for i in range(1200):\n    assert f(i) == i", ""),
    ],
)  # fmt: skip
def test_right_candidates_pass(jail: Steps, candidate: str, test: str, setup: str) -> None:
    verdict = _judge(jail, candidate, test, setup=setup)
    assert verdict.all_passed, verdict


@pytest.mark.parametrize(
    ("candidate", "test", "message"),
    [
        ("def f(a, b): return a + b if a < 900 else 0", _LOOP, "assert candidate(x, y) == x + y"),
        ("f = lambda x: None", "for i in [1, 2]:\n    assert f(i) == i", "assert f(i) == i"),
        ("f = lambda x: 1 / x", "x = f(0)\nassert x == 1", "f failed: "),
        ("f = lambda x: 1 / x", "for i in (1, 0):\n    assert f(i)", "ZeroDivisionError: division"),
        ("f = lambda x: open", "x = f(0)\nassert x", "unsupported type"),
        ("g = 1", "x = f(0)\nassert x", "NameError: name 'f' is not defined"),
        ("f = lambda x: x", "assert callable(f)", "the test never calls f"),
        ("f = lambda x: x", "f(1)\nif 0:\n    assert f(1)", "the test asserts nothing"),
        ("f = lambda x: x", "assert f(1)\nundefined", "NameError"),
        ("f = lambda x: 0", "x = 1\nwhile f(x) == 0: x += 1\nassert x", "500|rounds|finish"),
        ("def f(x):\n    while 1: pass", "x = f(1)\nassert x", "did not finish within 2 s"),
        ("f = lambda x: x", "while True: pass\nassert f(1)", "the test could not be run: did not"),
    ],
)
def test_failures_say_why(jail: Steps, candidate: str, test: str, message: str) -> None:
    verdict = _judge(jail, candidate, test, "assert 1")
    assert verdict.passed[0] is False
    assert any(part in verdict.messages[0] for part in message.split("|")), verdict
    assert verdict.messages[0].startswith(test.strip())


def test_plain_tests_beside_it_keep_their_verdicts(jail: Steps) -> None:
    tests = ("assert f(1) == 1", "for i in [1, 2]:\n    assert f(i) == i", "assert f(2) == 3")
    assert _judge(jail, "f = lambda x: x", *tests).passed == (True, True, False)


def test_an_entry_point_may_have_a_builtin_s_name(jail: Steps) -> None:
    for name in ("len", "repr", "sum", "type"):
        test = f"for i in (1, 2):\n    assert {name}(i) == -i"
        judged = judge(jail.sandbox, f"def {name}(x): return -x", name, [test])
        assert jail.wait(judged).all_passed, name


@pytest.mark.parametrize("passes", [True, False])
def test_fallback_replays_too(monty: Steps, passes: bool) -> None:
    code = "def f(a, b):\n    return a + b" + ("" if passes else " + 1")
    verdict = _judge(monty, code, _LOOP)
    assert verdict.passed == (passes,), verdict
