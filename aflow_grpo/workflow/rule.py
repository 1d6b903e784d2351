"""The record of one validation rule; the tables of rules are beside it, `rules` joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aflow_grpo.records import Domain, FaultKind

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """One thing that validation looks for."""

    id: str
    """Stable, kebab-case."""
    kind: FaultKind
    """The kind under which the reward counts it."""
    what: str
    """What it finds, as a phrase."""
    why: str
    """What would happen otherwise, in one sentence."""
    hint: str
    """What to do, in one sentence; a finding may say it more precisely."""
    example: str
    """Lines of a `__call__` that break the rule, or a whole module when they hold a class."""
    severity: Literal["reject", "warn"] = "reject"
    """`reject` makes a workflow invalid."""
    domain: Domain = "math"
    """The domain in which the example breaks the rule."""
