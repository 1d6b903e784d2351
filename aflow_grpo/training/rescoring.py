"""Stored rollouts under other settings: scores, rewards and metrics anew, without any endpoint.

An answer is judged again only where that can change something: the scoring settings or the problem
differ, or it is asked for. Everything else of a rollout stays as it was, so equal settings give
equal numbers, to the bit. Masked rollouts stay masked; what ran on stub operators or was only
checked has no answer to judge. Not here: where rollouts come from, and what is shown
(`commands.rescore`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from aflow_grpo.operators.registry import load_operators
from aflow_grpo.records import DOMAINS, Problem, Rollout, Score, Status
from aflow_grpo.rewards import RewardSettings, compute_reward, is_rehearsed
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.training.metrics import interval_metrics, rollout_metrics, valid_rate
from aflow_grpo.training.open_run import SandboxSettings
from aflow_grpo.training.storing import QUICK, STRUCTURE

__all__ = ["Comparison", "RescoreSettings", "Rescorer", "part_metrics"]


@dataclass(frozen=True)
class RescoreSettings:
    """What decides the numbers of a rollout that has been executed."""

    reward: RewardSettings = RewardSettings()
    scoring: ScoringSettings = ScoringSettings()
    sandbox: SandboxSettings = SandboxSettings()
    """Where programs are judged."""
    operators: tuple[str, ...] = ()
    """Import paths of operators of one's own, besides the ten."""


class Rescorer:
    """Scores and rewards stored rollouts; a context manager, since judging needs processes.

    Args:
        settings: What the numbers shall be by.
        judge: Whether every answer is judged again.
        problems: Problems that replace the stored ones of the same id; their answers are judged.
    """

    def __init__(
        self,
        settings: RescoreSettings,
        *,
        judge: bool = False,
        problems: Mapping[str, Problem] | None = None,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._problems = problems or {}
        self.operators = load_operators(settings.operators).contract
        self._stack = AsyncExitStack()
        self._scorers: ScorerSet | None = None
        self._slots = asyncio.Semaphore(settings.sandbox.workers)

    async def __aenter__(self) -> Self:
        if self._judge or self._problems:
            limits = self._settings.sandbox
            sandbox = Sandbox(
                workers=limits.workers, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb
            )
            scorers = ScorerSet(sandbox, self._settings.scoring)  # refuses before anything starts
            await self._stack.enter_async_context(sandbox)
            self._scorers = await self._stack.enter_async_context(scorers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def rescore(self, rollouts: Sequence[Rollout], part: str) -> list[Rollout]:
        """The same rollouts with their new scores and rewards, in their order."""
        return list(await asyncio.gather(*(self._one(rollout, part) for rollout in rollouts)))

    async def _one(self, rollout: Rollout, part: str) -> Rollout:
        problem = self._problems.get(rollout.problem.id, rollout.problem)
        again = self._judge or problem != rollout.problem
        score = rollout.score
        if again and part != STRUCTURE and has_answer(rollout):
            score = await self._score(problem, rollout.execution.answer)
        reward = compute_reward(
            problem,
            rollout.completion,
            rollout.execution,
            score,
            self._settings.reward,
            operators=self.operators,
        )
        return replace(rollout, problem=problem, score=score, reward=reward)

    async def _score(self, problem: Problem, answer: str | None) -> Score:
        assert self._scorers is not None
        async with self._slots:
            return await self._scorers.score(problem, answer)


def has_answer(rollout: Rollout) -> bool:
    """Whether there is an answer of the policy's own workflow to judge."""
    return rollout.execution.status is Status.OK and not is_rehearsed(rollout.score)


def part_metrics(rollouts: Sequence[Rollout], part: str, rescorer: Rescorer) -> dict[str, float]:
    """The metrics of one step of one part, by the names under which the run logged them."""
    if part == STRUCTURE:
        return valid_rate(rollouts, "val")
    split, _, kind = part.partition("/")
    name = part if part == QUICK else split
    metrics = rollout_metrics(rollouts, name, greedy=bool(kind), operators=rescorer.operators)
    if split != "train" and part != QUICK:
        metrics |= interval_metrics(rollouts, split, greedy=bool(kind))
    return metrics


@dataclass
class _Tally:
    """Old and new figures of some rollouts."""

    masked: int = 0
    changed: int = 0
    old_rewards: list[float] = field(default_factory=list)
    new_rewards: list[float] = field(default_factory=list)
    old_right: int = 0
    new_right: int = 0


@dataclass
class Comparison:
    """What rescoring changed, by part and domain."""

    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    """(part, domain or ``all``) -> figures; masked rollouts are counted and nothing else."""

    def add(self, part: str, old: Sequence[Rollout], new: Sequence[Rollout]) -> None:
        """Count rollouts of `part`, old and new in the same order."""
        for before, after in zip(old, new, strict=True):
            for domain in ("all", before.problem.domain):
                tally = self.tallies.setdefault((part, domain), _Tally())
                tally.masked += before.masked
                # Not `!=`: a reward that is no number would never equal itself.
                same = repr((before.reward, before.score)) == repr((after.reward, after.score))
                tally.changed += not same
                if before.masked:
                    continue
                tally.old_rewards.append(before.reward.total)
                tally.new_rewards.append(after.reward.total)
                tally.old_right += before.score.correct
                tally.new_right += after.score.correct

    @property
    def rows(self) -> list[tuple[str, str, _Tally]]:
        """Part, domain and figures, parts in order, ``all`` first."""
        order = ("all", *DOMAINS)
        return [
            (part, domain, tally)
            for (part, domain), tally in sorted(
                self.tallies.items(), key=lambda item: (item[0][0], order.index(item[0][1]))
            )
        ]

    @property
    def rollouts(self) -> int:
        """How many rollouts there were."""
        return sum(
            len(t.new_rewards) + t.masked
            for (_, domain), t in self.tallies.items()
            if domain == "all"
        )

    @property
    def changed(self) -> int:
        """How many of them have another score or reward than before."""
        return sum(t.changed for (_, domain), t in self.tallies.items() if domain == "all")
