"""Where a search over workflows looks: the library, and single edits in the policy's own space.

AFlow (arXiv 2410.10762) lets an LLM write each edit. Here a seeded random editor takes its place:
it changes one choice of a workflow that the policy's warm start could have drawn, so that search
and training have the same operators in the same forms. What the LLM would cost is in no figure of a
search (`EXPANDER_NOTE` says what is known of it), and this editor costs nothing. Its edits are
blind where an LLM's are guided; the share of them that improved their parent is recorded beside
the 22 of 100 of Claude's that did (AFlow's published runs), so that a reader sees how much that
matters. Not here: which parent is edited, and what is kept (`search`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aflow_grpo.policy.flaws import write_code
from aflow_grpo.policy.structures import MOST_STEPS, Choice, Draft, Plan, draft_of, table_sizes
from aflow_grpo.records import Domain
from aflow_grpo.workflow.library import library

__all__ = [
    "CRASH_SHARE",
    "DISASTER_SHARE",
    "EXPANDER_NOTE",
    "LITERATURE_IMPROVED_SHARE",
    "Candidate",
    "Edit",
    "EditSpace",
    "library_candidates",
]

CRASH_SHARE = 4 / 127
"""Share of the edits of AFlow's published runs whose workflow raised on every problem."""
DISASTER_SHARE = 6 / 127
"""Share of them that ran and returned every answer in a form that scores nothing."""
LITERATURE_IMPROVED_SHARE = 0.22
"""Share of the single edits in AFlow's published runs that improved their parent."""
EXPANDER_NOTE = (
    "The editor's own tokens are in no figure. AFlow's whole optimisation on MATH, editor and "
    "executions, is reported by MaAS as 33.8 M prompt and 29.1 M completion tokens, 22.50 USD."
)
_SEEDS = 1 << 16
"""Ways of writing one choice; far more than there are."""
_TRIES = 200
"""Draws before the space around a parent counts as used up."""


@dataclass(frozen=True)
class Candidate:
    """A workflow that can be tried."""

    name: str
    text: str
    """As a policy would write it."""


@dataclass(frozen=True)
class Edit:
    """One changed choice, or a mistake made while changing it."""

    key: str
    """The same for the same change of the same parent."""
    plan: Plan
    text: str
    failure: str = ""
    """`crash` or `disaster`; empty for an edit that went well."""


def library_candidates(domain: Domain) -> list[Candidate]:
    """The fixed workflows of a domain, the cheapest first."""
    return [
        Candidate(name, json.dumps({"prompts": dict(s.prompts), "graph_code": s.graph_code}))
        for name, s in library(domain).items()
    ]


@dataclass(frozen=True)
class EditSpace:
    """The policy's workflows of one domain, one edit apart."""

    domain: Domain
    crash_share: float = CRASH_SHARE
    disaster_share: float = DISASTER_SHARE

    def start(self) -> Plan:
        """One call of the domain's plainest operator, with which AFlow begins too."""
        return Plan((0, 0))

    def write(self, plan: Plan, failure: str = "") -> str:
        """The workflow's text; a failure of `Edit.failure` is built in at its end."""
        draft = _failed(draft_of(self.domain, plan), failure)
        code = write_code(draft, self.domain, random.Random(plan.instruction), None).code
        return json.dumps({"prompts": dict(draft.prompts), "graph_code": code})

    def edit(self, parent: Plan, rng: random.Random, known: set[str]) -> Edit | None:
        """A random edit of `parent` whose key and text are not among `known`; None: none is left.

        Each kind of change is as likely as the others: source, voting, a step added, dropped or
        exchanged, the wording. A failure comes on top, at its share.
        """
        for _ in range(_TRIES):
            key, plan = rng.choice([rng.choice(kind) for kind in self._kinds(parent, rng) if kind])
            luck = rng.random()
            failed = luck < self.crash_share + self.disaster_share
            failure = ("crash" if luck < self.crash_share else "disaster") if failed else ""
            text = self.write(plan, failure)
            if key not in known and text not in known:
                return Edit(key, plan, text, failure)
        return None

    def _kinds(self, parent: Plan, rng: random.Random) -> Iterator[list[tuple[str, Plan]]]:
        """The possible changes, by kind: what they are called, and what comes of them."""
        sources, steps = table_sizes(self.domain)
        seed = rng.randrange(_SEEDS)
        now = parent.steps

        def with_steps(name: str, *changed: Choice) -> tuple[str, Plan]:
            return name, replace(parent, steps=changed)

        yield [
            (f"source {i}", replace(parent, source=(i, seed)))
            for i in range(sources)
            if i != parent.source[0]
        ]
        yield [("vote" if not parent.vote else "no vote", replace(parent, vote=not parent.vote))]
        yield [
            with_steps(f"add {i} at {at}", *now[:at], (i, seed), *now[at:])
            for i in range(steps)
            for at in range(len(now) + 1)
            if len(now) < MOST_STEPS
        ]
        yield [with_steps(f"drop {at}", *now[:at], *now[at + 1 :]) for at in range(len(now))]
        yield [
            with_steps(f"exchange {at} for {i}", *now[:at], (i, seed), *now[at + 1 :])
            for at in range(len(now))
            for i in range(steps)
            if i != now[at][0]
        ]
        reworded = tuple((i, seed) for i, _ in now)
        source = (parent.source[0], seed)
        yield [(f"reword {seed}", replace(parent, source=source, steps=reworded, instruction=seed))]


def _failed(draft: Draft, failure: str) -> Draft:
    """The draft with a mistake that shows when its operators have been paid."""
    if failure == "crash":
        return draft.then((), f"{{}}[{draft.answer}]")
    if failure == "disaster":
        return draft.then((), f"'The final answer, checked: ' + {draft.answer} + ' (verified)'")
    return draft
