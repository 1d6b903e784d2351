"""How a code problem is put together: specification × frame, reference solution, tests.

The expected values come from a Python function inside the generator (the oracle), the reference
solution is separate source text: two implementations that the tests require to agree. Inputs are
literals, so a test is one `assert` line that any sandbox can run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate.family import Family, Instance, Wordings

__all__ = ["Arguments", "DrawTask", "Task", "code_family", "ordinal", "task"]

Arguments = tuple[Any, ...]
"""The literal arguments of one test call."""
Task = Instance
DrawTask = Callable[[Dice], Task]

_PUBLIC = 2
_SEEN = (
    "Write a [Python function|function] `{f}({args})` that {spec}",
    "Implement `{f}({args})`, which {spec}",
    "Define a function `{f}({args})` that {spec}",
    "[Write|Create] Python code for `{f}({args})`. It {spec}",
)
_HELD = (
    "I need a helper `{f}({args})` that {spec}",
    "Please provide `{f}({args})`: it {spec}",
)
_TEST = (
    "Complete `def {f}({args}):` so that it {spec}",
    "Your task is the routine `{f}({args})`. A call {spec}",
)
_SEALED = (
    "Code wanted: `{f}({args})`. When called, it {spec}",
    "The module must export `{f}({args})`; on each call it {spec}",
)


def code_family(
    name: str,
    difficulty: int,
    seen: tuple[str, ...],
    held: str,
    test: str,
    sealed: str,
    draw: DrawTask,
) -> Family:
    """A code family whose wordings are all pairs of a frame and a specification of its kind.

    Args:
        name: The family's name.
        difficulty: 1 to 3.
        seen: Specifications, each going on after "a function that", each ending the sentence.
        held: The specification kept for val and test.
        test: The specification kept for the test split.
        sealed: The specification that no split has.
        draw: Draws the task.
    """
    wordings = Wordings(
        _pairs(_SEEN, seen),
        _pairs(_HELD, (held,)),
        _pairs(_TEST, (test,)),
        _pairs(_SEALED, (sealed,)),
    )
    return Family(name, "code", difficulty, wordings, draw)


def task(
    dice: Dice,
    *,
    names: Sequence[str],
    args: str,
    source: str,
    oracle: Callable[..., object],
    inputs: Sequence[Arguments],
    key: tuple[object, ...],
    fields: dict[str, object],
) -> Task:
    """One code problem.

    Args:
        dice: Picks the function's name.
        names: Candidate function names.
        args: The parameter list, e.g. ``nums, k``.
        source: The reference's body, without the `def` line, indented by four spaces.
        oracle: Computes the expected value of each call.
        inputs: Argument tuples, telling ones first: the first two become public tests (one where
            there are fewer than six), the others hidden ones. Repeats are dropped.
        key: What makes the task differ from the family's others.
        fields: Values for the specification's placeholders.
    """
    entry_point = dice.pick(names)
    calls: dict[str, None] = {}
    for arguments in inputs:
        call = ", ".join(repr(argument) for argument in arguments)
        calls[f"assert {entry_point}({call}) == {oracle(*arguments)!r}"] = None
    tests = tuple(calls)
    public = _PUBLIC if len(tests) >= 6 else 1
    return Task(
        key=key,
        answer=f"def {entry_point}({args}):\n{source.rstrip()}\n",
        fields={"f": entry_point, "args": args, **fields},
        entry_point=entry_point,
        public_tests=tests[:public],
        hidden_tests=tests[public:],
    )


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th ... for numbers up to 20."""
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _pairs(frames: tuple[str, ...], specs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(frame.replace("{spec}", spec) for frame in frames for spec in specs)
