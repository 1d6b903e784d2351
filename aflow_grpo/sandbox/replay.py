"""Judges a test that is more than one plain `assert`: loops, helpers, calls in comprehensions.

Such a test cannot be cut into calls and one assertion beforehand: what it asks shows as it runs. So
it runs where no line of the candidate is, with a stand-in for the candidate that notes each new
question; the candidate answers them in another job, where no expected value is; then the test runs
again with the answers, until it asks nothing new. The assertions of that last run count.

It does not cover: tests that are not deterministic for fixed seeds, or that look at more of the
candidate than its answers (what it does to its arguments, identity, an iterator that it returns,
the type of what it raises). A candidate with a memory sees its calls spread over processes.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import Any

from aflow_grpo.sandbox.pool import Sandbox

__all__ = ["replay"]

_MAX_ROUNDS = 200
_MAX_QUESTIONS = 500
"""New questions in one round; the rest is asked in the next."""
_MAX_SHOWN = 300
_WAITING_SHARE = 0.25
"""What a second of waiting counts: little, or load decides; not nothing, or sleep is free."""
_STAND_IN = """
import copy as __judged_copy
import random as __judged_random

__judged_asked, __judged_broken = [], []
__judged_counts = {{"calls": 0, "held": 0}}

# No built-in function in here: the entry point may have the name of one.
def {entry_point}(*args, **kwargs):
    key = f"{{(args, kwargs)!r}}"
    __judged_counts["calls"] += 1
    if key in __judged_errors:
        raise RuntimeError(__judged_errors[key])
    if key in __judged_answers:
        return __judged_copy.deepcopy(__judged_answers[key])
    if __judged_asked[{most}:]:
        raise RuntimeError("asked again in the next round")
    __judged_asked.append(__judged_copy.deepcopy([key, args, kwargs]))
    return None

candidate = {entry_point}

def __judged_run():
    __judged_random.seed(0)
    error = ""
    try:
        __judged_test()
    except Exception as stop:
        error = f"the test stopped with {{stop!r}}"
    return [__judged_asked, __judged_counts, __judged_broken[:3], error]
"""


class _Noting(ast.NodeTransformer):
    """Makes each assertion note how it went, so that one which lacks an answer stops nothing."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        shown = _cut(ast.unparse(node))
        noted = ast.parse(
            "try:\n"
            "    if 0: __judged_counts['held'] += 1\n"
            f"    else: __judged_broken.append({shown!r})\n"
            "except Exception as __judged_error:\n"
            f"    __judged_broken.append({shown!r} + f': {{__judged_error!r}}')"
        ).body[0]
        assert isinstance(noted, ast.Try) and isinstance(noted.body[0], ast.If)
        noted.body[0].test = node.test
        return noted


@dataclass
class _Answers:
    """What the candidate has said so far, by the question's key."""

    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.values or key in self.errors

    def source(self) -> str:
        """Code that knows them; the values come as inputs, not as text."""
        pairs = ", ".join(f"{key!r}: __judged_answer_{at}" for at, key in enumerate(self.values))
        return f"__judged_answers = {{{pairs}}}\n__judged_errors = {self.errors!r}\n"

    def inputs(self) -> dict[str, Any]:
        """The values by the names that `source` uses."""
        return {f"__judged_answer_{at}": value for at, value in enumerate(self.values.values())}


async def replay(
    sandbox: Sandbox,
    candidate: str,
    entry_point: str,
    test: str,
    *,
    setup: str,
    own_setup: str,
    timeout_s: float,
) -> str:
    """Why `candidate` fails `test`; empty when it passes.

    Args:
        sandbox: A started sandbox.
        candidate: Untrusted code that should define `entry_point`.
        entry_point: Name of the function under test; the test may also call it `candidate`.
        test: Trusted statements with at least one `assert`; they run as a function's body.
        setup: Trusted code for the candidate's job, after the candidate.
        own_setup: The same for the test's job.
        timeout_s: Processor seconds of each job, and three times as many of all of them.
    """
    program = f"{own_setup}\n{_test_function(test)}\n"
    program += _STAND_IN.format(entry_point=entry_point, most=_MAX_QUESTIONS)
    answers = _Answers()
    most_s, spent_s = 3 * timeout_s, 0.0
    for _ in range(_MAX_ROUNDS):
        ran = await sandbox.evaluate(
            answers.source() + program,
            ["__judged_run()"],
            inputs=answers.inputs(),
            timeout_s=timeout_s,
        )
        if ran.status != "ok" or not ran.values[0].ok:
            return f"the test could not be run: {ran.error or ran.values[0].error}"
        asked, counts, broken, error = ran.values[0].value
        if not asked:
            return _reason(entry_point, counts, [*broken, *filter(None, [error])])
        source = f"{candidate}\n\n{setup}"
        spent_s += await _ask(sandbox, source, entry_point, asked, answers, timeout_s)
        spent_s += ran.cpu_seconds
        if spent_s > most_s:
            return f"the test did not finish within {most_s:g} s of processor time"
    return f"the test asks new questions for more than {_MAX_ROUNDS} rounds"


async def _ask(
    sandbox: Sandbox,
    source: str,
    entry_point: str,
    asked: list[Any],
    answers: _Answers,
    timeout_s: float,
) -> float:
    """Puts the new questions to the candidate: each has an answer or an error afterwards.

    Returns the seconds that this cost: of the processor, or a share of those spent waiting.
    """
    questions = {key: (args, kwargs) for key, args, kwargs in asked if key not in answers}
    inputs: dict[str, Any] = {}
    for at, (args, kwargs) in enumerate(questions.values()):
        inputs |= {f"__judged_args_{at}": args, f"__judged_kwargs_{at}": kwargs}
    calls = [
        f"{entry_point}(*__judged_args_{at}, **__judged_kwargs_{at})"
        for at in range(len(questions))
    ]
    ran = await sandbox.evaluate(source, calls, inputs=inputs, timeout_s=timeout_s)
    for key, value in zip(questions, ran.values, strict=True):
        if value.ok:
            answers.values[key] = value.value
        else:
            why = (value.error or ran.error).strip().rpartition("\n")[2]
            answers.errors[key] = f"{entry_point} failed: {_cut(why)}"
    return max(ran.cpu_seconds, ran.seconds * _WAITING_SHARE)


def _test_function(test: str) -> str:
    """The test as a function of its own, so that its variables hide nobody else's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stray backslashes in published tests
        body = [_Noting().visit(statement) for statement in ast.parse(test).body]
    function = ast.parse("def __judged_test(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = body
    return ast.unparse(ast.fix_missing_locations(function))


def _reason(entry_point: str, counts: dict[str, int], broken: list[str]) -> str:
    if broken:
        return "\n".join(broken)
    if not counts["calls"]:
        return f"the test never calls {entry_point}"
    return "" if counts["held"] else "the test asserts nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
