"""Synthetic supervised pairs: a problem's prompt and a workflow as an untrained policy writes it.

They are what the tiny policy's warm start learns. Every draw comes from one seeded generator, so
the same seed gives the same pairs. The workflow is drawn without a look at the problem beyond its
domain: which workflow suits which problem is for reinforcement learning to find out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aflow_grpo.policy.flaws import FLAW_RATES, Flaw, write_code
from aflow_grpo.policy.structures import draft_workflow
from aflow_grpo.records import Domain, Problem
from aflow_grpo.workflow.policy_prompt import compact_prompt

__all__ = ["SyntheticPair", "SyntheticWorkflow", "synthetic_pairs", "synthetic_workflow"]


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
    domain: Domain, rng: random.Random, *, flawed: bool = True
) -> SyntheticWorkflow:
    """A random workflow for `domain`.

    Args:
        domain: Decides the operators to choose from.
        rng: All choices come from it.
        flawed: Put in flaws at the domain's `FLAW_RATES`; without them it is always valid.
    """
    draft = draft_workflow(domain, rng)
    written = write_code(draft, domain, rng, FLAW_RATES[domain] if flawed else None)
    text = json.dumps({"prompts": dict(draft.prompts), "graph_code": written.code})
    return SyntheticWorkflow(text, domain, written.flaws)


def synthetic_pairs(problems: Sequence[Problem], count: int, seed: int) -> Iterator[SyntheticPair]:
    """`count` pairs: problems drawn at random, each time with a fresh workflow.

    Args:
        problems: At least one; drawn with replacement.
        count: Number of pairs.
        seed: Same seed, same pairs.
    """
    rng = random.Random(seed)
    for _ in range(count):
        problem = problems[rng.randrange(len(problems))]
        workflow = synthetic_workflow(problem.domain, rng)
        yield SyntheticPair(compact_prompt(problem), workflow.text)
