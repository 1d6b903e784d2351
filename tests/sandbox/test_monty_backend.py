"""The fallback back-end gives the same kinds of result, for less of Python."""

from __future__ import annotations

import pytest
from sandbox_steps import Steps


def test_mode_says_so(monty: Steps) -> None:
    assert monty.sandbox.mode == "monty"


def test_values_come_back_one_by_one(monty: Steps) -> None:
    source = "def f(x):\n    print('hi', x)\n    return {x: (1, {2}), 'big': 2**100}\n"
    result = monty.run(source, "f(1)", "1/0", "f(", "f(2)['big']")
    assert result.status == "ok"
    assert [value.ok for value in result.values] == [True, False, False, True]
    assert result.values[0].value == {1: (1, {2}), "big": 2**100}
    assert result.values[1].error.endswith("ZeroDivisionError: division by zero")
    assert "SyntaxError" in result.values[2].error
    assert result.stdout == "hi 1\nhi 2\n"


def test_inputs_are_bound_even_for_an_empty_source(monty: Steps) -> None:
    assert monty.run("", "x", inputs={"x": [1, (2,)]}).values[0].value == [1, (2,)]
    assert monty.run("", "x", inputs={"x": object()}).status == "error"


def test_main_block_does_not_run(monty: Steps) -> None:
    result = monty.run("x = 1\nif __name__ == '__main__':\n    x = 2\n", "x")
    assert result.values[0].value == 1


@pytest.mark.parametrize("expression", ["f", "range(3)", "iter([1])", "object", "P()"])
def test_what_cannot_cross_is_an_error_not_its_text(monty: Steps, expression: str) -> None:
    value = monty.run("def f(): pass\nclass P:\n    pass\n", expression).values[0]
    assert (value.ok, value.value) == (False, None)
    assert "unsupported type" in value.error


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("def f(:", "error", "SyntaxError"),
        ("raise ValueError('no')", "error", "ValueError: no"),
        ("raise TimeoutError('mine')", "error", "TimeoutError: mine"),
        ("input()", "error", "NameError"),
        ("import os\nos.system('true')", "error", "Error"),
        ("open('/etc/passwd').read()", "error", "Error"),
        ("def f(): return f()\nf()", "error", "RecursionError"),
        ("x = [0] * 10**9", "memory", "MemoryError"),
        ("while True: print('x' * 1000)", "error", "printed too much"),
        (
            "try:\n    while True: print('x' * 1000)\nexcept BaseException: pass\nprint('again')",
            "error",
            "printed too much",
        ),
        ("while True: pass", "timeout", "did not finish within 0.5 s"),
        ("import time\ntime.sleep(1000)", "timeout", "did not finish within 0.5 s"),
        ("x = 3 ** 10000000\nx = x * x * x", "timeout", "did not finish within 0.5 s"),
    ],
)
def test_misbehaving_source_is_data(monty: Steps, source: str, status: str, message: str) -> None:
    result = monty.run(source, "1", timeout_s=0.5)
    assert (result.status, message in result.error) == (status, True), result
    assert not result.values[0].ok


def test_expressions_before_a_fatal_one_keep_their_values(monty: Steps) -> None:
    source = "def f():\n    while True:\n        pass\n"
    result = monty.run(source, "5", "f()", "6", timeout_s=0.4)
    assert result.status == "ok"
    assert result.values[0].value == 5
    assert result.values[1].error == "did not finish within 0.4 s"
    assert result.values[2].error.startswith("not evaluated: ")
