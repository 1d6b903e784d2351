"""The outcome model: what a workflow is worth for a problem, one model for each domain.

A reward has two humps, for right and for wrong answers, and nearly all of its noise is which of the
two it is. So the model does not fit the reward itself:

    expected reward = q(problem, structure) x what a right answer pays with this structure
                      + (1 - q) x what a wrong one does

with q from a Gaussian process on being right (`process`), and the two payments, like USD, from
shrunken means over structures (`means`). Nothing is assumed of how rewards are computed.

Fitted on workflows that were executed as written; those that failed say nothing here, and what they
earn is not for this model to say. Equal rows give equal bits. With fewer than `FEWEST` rows of a
domain the model says its means. Not here: where the rows come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.means import StructureMeans
from aflow_grpo.outcomes.process import Observed, Process
from aflow_grpo.outcomes.structure import Structure, structure_of
from aflow_grpo.outcomes.variances import Floats, one_thread
from aflow_grpo.records import Rollout
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["FEWEST", "Figure", "OutcomeModel", "OutcomeRow", "Variances", "fit", "row_of"]

FEWEST = 20
"""With fewer rows of a domain nothing but means is said of it."""
Figure = Literal["reward", "accuracy", "cost_usd"]
Variances = Mapping[str, Mapping[str, float]]
"""Domain -> component -> variance."""


@dataclass(frozen=True)
class OutcomeRow:
    """One executed workflow."""

    domain: str
    problem: str
    """The problem's id."""
    text: str
    """Its question, without passages."""
    structure: Structure
    reward: float
    correct: bool
    cost_usd: float
    """List cost."""


def row_of(rollout: Rollout, operators: OperatorSet = TEN_OPERATORS) -> OutcomeRow:
    """What a rollout that ran as written says."""
    return OutcomeRow(
        domain=rollout.problem.domain,
        problem=rollout.problem.id,
        text=rollout.problem.question,
        structure=structure_of(rollout.execution.source, operators),
        reward=rollout.reward.total,
        correct=rollout.score.correct,
        cost_usd=rollout.execution.usage.cost_usd,
    )


class OutcomeModel:
    """What `fit` found.

    Args:
        rows: What was seen, oldest first.
        by_domain: The parts.
    """

    def __init__(self, rows: Sequence[OutcomeRow], by_domain: Mapping[str, _DomainModel]) -> None:
        self._rows = rows
        self._by_domain = by_domain

    @property
    def variances(self) -> dict[str, dict[str, float]]:
        """Of each domain's process, where it has one: where the next search begins."""
        return {
            domain: dict(part.process.variances)
            for domain, part in self._by_domain.items()
            if part.process is not None
        }

    def shares(self) -> dict[str, dict[str, float]]:
        """Of each domain, where it has enough rows: component -> share of the variance of right
        or wrong, ``noise`` among them."""
        return {
            domain: part.process.shares()
            for domain, part in self._by_domain.items()
            if part.process is not None
        }

    def predict(
        self,
        domain: str,
        texts_Q: Sequence[str],
        structures_T: Sequence[Structure],
        figure: Figure = "reward",
    ) -> Floats:
        """What is expected of problems that are known by their text alone, (Q, T).

        Args:
            domain: One of which rows were seen.
            texts_Q: Questions, without passages.
            structures_T: Need not have been seen.
            figure: ``reward`` in points, ``accuracy`` in [0, 1], or ``cost_usd``.

        Raises:
            ConfigError: No row of this domain was seen.
        """
        if domain not in self._by_domain:
            known = ", ".join(sorted(self._by_domain)) or "none"
            raise ConfigError(
                f"the outcome model knows nothing of domain {domain!r}; it has rows of: {known}."
            )
        with one_thread():
            return self._by_domain[domain].predict(texts_Q, structures_T, figure)

    def denoised(self, of: Literal["problem", "text"] = "problem") -> Floats:
        """The expected reward of each row, its own outcome counted, (N,).

        Args:
            of: ``problem``: with this structure on this very problem. ``text``: on any problem
                that reads like it, which is all that who reads the text alone can make use of.
        """
        found_N = np.zeros(len(self._rows))
        with one_thread():
            for part in self._by_domain.values():
                found_N[part.places] = part.denoised(of)
        return found_N


def fit(
    rows: Sequence[OutcomeRow],
    start: Variances | None = None,
    *,
    search: bool = True,
    most_rows: int = 4000,
) -> OutcomeModel:
    """The outcome model of executed workflows.

    Args:
        rows: Oldest first; of the domains that they name.
        start: Variances of an earlier fit, to begin the search with.
        search: False takes those of `start` as they are, for the domains that it has.
        most_rows: Only so many of a domain's newest rows are looked at.

    Raises:
        ConfigError: A reward or a cost is not finite.
    """
    places: dict[str, list[int]] = {}
    for n, row in enumerate(rows):
        if not (np.isfinite(row.reward) and np.isfinite(row.cost_usd)):
            raise ConfigError(
                f"outcome model: problem {row.problem!r} has reward {row.reward} and cost "
                f"{row.cost_usd} USD; expected finite numbers."
            )
        places.setdefault(row.domain, []).append(n)
    with one_thread():
        return OutcomeModel(
            rows,
            {
                domain: _DomainModel(
                    [rows[n] for n in found], np.array(found), (start or {}).get(domain),
                    search=search, most_rows=most_rows,
                )
                for domain, found in sorted(places.items())
            },
        )  # fmt: skip


class _DomainModel:
    """The model of one domain; `places` are those of its rows among all."""

    def __init__(
        self,
        rows: Sequence[OutcomeRow],
        places: np.ndarray,
        start: Mapping[str, float] | None,
        *,
        search: bool,
        most_rows: int,
    ) -> None:
        self._rows, self.places = rows, places
        newest = rows[-most_rows:]
        self._first = len(rows) - len(newest)
        self._problems = {row.problem: row.text for row in newest}
        structures = {row.structure.key: row.structure for row in newest}
        self._problem_at = {name: p for p, name in enumerate(self._problems)}
        self._structure_at = {key: s for s, key in enumerate(structures)}
        self._structures = list(structures.values())
        problems_N = np.array([self._problem_at[row.problem] for row in newest])
        structures_N = np.array([self._structure_at[row.structure.key] for row in newest])
        right_N = np.array([float(row.correct) for row in newest])
        rewards_N = np.array([row.reward for row in newest])
        costs_N = np.array([row.cost_usd for row in newest])
        self.process: Process | None = None
        self._rate = float(right_N.mean())
        enough = len(newest) >= FEWEST
        if enough:
            observed = Observed(
                list(self._problems.values()), list(self._problems), self._structures,
                problems_N, structures_N,
            )  # fmt: skip
            self.process = Process(observed, right_N, start, search=search)
        mean = float(rewards_N.mean())
        known = slice(None) if enough else slice(0)
        chosen_N, right_N = structures_N[known], right_N[known] > 0
        rewards_N, costs = rewards_N[known], costs_N[known]
        self._right = StructureMeans(self._structures, chosen_N[right_N], rewards_N[right_N], mean)
        self._wrong = StructureMeans(
            self._structures, chosen_N[~right_N], rewards_N[~right_N], mean
        )
        self._cost = StructureMeans(self._structures, chosen_N, costs, float(costs_N.mean()))

    def predict(
        self, texts_Q: Sequence[str], structures_T: Sequence[Structure], figure: Figure
    ) -> Floats:
        if figure == "cost_usd":
            return np.tile(self._cost.predict(structures_T), (len(texts_Q), 1))
        rate_QT = self._accuracy(texts_Q, structures_T)
        return rate_QT if figure == "accuracy" else self._paid(rate_QT, structures_T)

    def denoised(self, of: Literal["problem", "text"]) -> Floats:
        """As of the model; rows that were too old for the fit count as new problems."""
        old, new = self._rows[: self._first], self._rows[self._first :]
        if of == "problem" and self.process is not None:
            rate_PS = np.clip(self.process.expected(), 0.0, 1.0)
            value_PS = self._paid(rate_PS, self._structures)
        else:
            value_PS = self.predict(list(self._problems.values()), self._structures, "reward")
        values = [
            value_PS[self._problem_at[row.problem], self._structure_at[row.structure.key]]
            for row in new
        ]
        before = [self.predict([row.text], [row.structure], "reward")[0, 0] for row in old]
        return np.array([*before, *values])

    def _accuracy(self, texts_Q: Sequence[str], structures_T: Sequence[Structure]) -> Floats:
        if self.process is None:
            return np.full((len(texts_Q), len(structures_T)), self._rate)
        return np.clip(self.process.predict(texts_Q, structures_T), 0.0, 1.0)

    def _paid(self, rate_QT: Floats, structures_T: Sequence[Structure]) -> Floats:
        right_T, wrong_T = self._right.predict(structures_T), self._wrong.predict(structures_T)
        paid_QT: Floats = rate_QT * right_T + (1 - rate_QT) * wrong_T
        return paid_QT
