"""Another family of flaws: names and keys that nothing defines, which the habits never hold.

In 441 recorded failures of a 7B model's workflows 54 were NameErrors, most of them on a prompt
constant that was never written (`SOLVE_PROMPT`), and 8 were KeyErrors on an operator's result. Both
become the mode here, each alone, so that about a tenth of the workflows is free of them and greedy
decoding fails: can GRPO mend what its recipe was never tried on?

Not covered: variables that are bound in one branch only (22 of the 441), which fail while running
on some problems and pass on others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace

from aflow_grpo.policy.flaws import Flaw
from aflow_grpo.policy.structures import Draft
from aflow_grpo.records import Domain

__all__ = ["NAME_FLAW_RATES", "with_name_flaws"]

NAME_FLAW_RATES: Mapping[Flaw, float] = {Flaw.UNDEFINED: 0.68, Flaw.KEY: 0.67}
"""Share of synthetic workflows with each flaw, in every domain; the two are drawn independently."""

_CONSTANTS: Mapping[Domain, str] = {
    "math": "SOLVE_PROMPT",
    "code": "CODE_PROMPT",
    "qa": "ANSWER_PROMPT",
}
_IMPORTED_SHARE = 0.15
"""Share of undefined prompts that are written as `prompt_custom.NAME`; more would leave no form of
the flaw as common as the right call."""

_CALLS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "answer_generate": (
        re.compile(r"self\.answer_generate\(input=problem\)"),
        "self.answer_generate(input={0} + problem)",
    ),
    "custom": (
        re.compile(r"self\.custom\(input=problem(?:, instruction='[^']*')?\)"),
        "self.custom(input=problem, instruction={0})",
    ),
    "programmer": (
        re.compile(r"self\.programmer\(problem=problem\)"),
        "self.programmer(problem=problem, analysis={0})",
    ),
    "custom_code_generate": (
        re.compile(r"self\.custom_code_generate\(problem=problem, entry_point=entry_point\)"),
        "self.custom_code_generate(problem={0} + problem, entry_point=entry_point)",
    ),
}
"""Operator -> (its call as drafts have it, the same with an undefined prompt {0})."""

_KEYS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "answer_generate": (re.compile(r"(\ba|\))\['answer'\]"), r"\1['response']"),
    "custom": (re.compile(r"(\bc|\))\['response'\]"), r"\1['answer']"),
    "programmer": (re.compile(r"(\bp|\))\['(?:output|code)'\]"), r"\1['result']"),
    "custom_code_generate": (re.compile(r"(\bk|\))\['response'\]"), r"\1['solution']"),
}
"""Operator -> (where its result's key is read, the same with a key that it does not have)."""


def with_name_flaws(
    draft: Draft, domain: Domain, rng: random.Random
) -> tuple[Draft, frozenset[Flaw]]:
    """The draft with flaws drawn at `NAME_FLAW_RATES`, and which they are.

    All calls of the operator that the draft begins with carry them, as a habit would.
    """
    drawn = frozenset(flaw for flaw, rate in NAME_FLAW_RATES.items() if rng.random() < rate)
    edits = []
    if Flaw.UNDEFINED in drawn:
        imported = rng.random() < _IMPORTED_SHARE
        name = f"prompt_custom.{_CONSTANTS[domain]}" if imported else _CONSTANTS[domain]
        call, spoilt = _CALLS[draft.source]
        edits.append((call, spoilt.format(name)))
    if Flaw.KEY in drawn:
        edits.append(_KEYS[draft.source])
    for pattern, written in edits:
        lines = tuple(pattern.sub(written, line) for line in draft.lines)
        draft = replace(draft, lines=lines, answer=pattern.sub(written, draft.answer))
    return draft, drawn
