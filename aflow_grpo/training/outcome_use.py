"""What an outcome model, fitted on the run's own rollouts, does for training.

Eight workflows for a problem and one noisy outcome each say little about which of them is better;
all rollouts of the run together say much more. From them the model (`outcomes`) knows what each
workflow is worth, and that is what enters the advantage, instead of how one execution of it came
out. Rollouts that did not run as written keep their own reward. What is logged, stored and reported
stays what really happened.

With `group_std` and `batch_std`, an advantage is divided by the spread of the *actual* rewards: the
model's differences are shrunk where little is known, and dividing by their own spread would undo
that.

Nothing is executed for it. Every rank has all ranks' rollouts and fits the same model. Rows,
variances and texts are part of the checkpoint. Not here: workflows that the model chose as
demonstrations (`demonstrations`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.model import OutcomeModel, Variances, fit
from aflow_grpo.outcomes.structure import Structure, structure_of
from aflow_grpo.records import Rollout
from aflow_grpo.training.outcome_memory import OutcomeMemory, executed_as_written
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["Choice", "JudgedRewards", "OutcomeSettings", "OutcomeUse", "Outlook"]

_KEY = "model.grpo.outcome_model"


@dataclass(frozen=True)
class OutcomeSettings:
    """An outcome model fitted on the run's own executed workflows."""

    denoise: Literal["problem", "text"] | None = "problem"
    """What enters the advantage of a workflow that ran as written: ``problem``: its expected reward
    on this very problem; ``text``: on problems that read like it, which averages out what no text
    shows; null: its actual reward (the model is then for demonstrations alone)."""
    explore: int = 0
    """Executions before the first iteration: every kind of valid workflow that the untrained policy
    wrote, on as many training problems. They are paid for."""
    explore_samples: int = 2048
    """How many workflows it writes to find these kinds; nothing is executed for that."""
    from_iteration: int = 5
    """The iterations before it only collect."""
    min_rows: int = 200
    """With fewer executed workflows the model is not used."""
    remembered_rows: int = 4500
    """So many executed workflows, the newest, are kept and looked at."""
    refit_every: int = 5
    """Every so many iterations the variances are searched anew; in between, each iteration's
    rollouts are taken in under those found last."""

    def __post_init__(self) -> None:
        leasts = {"explore": 0, "explore_samples": 1, "from_iteration": 0}
        leasts |= {"min_rows": 1, "refit_every": 1}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{_KEY}.{name}={getattr(self, name)}: expected at least {least}."
                )
        if self.remembered_rows < self.min_rows:
            raise ConfigError(
                f"{_KEY}.remembered_rows={self.remembered_rows}: expected at least min_rows="
                f"{self.min_rows}, or the model would never be used."
            )


@dataclass(frozen=True)
class JudgedRewards:
    """What enters the advantages of this rank's rollouts."""

    rewards_B: Sequence[float]
    """In points."""
    scales: Mapping[int, float]
    """Group -> what its advantages are divided by, in points, where they are divided at all."""


@dataclass(frozen=True)
class Choice:
    """A workflow that the model expects something of."""

    structure: Structure
    token_ids: tuple[int, ...]
    """Of its most frequent text, the end token included."""
    expected: float
    """Reward in points."""
    runs: int
    """How often it was executed."""


class Outlook:
    """What the model says in one iteration.

    Args:
        model: Fitted on everything up to this iteration's rollouts.
        memory: The rows that it was fitted on.
        expected: (problem id, structure key) -> expected reward, of this iteration.
        operators: The operators that exist.
    """

    def __init__(
        self,
        model: OutcomeModel,
        memory: OutcomeMemory,
        expected: Mapping[tuple[str, str], float],
        operators: OperatorSet,
    ) -> None:
        self.model = model
        self._memory = memory
        self._expected = expected
        self._operators = operators

    def rewards(self, rollouts_B: Sequence[Rollout], every: Sequence[Rollout]) -> JudgedRewards:
        """The rewards of this rank's rollouts, denoised where they ran as written.

        Args:
            rollouts_B: This rank's, whole groups.
            every: Those of all ranks, which say how far rewards spread.
        """
        values_B = [self.expected(r) for r in rollouts_B]
        groups: dict[int, list[float]] = {}
        for r in rollouts_B:
            if not r.masked:
                groups.setdefault(r.group, []).append(r.reward.total)
        least = _spread_of_executed(every)
        scales = {
            group: max(least, float(np.std(totals, ddof=1)) if len(totals) > 1 else 0.0)
            for group, totals in groups.items()
        }
        return JudgedRewards(values_B, scales)

    def expected(self, rollout: Rollout) -> float:
        """A rollout's denoised reward; its own where the model says nothing of it."""
        if not executed_as_written(rollout):
            return rollout.reward.total
        structure = structure_of(rollout.execution.source, self._operators)
        return self._expected.get((rollout.problem.id, structure.key), rollout.reward.total)

    def choices(self, domain: str, text: str, min_runs: int) -> list[Choice]:
        """The workflows that the policy wrote and that ran at least so often, best first.

        Args:
            domain: Of the problem.
            text: Its question.
            min_runs: As often at least.
        """
        candidates = self._memory.candidates(domain, min_runs)
        if not candidates:
            return []
        structures = [candidate.structure for candidate in candidates]
        expected_T = self.model.predict(domain, [text], structures)[0]
        order = np.argsort(-expected_T, kind="stable")
        return [
            Choice(structures[t], candidates[t].token_ids, float(expected_T[t]), candidates[t].runs)
            for t in order.tolist()
        ]


class OutcomeUse:
    """Fits the model as a run goes on.

    Args:
        settings: When; None never does.
        operators: The operators that exist.
    """

    def __init__(
        self, settings: OutcomeSettings | None, operators: OperatorSet = TEN_OPERATORS
    ) -> None:
        self._settings = settings
        self.operators = operators
        """Those that exist; set before anything is loaded or noted."""
        self._memory = OutcomeMemory()
        self._variances: Variances = {}
        self._found: Variances = {}
        self._seconds = 0.0
        self._explored = False

    def explores(self, iteration: int) -> OutcomeSettings | None:
        """The settings, where workflows are to be executed before an iteration."""
        settings = self._settings
        begins = iteration == 0 and not self._explored
        return settings if settings is not None and settings.explore and begins else None

    def explored(self, rollouts: Sequence[Rollout]) -> None:
        """Take note of workflows that were executed before training, of all ranks."""
        if self._settings is not None:
            self._memory.add(rollouts, self._settings.remembered_rows, self.operators)
            self._explored = True

    def look(self, rollouts: Sequence[Rollout], iteration: int) -> Outlook | None:
        """What the model says of an iteration's rollouts; changes nothing that a checkpoint keeps.

        Args:
            rollouts: Of all ranks, masked ones included.
            iteration: Completed iterations.

        Returns:
            None where there is no model yet.
        """
        settings, began = self._settings, time.perf_counter()
        self._found = {}
        if settings is None or iteration < settings.from_iteration:
            return None
        memory = self._memory.copy()
        memory.add(rollouts, settings.remembered_rows, self.operators)
        rows = memory.rows()
        if len(rows) < settings.min_rows:
            return None
        due = (iteration - settings.from_iteration) % settings.refit_every == 0
        model = fit(rows, self._variances, search=due)  # what has no variances yet is searched
        self._found = model.variances
        expected_N = model.denoised(settings.denoise or "problem")
        expected = {
            (row.problem, row.structure.key): float(value)
            for row, value in zip(rows, expected_N, strict=True)
        }
        self._seconds = time.perf_counter() - began
        return Outlook(model, memory, expected, self.operators)

    def judged(
        self, outlook: Outlook | None, rollouts_B: Sequence[Rollout], every: Sequence[Rollout]
    ) -> JudgedRewards | None:
        """What enters the advantages of this rank's rollouts; None: their actual rewards.

        Args:
            outlook: Of this iteration.
            rollouts_B: This rank's, whole groups.
            every: Those of all ranks.
        """
        if outlook is None or self._settings is None or self._settings.denoise is None:
            return None
        return outlook.rewards(rollouts_B, every)

    def remember(self, rollouts: Sequence[Rollout]) -> None:
        """Take note of an iteration's rollouts, of all ranks, once it is done."""
        if self._settings is not None:
            self._memory.add(rollouts, self._settings.remembered_rows, self.operators)
            self._variances = self._found or self._variances

    def metrics(self, outlook: Outlook | None, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Of the iteration that has just been completed."""
        if self._settings is None:
            return {}
        figures = {"train/outcome/rows": float(len(self._memory))}
        if outlook is None:
            return figures
        for domain, shares in outlook.model.shares().items():
            figures[f"train/outcome/noise_share.{domain}"] = shares["noise"]
            by_text = shares["text_structure"] + shares["size_structure"]
            figures[f"train/outcome/by_text_share.{domain}"] = by_text
        for name in ("noise_share", "by_text_share"):
            found = [value for key, value in figures.items() if f"/{name}." in key]
            if found:
                figures[f"train/outcome/{name}"] = fmean(found)
        pairs = [(outlook.expected(r), r.reward.total) for r in rollouts if executed_as_written(r)]
        figures["train/outcome/agreement"] = _correlation(pairs)
        figures["time/outcome_s"] = self._seconds
        return figures

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty without a model."""
        if self._settings is None:
            return {}
        variances = {domain: dict(found) for domain, found in self._variances.items()}
        return {
            "memory": self._memory.state_dict(), "variances": variances,
            "explored": self._explored,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one without a model has an empty state."""
        self._memory = OutcomeMemory()
        self._memory.load_state_dict(state.get("memory", {}), self.operators)
        self._variances = dict(state.get("variances", {}))
        self._explored = bool(state.get("explored", len(self._memory) > 0))


def _spread_of_executed(rollouts: Sequence[Rollout]) -> float:
    """Spread of the actual rewards within groups, of what ran as written, pooled, in points.

    1 where nothing is known of it.
    """
    # A group that was replaced (`zero_variance: resample`) has the number of its substitute.
    groups: dict[tuple[int, str], list[float]] = {}
    for r in rollouts:
        if executed_as_written(r):
            groups.setdefault((r.group, r.problem.id), []).append(r.reward.total)
    freedom = sum(len(totals) - 1 for totals in groups.values())
    squares = sum(float(np.var(totals)) * len(totals) for totals in groups.values())
    return (squares / freedom) ** 0.5 if freedom and squares > 0 else 1.0


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Of two columns; 0 where one of them is constant."""
    expected_N, actual_N = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    if len(pairs) < 2 or min(expected_N.std(), actual_N.std()) <= 1e-9:
        return 0.0
    return float(np.asarray(np.corrcoef(expected_N, actual_N))[0, 1])
