"""What a family of sample problems is: one way to draw facts, many ways to word them.

A family draws an `Instance` (numbers, names, gold answer by construction) and its `Wordings` turn
it into text. Some wordings are kept from training, so that an evaluation can tell a policy that
understands from one that has learnt phrases by heart. Which families there are is said in the
`math_*`, `code_*` and `qa_*` modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aflow_grpo.data.dice import Dice
from aflow_grpo.records import Domain

__all__ = ["Draw", "Family", "Instance", "WordingKind", "Wordings", "sentence"]

WordingKind = Literal["seen", "held", "test", "sealed"]
"""seen: in every split; held: in val and test, never in train; test: in the test split only;
sealed: in no split, so that nothing was ever chosen by problems in these words."""

_CHOICE = re.compile(r"\[([^\[\]|]*(?:\|[^\[\]|]*)+)\]")


@dataclass(frozen=True)
class Instance:
    """One drawn problem before it is worded."""

    key: tuple[object, ...]
    """What makes it differ from the family's other problems, whatever the wording and names."""
    answer: str
    fields: Mapping[str, object] = field(default_factory=dict)
    """Values for the `{placeholders}` of the wordings."""
    alternatives: tuple[str, ...] = ()
    context: str = ""
    entry_point: str = ""
    public_tests: tuple[str, ...] = ()
    hidden_tests: tuple[str, ...] = ()


Draw = Callable[[Dice], Instance]
"""Draws one problem of a family."""


@dataclass(frozen=True)
class Wordings:
    """The texts of a family, by who may see them; `[a|b]` in a text is a free choice."""

    seen: tuple[str, ...]
    held: tuple[str, ...]
    test: tuple[str, ...]
    sealed: tuple[str, ...]

    def of(self, kind: WordingKind) -> tuple[str, ...]:
        """The texts of one kind."""
        texts = {"seen": self.seen, "held": self.held, "test": self.test, "sealed": self.sealed}
        return texts[kind]


@dataclass(frozen=True)
class Family:
    """A family of sample problems; `draw` is pure but for the dice."""

    name: str
    """Letters, digits and underscores: it becomes part of the problem's id."""
    domain: Domain
    difficulty: int
    """1 easy, 2 middle, 3 hard."""
    wordings: Wordings
    draw: Draw


def sentence(dice: Dice, wording: str, fields: Mapping[str, object]) -> str:
    """The wording with its choices made and its placeholders filled."""
    chosen = _CHOICE.sub(lambda match: dice.pick(match.group(1).split("|")), wording)
    return chosen.format_map(fields)
