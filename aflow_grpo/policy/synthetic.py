"""Synthetic supervised pairs: a problem's prompt and a workflow as an untrained policy writes it.

They are what the tiny policy's warm start learns. Every draw comes from one seeded generator, so
the same seed gives the same pairs. The workflow is drawn without a look at the problem beyond its
domain: which workflow suits which problem is for reinforcement learning to find out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from aflow_grpo.policy.flaws import FLAW_RATES, Flaw, write_code
from aflow_grpo.policy.name_flaws import with_name_flaws
from aflow_grpo.policy.recipe import FlawFamily
from aflow_grpo.policy.structures import draft_workflow
from aflow_grpo.records import Domain, VisibleProblem
from aflow_grpo.workflow.policy_prompt import compact_prompt

__all__ = ["SyntheticPair", "SyntheticWorkflow", "synthetic_pairs", "synthetic_workflow"]

_FOREIGN_CHARS = (60, 900)
"""Shortest and longest foreign text in characters, log-uniform between them."""


@dataclass(frozen=True)
class SyntheticWorkflow:
    """A random workflow in the hybrid JSON form."""

    text: str
    domain: Domain
    flaws: frozenset[Flaw]
    """What is wrong with it; empty when it is valid for its domain."""


@dataclass(frozen=True)
class SyntheticPair:
    """One example for supervised training."""

    prompt: str
    completion: str


def synthetic_workflow(
    domain: Domain, rng: random.Random, *, flaws: FlawFamily | None = "habits"
) -> SyntheticWorkflow:
    """A random workflow for `domain`.

    Args:
        domain: Decides the operators to choose from.
        rng: All choices come from it.
        flaws: The family of flaws that is put in at its rates; without one it is always valid.
    """
    draft = draft_workflow(domain, rng)
    drawn: frozenset[Flaw] = frozenset()
    if flaws == "undefined_names":
        draft, drawn = with_name_flaws(draft, domain, rng)
    written = write_code(draft, domain, rng, FLAW_RATES[domain] if flaws == "habits" else None)
    text = json.dumps({"prompts": dict(draft.prompts), "graph_code": written.code})
    return SyntheticWorkflow(text, domain, written.flaws | drawn)


def synthetic_pairs(
    problems: Sequence[VisibleProblem],
    count: int,
    seed: int,
    *,
    foreign_share: float = 0.0,
    flaws: FlawFamily = "habits",
) -> Iterator[SyntheticPair]:
    """`count` pairs: problems drawn at random, each time with a fresh workflow.

    Args:
        problems: At least one; drawn with replacement.
        count: Number of pairs.
        seed: Same seed, same pairs.
        foreign_share: Share of pairs whose problem gets a text unlike all the others: of any
            length up to that of real problems, in words that do not exist. Without them, a policy
            trained on short problems in few words falls apart on the first long one.
        flaws: What most of the workflows fail by.
    """
    rng = random.Random(seed)
    for _ in range(count):
        problem = problems[rng.randrange(len(problems))]
        if rng.random() < foreign_share:
            problem = _foreign(problem, problems, rng)
        workflow = synthetic_workflow(problem.domain, rng, flaws=flaws)
        yield SyntheticPair(compact_prompt(problem), workflow.text)


def _foreign(
    problem: VisibleProblem, problems: Sequence[VisibleProblem], rng: random.Random
) -> VisibleProblem:
    """A problem of the same domain: other problems' words, their letters shuffled."""
    shortest, longest = _FOREIGN_CHARS
    length = round(shortest * (longest / shortest) ** rng.random())
    words: list[str] = []
    while sum(map(len, words)) < length:
        words += problems[rng.randrange(len(problems))].text.split()
    text = " ".join("".join(rng.sample(word, len(word))) for word in words)
    return replace(problem, question=text[:length], context="")
