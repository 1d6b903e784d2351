"""The outcome model alone, as a router: for each problem one of the workflows that really ran.

A baseline for whatever is trained to write workflows: it chooses among what was written before, by
the problem's text, and writes nothing itself. Not here: where the executed workflows come from, and
executing its choices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.model import OutcomeRow, fit
from aflow_grpo.outcomes.structure import Structure
from aflow_grpo.records import WorkflowSource

__all__ = ["Candidate", "Executed", "Routed", "Router"]

Executed = tuple[OutcomeRow, WorkflowSource]
"""One workflow that ran as written, and its text."""


@dataclass(frozen=True)
class Candidate:
    """A workflow to choose from."""

    structure: Structure
    source: WorkflowSource
    """The text of this structure that ran most often."""
    runs: int
    """How often any text of it ran."""


@dataclass(frozen=True)
class Routed:
    """What was chosen for one problem."""

    candidate: Candidate
    expected_reward: float
    """In points."""
    expected_accuracy: float
    """In [0, 1]."""
    expected_cost_usd: float


class Router:
    """Chooses workflows.

    Args:
        executed: What ran, oldest first; the model is fitted on it.
        min_runs: Only workflows that ran at least so often, in the domain, are chosen from.
        usd_weight: None chooses the highest expected reward; a number the highest expected accuracy
            minus so much per USD: 0 is the most accurate workflow, whatever it costs.

    Raises:
        ConfigError: Nothing was executed, or no workflow of a domain ran often enough.
    """

    def __init__(
        self, executed: Sequence[Executed], *, min_runs: int = 5, usd_weight: float | None = None
    ) -> None:
        if not executed:
            raise ConfigError(
                "router: no workflow was executed as written. Expected the rollouts of a run that "
                "has trained for some steps."
            )
        self.model = fit([row for row, _ in executed])
        self.candidates = {
            domain: _candidates([one for one in executed if one[0].domain == domain], min_runs)
            for domain in sorted({row.domain for row, _ in executed})
        }
        """Domain -> what is chosen from, in the order of their keys."""
        self._usd_weight = usd_weight
        for domain, found in self.candidates.items():
            if not found:
                raise ConfigError(
                    f"router: no workflow of domain {domain!r} ran {min_runs} times or more "
                    "(min_runs). Lower it, or give the rollouts of a longer run."
                )

    def choose(self, domain: str, questions_Q: Sequence[str]) -> list[Routed]:
        """A workflow for each problem, known by its question alone; of equal ones the first.

        Raises:
            ConfigError: Nothing was executed in this domain.
        """
        candidates = self.candidates.get(domain, [])
        structures = [candidate.structure for candidate in candidates]
        reward_QT = self.model.predict(domain, questions_Q, structures)
        accuracy_QT = self.model.predict(domain, questions_Q, structures, "accuracy")
        cost_QT = self.model.predict(domain, questions_Q, structures, "cost_usd")
        worth_QT = reward_QT
        if self._usd_weight is not None:
            worth_QT = accuracy_QT - self._usd_weight * cost_QT
        return [
            Routed(
                candidates[t], float(reward_QT[q, t]), float(accuracy_QT[q, t]),
                float(cost_QT[q, t]),
            )
            for q, t in enumerate(np.argmax(worth_QT, axis=1).tolist())
        ]  # fmt: skip


def _candidates(executed: Sequence[Executed], min_runs: int) -> list[Candidate]:
    texts: dict[str, Counter[tuple[str, tuple[tuple[str, str], ...]]]] = {}
    sources: dict[tuple[str, tuple[tuple[str, str], ...]], WorkflowSource] = {}
    structures: dict[str, Structure] = {}
    for row, source in executed:
        text = (source.graph_code, tuple(sorted(source.prompts.items())))
        texts.setdefault(row.structure.key, Counter())[text] += 1
        sources.setdefault(text, source)
        structures[row.structure.key] = row.structure
    return [
        Candidate(structures[key], sources[found.most_common(1)[0][0]], found.total())
        for key, found in sorted(texts.items())
        if found.total() >= min_runs
    ]
