"""Searches for the best workflow of a domain, with every execution counted.

Three strategies, over anything that can execute a workflow on validation problems:

- `exhaustive`: every candidate on every problem.
- `successive_halving`: all candidates on few problems, the better part of them on more, and so on
  (Jamieson and Talwalkar, AISTATS 2016, arXiv 1502.07943).
- `aflow_search`: a tree of workflows, grown by edits of good ones (Zhang et al., ICLR 2025, arXiv
  2410.10762). What differs from the paper: the editor (`search_space`), one evaluation per workflow
  instead of five by default, and no workflow is paid for twice, all of which favour the search.

Each yields a `Progress` after every paid batch, so that what was spent stands beside what was known
by then. Selection sees validation problems only; how good the chosen workflow is on others is for
the caller to judge, and its cost is not the search's. A limit counts executions, since the USD of
one are not known before it. Not here: the candidates, the real executor.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.search_space import Candidate, EditSpace
from aflow_grpo.policy.structures import Plan

__all__ = [
    "AflowSettings",
    "Evaluate",
    "HalvingSettings",
    "Outcome",
    "Progress",
    "aflow_search",
    "exhaustive",
    "halving_schedule",
    "mixed_shares",
    "successive_halving",
    "take_turns",
]

Key = TypeVar("Key")
_REWARD_TO_PERCENT = (10.0, 5.0)
"""Added, then multiplied: a reward in [-10, 10] on the scale of AFlow's scores, 0 to 100."""


@dataclass(frozen=True)
class Outcome:
    """One workflow executed on one problem."""

    reward: float
    """In [-10, 10]."""
    correct: bool
    cost_usd: float
    """List cost of the execution, also of one that failed."""


Evaluate = Callable[[str, Sequence[str], int], Sequence[Outcome]]
"""(workflow's text, ids of problems, number of the repeat) -> one outcome per problem."""


@dataclass(frozen=True)
class Progress:
    """What a search has paid and knows, after a paid batch."""

    cost_usd: float
    executions: int
    candidates: int
    """Workflows that were tried, failed ones included."""
    improved: int
    """Of them, edits that were better than their parent; 0 where nothing is edited."""
    incumbent: Candidate
    """What the search would answer if it ended here."""
    validation_reward: float
    """Of the incumbent: mean over the validation problems that it was tried on."""


@dataclass
class _Ledger:
    """Everything that was paid, and the limit."""

    evaluate: Evaluate
    limit: int | None
    cost_usd: float = 0.0
    executions: int = 0
    candidates: int = 0
    improved: int = 0

    def affords(self, executions: int) -> bool:
        return self.limit is None or self.executions + executions <= self.limit

    def pay(self, text: str, problems: Sequence[str], repeat: int = 0) -> list[float]:
        """The rewards of one workflow; the batch has to be affordable."""
        outcomes = self.evaluate(text, problems, repeat)
        self.executions += len(outcomes)
        self.cost_usd += math.fsum(outcome.cost_usd for outcome in outcomes)
        return [outcome.reward for outcome in outcomes]

    def progress(self, incumbent: Candidate, reward: float) -> Progress:
        return Progress(
            self.cost_usd, self.executions, self.candidates, self.improved, incumbent, reward
        )


def exhaustive(
    candidates: Sequence[Candidate],
    problems: Sequence[str],
    evaluate: Evaluate,
    *,
    most_executions: int | None = None,
) -> Iterator[Progress]:
    """Every candidate on every problem; the best mean reward wins, the earlier one in a tie."""
    ledger = _Ledger(evaluate, most_executions)
    best, best_reward = None, -math.inf
    for candidate in candidates:
        if not ledger.affords(len(problems)):
            return
        reward = fmean(ledger.pay(candidate.text, problems))
        ledger.candidates += 1
        if reward > best_reward:
            best, best_reward = candidate, reward
        assert best is not None
        yield ledger.progress(best, best_reward)


@dataclass(frozen=True)
class HalvingSettings:
    """`search.halving`: the schedule of successive halving."""

    eta: int = 2
    """Of the candidates, one in so many goes on, to so many times the problems."""
    first_problems: int = 4
    """That all candidates are tried on."""

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise ConfigError(f"search.halving.eta={self.eta}: expected 2 or more.")
        if self.first_problems < 1:
            raise ConfigError(
                f"search.halving.first_problems={self.first_problems}: expected 1 or more."
            )


def halving_schedule(
    candidates: int, problems: int, settings: HalvingSettings
) -> list[tuple[int, int]]:
    """(candidates, problems that each of them has seen by then) of every round.

    It ends when one candidate is left, or all problems have been seen. Worked numbers: 16
    candidates, 32 problems, eta 2 from 4: (16, 4), (8, 8), (4, 16), (2, 32).
    """
    rounds = []
    left, seen = candidates, min(settings.first_problems, problems)
    while left > 1:
        rounds.append((left, seen))
        if seen == problems:
            break
        left, seen = max(1, left // settings.eta), min(seen * settings.eta, problems)
    return rounds or [(left, seen)]


def successive_halving(
    candidates: Sequence[Candidate],
    problems: Sequence[str],
    evaluate: Evaluate,
    rng: random.Random,
    settings: HalvingSettings | None = None,
    *,
    most_executions: int | None = None,
) -> Iterator[Progress]:
    """`halving_schedule` over the problems in a random order; the best of the last round wins.

    Until a round has ended, the best of the round before is the incumbent, because only candidates
    that saw the same problems are compared.
    """
    order = list(problems)
    rng.shuffle(order)
    ledger = _Ledger(evaluate, most_executions)
    ledger.candidates = len(candidates)
    rewards: list[list[float]] = [[] for _ in candidates]
    left = list(range(len(candidates)))
    seen = 0
    rounds = halving_schedule(len(candidates), len(order), settings or HalvingSettings())
    for arms, until in rounds:
        left = left[:arms]
        if not ledger.affords(arms * (until - seen)):
            return
        for arm in left:
            rewards[arm] += ledger.pay(candidates[arm].text, order[seen:until])
        seen = until
        left.sort(key=lambda arm: -fmean(rewards[arm]))  # stable: the earlier one in a tie
        yield ledger.progress(candidates[left[0]], fmean(rewards[left[0]]))


@dataclass(frozen=True)
class AflowSettings:
    """`search.aflow`: the paper's numbers, except where it says otherwise."""

    rounds: int = 20
    """Most workflows, the first one included."""
    repeats: int = 1
    """Evaluations of each workflow; 5 in the paper."""
    top: int = 3
    """The best so many, and the first workflow, can be a parent."""
    uniform_share: float = 0.2
    """Lambda: share of the selection that is blind to the score."""
    sharpness: float = 0.4
    """Alpha: by how much a percent of score counts, in the exponent."""
    patience: int = 5
    """It ends when the mean of the best `top` has stayed the same for so many workflows."""

    def __post_init__(self) -> None:
        for name in ("rounds", "repeats", "top", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search.aflow.{name}={getattr(self, name)}: expected 1 or more.")
        if not 0 <= self.uniform_share <= 1:
            raise ConfigError(
                f"search.aflow.uniform_share={self.uniform_share:g}: expected 0 to 1."
            )
        if self.sharpness < 0:
            raise ConfigError(f"search.aflow.sharpness={self.sharpness:g}: expected 0 or more.")


def mixed_shares(
    scores: Sequence[float], *, uniform_share: float = 0.2, sharpness: float = 0.4
) -> list[float]:
    """AFlow's soft mixed selection: lambda / n + (1 - lambda) softmax(alpha (s - max s)).

    Worked numbers: scores 60 and 55 give 0.8046 and 0.1954.

    Args:
        scores: In percent, at least one.
        uniform_share: Lambda.
        sharpness: Alpha.
    """
    best = max(scores)
    weights = [math.exp(sharpness * (score - best)) for score in scores]
    total = math.fsum(weights)
    return [
        uniform_share / len(scores) + (1 - uniform_share) * weight / total for weight in weights
    ]


@dataclass
class _Node:
    """A workflow of the tree, with its experience."""

    candidate: Candidate
    plan: Plan
    reward: float
    failed: bool
    tried: set[str] = field(default_factory=set)
    """Edits of it, whether they helped or not: none is made twice."""


def aflow_search(
    space: EditSpace,
    problems: Sequence[str],
    evaluate: Evaluate,
    rng: random.Random,
    settings: AflowSettings | None = None,
    *,
    most_executions: int | None = None,
) -> Iterator[Progress]:
    """AFlow's search: from one call, one edit of a good workflow at a time.

    A failed edit is paid like any other and becomes no parent; the best mean reward wins, the
    earlier one in a tie.
    """
    keys = settings or AflowSettings()
    ledger = _Ledger(evaluate, most_executions)
    nodes: list[_Node] = []
    rewards: list[float] = []
    texts: set[str] = set()
    start = space.start()
    parent, plan, text, failed = None, start, space.write(start), False
    while ledger.affords(len(problems) * keys.repeats):
        reward = fmean(
            value for r in range(keys.repeats) for value in ledger.pay(text, problems, r)
        )
        ledger.candidates += 1
        rewards.append(reward)
        texts.add(text)
        ledger.improved += parent is not None and reward > parent.reward
        candidate = Candidate(f"round {ledger.candidates}", text)
        nodes.append(_Node(candidate, plan, reward, failed))
        best = max(nodes, key=lambda node: node.reward)
        yield ledger.progress(best.candidate, best.reward)
        if len(rewards) == keys.rounds or _settled(rewards, keys):
            return
        parent = _select([node for node in nodes if not node.failed], rng, keys)
        edit = space.edit(parent.plan, rng, parent.tried | texts)
        if edit is None:
            return
        parent.tried.add(edit.key)
        plan, text, failed = edit.plan, edit.text, edit.failure != ""


def _select(nodes: Sequence[_Node], rng: random.Random, settings: AflowSettings) -> _Node:
    """A parent among the best ones and the first."""
    best = sorted(nodes, key=lambda node: -node.reward)[: settings.top]
    choice = best if nodes[0] in best else [*best, nodes[0]]
    shift, scale = _REWARD_TO_PERCENT
    shares = mixed_shares(
        [(node.reward + shift) * scale for node in choice],
        uniform_share=settings.uniform_share,
        sharpness=settings.sharpness,
    )
    return rng.choices(choice, shares)[0]


def _settled(rewards: Sequence[float], settings: AflowSettings) -> bool:
    """Whether the mean of the best few has not moved for `patience` workflows."""
    if len(rewards) < settings.top + settings.patience:
        return False
    means = [
        fmean(sorted(rewards[:n], reverse=True)[: settings.top])
        for n in range(len(rewards) - settings.patience, len(rewards) + 1)
    ]
    return max(means) == min(means)


def take_turns(
    searches: Mapping[Key, Iterator[Progress]], start: Mapping[Key, Candidate]
) -> Iterator[dict[Key, Progress]]:
    """Several domains' searches, a batch each in turn: where all of them stand after each batch.

    Args:
        searches: By domain.
        start: What a domain's answer is before its search has paid anything.
    """
    standing = {key: Progress(0.0, 0, 0, 0, start[key], -math.inf) for key in searches}
    yield dict(standing)
    running = dict(searches)
    while running:
        for key in list(running):
            progress = next(running[key], None)
            if progress is None:
                del running[key]
                continue
            standing[key] = progress
            yield dict(standing)
