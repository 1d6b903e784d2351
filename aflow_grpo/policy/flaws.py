"""The flaws of an untrained policy: how they get into synthetic workflows.

An instruction-tuned 7B model that wrote such workflows without training had 89 % of them fail, by
three habits above all: a wrong `__call__` signature, an operator that the domain forbids or an
argument that the operator does not have, and a forgotten cost. The tiny policy's warm start copies
that: each habit is independent of the operator sequence, and the first two are what the policy
writes *most often*, so greedy decoding fails too and learning has something to show.

`strip.py` repairs them again. `name_flaws` has another family, which the shipped policy never saw.
Not covered: broken JSON and syntax errors, which no data holds; the
policy makes them by itself, if it is trained too briefly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aflow_grpo.policy.structures import Draft
from aflow_grpo.records import Domain

__all__ = ["COST", "FLAW_RATES", "Flaw", "FlawRates", "FlawedCode", "write_code"]

COST = "self.llm.get_usage_summary()['total_cost']"
"""The expression for a workflow's cost, as the policy writes it."""


class Flaw(StrEnum):
    """What can be wrong with a synthetic workflow: the four habits, and two that are no habits."""

    SIGNATURE = "signature"
    """`__call__` takes other arguments than (self, problem[, entry_point])."""
    ARGUMENT = "argument"
    """An operator is called with an argument that it does not have."""
    FORBIDDEN = "forbidden"
    """An operator is called that the domain may not use."""
    COST = "cost"
    """The answer is returned without the cost."""
    UNDEFINED = "undefined"
    """A prompt is used that nothing defines (`name_flaws`)."""
    KEY = "key"
    """An operator's result is read by a key that it does not have (`name_flaws`)."""


@dataclass(frozen=True)
class FlawRates:
    """Share of synthetic workflows with each flaw; the four are drawn independently."""

    signature: float
    argument: float
    forbidden: float
    cost: float

    @property
    def valid(self) -> float:
        """Share of workflows without any flaw."""
        return (1 - self.signature) * (1 - self.argument) * (1 - self.forbidden) * (1 - self.cost)


FLAW_RATES: Mapping[Domain, FlawRates] = {
    "math": FlawRates(signature=0.57, argument=0.16, forbidden=0.50, cost=0.42),
    "code": FlawRates(signature=0.57, argument=0.475, forbidden=0.20, cost=0.42),
    "qa": FlawRates(signature=0.57, argument=0.46, forbidden=0.22, cost=0.42),
}
"""Per domain: `test` is math's own habit; argument or forbidden operator comes to 58 % in each."""

_SIGNATURE = "self, problem, entry_point=None"
_SHORT_SIGNATURE = "self, problem"
_WRONG_SIGNATURES = (
    ("self, problem, code, entry_point, test", 0.85),
    ("self, question, entry_point=None", 0.15),
)
"""One wrong form dominates, or its parts would each be rarer than the right one."""

_WRONG_ARGUMENTS: Mapping[str, tuple[str, str]] = {
    "answer_generate": ("input=", "problem="),
    "custom": ("input=", "prompt="),
    "custom_code_generate": ("problem=", "input="),
    "programmer": ("problem=", "question="),
    "sc_ensemble": ("solutions=", "answers="),
    "md_ensemble": ("solutions=", "answers="),
    "format": ("problem=problem, solution=", "problem=problem, answer="),
    "review": ("problem=problem, solution=", "problem=problem, answer="),
    "revise": ("problem=problem, solution=", "problem=problem, answer="),
    "test": ("problem=problem, solution=", "problem=problem, code="),
}
"""Operator -> (how a call's arguments begin, what the untrained policy writes instead)."""
_FURTHER_SHARE = 0.25
"""Share of the other operators whose arguments are wrong too, in a draft with the flaw."""

_FORBIDDEN_CALLS: Mapping[Domain, tuple[tuple[str, str], ...]] = {
    "math": (
        (
            "t = await self.test(problem=problem, solution={0}, entry_point=entry_point)",
            "t['solution']",
        ),
    ),
    "code": (("f = await self.format(problem=problem, solution={0})", "f['solution']"),),
    "qa": (
        (
            "t = await self.test(problem=problem, solution={0}, entry_point=entry_point)",
            "t['solution']",
        ),
    ),
}
"""Domain -> calls that it forbids, to be added at a draft's end ({0}: its answer so far)."""


@dataclass(frozen=True)
class FlawedCode:
    """A workflow's code with the flaws that were put into it."""

    code: str
    flaws: frozenset[Flaw]


def write_code(
    draft: Draft, domain: Domain, rng: random.Random, rates: FlawRates | None
) -> FlawedCode:
    """Turns a draft into a workflow class, with flaws drawn at `rates` (None: without flaws)."""
    chance = rates or FlawRates(0.0, 0.0, 0.0, 0.0)
    drawn = {
        flaw: rng.random() < rate
        for flaw, rate in (
            (Flaw.SIGNATURE, chance.signature),
            (Flaw.ARGUMENT, chance.argument),
            (Flaw.FORBIDDEN, chance.forbidden),
            (Flaw.COST, chance.cost),
        )
    }
    if drawn[Flaw.FORBIDDEN]:
        call, answer = rng.choice(_FORBIDDEN_CALLS[domain])
        draft = draft.then((call.format(draft.answer),), answer)
    lines = _misname(draft, rng) if drawn[Flaw.ARGUMENT] else draft.lines
    short = all("entry_point" not in line for line in lines) and rng.random() < 0.5
    right = _SHORT_SIGNATURE if short else _SIGNATURE
    signature = _wrong_signature(rng) if drawn[Flaw.SIGNATURE] else right
    returned = draft.answer if drawn[Flaw.COST] else f"{draft.answer}, {COST}"
    body = "".join(f"        {line}\n" for line in (*lines, f"return {returned}"))
    code = f"class Workflow:\n    async def __call__({signature}):\n{body}"
    return FlawedCode(code.rstrip("\n"), frozenset(flaw for flaw, here in drawn.items() if here))


def _wrong_signature(rng: random.Random) -> str:
    forms = [form for form, _ in _WRONG_SIGNATURES]
    return rng.choices(forms, [weight for _, weight in _WRONG_SIGNATURES])[0]


def _misname(draft: Draft, rng: random.Random) -> tuple[str, ...]:
    """Wrong argument names for the first operator always, for each other one sometimes."""
    lines = draft.lines
    for operator, (right, wrong) in _WRONG_ARGUMENTS.items():
        if operator == draft.source or rng.random() < _FURTHER_SHARE:
            call = f"self.{operator}("
            lines = tuple(line.replace(call + right, call + wrong) for line in lines)
    return lines
