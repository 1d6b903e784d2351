"""The first iterations teach a policy to write workflows that run, and nothing about which ones.

While most of what a policy writes is invalid, the longer a workflow is, the likelier one of its
parts is wrong. Group-relative advantages then punish long workflows as a class, and before the
policy can write them it has forgotten them, however much they solve. So at first a rollout is
judged against the others with the same operators in the same order, over the last iterations: it
gains where it runs and they did not. Whether its answer was right does not count yet.

Left on for good this would never choose; after `until_iteration` rewards are what they are. What is
logged, stored and reported stays what really happened. Not here: the advantages (`grpo`), the
outcome model that may judge afterwards (`outcome_use`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.structure import structure_of
from aflow_grpo.records import Domain, Rollout
from aflow_grpo.training.outcome_memory import executed_as_written
from aflow_grpo.training.outcome_use import JudgedRewards
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["EvenStart", "EvenStartSettings"]

_KEY = "model.grpo.even_start"
_UNREADABLE = ""


@dataclass(frozen=True)
class EvenStartSettings:
    """Iterations in which only running counts, and every kind of workflow alike."""

    until_iteration: int = 15
    """The first iteration in which rewards are what they are."""
    memory: float = 0.7
    """How much of what was seen of a kind counts on in the next iteration, in [0, 1)."""
    doubt: float = 4.0
    """So many rollouts of its domain's mean are added to what was seen of a kind."""

    def __post_init__(self) -> None:
        if self.until_iteration < 1:
            raise ConfigError(
                f"{_KEY}.until_iteration={self.until_iteration}: expected at least 1; "
                "even_start: null has none."
            )
        if not 0 <= self.memory < 1:
            raise ConfigError(f"{_KEY}.memory={self.memory:g}: expected 0 or more and less than 1.")
        if self.doubt <= 0:
            raise ConfigError(f"{_KEY}.doubt={self.doubt:g}: expected more than 0.")


class EvenStart:
    """Judges the rollouts of the first iterations.

    Args:
        settings: How long; None judges nothing.
        operators: The operators that exist.
    """

    def __init__(
        self, settings: EvenStartSettings | None, operators: OperatorSet = TEN_OPERATORS
    ) -> None:
        self._settings = settings
        self._operators = operators
        self._seen: dict[str, tuple[float, float]] = {}
        """Kind -> (weight, mean of what was earned), over the last iterations."""

    def judged(
        self, rollouts_B: Sequence[Rollout], every: Sequence[Rollout], iteration: int
    ) -> JudgedRewards | None:
        """What enters the advantages of this rank's rollouts; None: their actual rewards.

        Args:
            rollouts_B: This rank's, whole groups.
            every: Those of all ranks.
            iteration: Completed iterations.
        """
        if self._settings is None or iteration >= self._settings.until_iteration:
            return None
        paid, usual = self._paid(every), self._usual(every)
        rewards = [paid(r) - usual[self._kind(r)] if not r.masked else 0.0 for r in rollouts_B]
        groups: dict[int, list[float]] = {}
        for r in rollouts_B:
            if not r.masked:
                groups.setdefault(r.group, []).append(r.reward.total)
        scales = {
            group: max(1.0, stdev(totals)) if len(totals) > 1 else 1.0
            for group, totals in groups.items()
        }
        return JudgedRewards(rewards, scales)

    def remember(self, rollouts: Sequence[Rollout], iteration: int) -> None:
        """Take note of an iteration's rollouts, of all ranks, once it is done.

        Args:
            rollouts: Masked ones included.
            iteration: Completed iterations before it.
        """
        if self._settings is None or iteration >= self._settings.until_iteration:
            self._seen = {}
            return
        self._seen = self._with(rollouts)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty once the start is over."""
        return {kind: list(told) for kind, told in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._seen = {kind: (float(n), float(mean)) for kind, (n, mean) in state.items()}

    def _usual(self, every: Sequence[Rollout]) -> dict[str, float]:
        """Kind -> what it earns at present, drawn towards its domain's mean where little is known.

        What holds no workflow is measured by its domain's mean alone, so that it always loses.
        """
        assert self._settings is not None
        seen, doubt = self._with(every), self._settings.doubt
        totals: dict[str, list[tuple[float, float]]] = {}
        for kind, told in seen.items():
            totals.setdefault(kind.partition(" ")[0], []).append(told)
        means = {d: sum(n * m for n, m in t) / sum(n for n, _ in t) for d, t in totals.items()}
        usual = {}
        for kind, (weight, mean) in seen.items():
            domain, _, written = kind.partition(" ")
            shrunk = (weight * mean + doubt * means[domain]) / (weight + doubt)
            usual[kind] = means[domain] if written == _UNREADABLE else shrunk
        return usual

    def _with(self, rollouts: Sequence[Rollout]) -> dict[str, tuple[float, float]]:
        """What was seen, an iteration older, and these rollouts."""
        assert self._settings is not None
        paid = self._paid(rollouts)
        earned: dict[str, list[float]] = {}
        for r in rollouts:
            if not r.masked:
                earned.setdefault(self._kind(r), []).append(paid(r))
        after = {kind: (n * self._settings.memory, mean) for kind, (n, mean) in self._seen.items()}
        for kind, values in earned.items():
            weight, mean = after.get(kind, (0.0, 0.0))
            total = weight + len(values)
            after[kind] = (total, (weight * mean + sum(values)) / total)
        return after

    def _paid(self, rollouts: Sequence[Rollout]) -> _Paid:
        ran: dict[Domain, list[float]] = {}
        for r in rollouts:
            if executed_as_written(r):
                ran.setdefault(r.problem.domain, []).append(r.reward.total)
        return _Paid({domain: fmean(totals) for domain, totals in ran.items()})

    def _kind(self, rollout: Rollout) -> str:
        """Domain, and the operators in the order of their calls, but for those not offered there.

        A forbidden operator does not make another kind: it is what is to be unlearnt.
        """
        domain = rollout.problem.domain
        offered = {spec.attribute for spec in self._operators.offered(domain)}
        calls = structure_of(rollout.execution.source, self._operators).calls
        return f"{domain} {','.join(name for name in calls if name in offered)}"


class _Paid:
    """What a rollout earns here: the mean of its domain's that ran, if it ran; else its own."""

    def __init__(self, ran: Mapping[Domain, float]) -> None:
        self._ran = ran

    def __call__(self, rollout: Rollout) -> float:
        if executed_as_written(rollout):
            return self._ran[rollout.problem.domain]
        return rollout.reward.total
