"""One side of a comparison: a run and its last full evaluation, and every figure of it.

Not here: differences between sides (`comparing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aflow_grpo.records import Problem, Rollout
from aflow_grpo.workbench.figures import Figure, figure_of, problem_key, problem_means
from aflow_grpo.workbench.runs import Evaluation, Run

__all__ = ["ALL", "Decoding", "Judged", "Side", "has_evaluation"]

Decoding = Literal["greedy", "sampled"]
ALL = "all"


@dataclass(frozen=True)
class Side:
    """One of the runs."""

    letter: str
    name: str
    id: str
    directory: str
    judged_by: str
    """Id of the MLflow run whose evaluation it is."""
    step: int
    """Completed iterations of the policy that was judged."""
    problems: int
    """With stored rollouts; 0 where metrics stand in."""
    samples: int
    """For each problem, beside the greedy one."""
    masked: int
    """Workflows in no figure: no endpoint answered for them, or not in time."""
    running: bool


@dataclass(frozen=True)
class Judged:
    """A run and its last full evaluation of a split."""

    run: Run
    split: str
    evaluation: Evaluation | None
    """None where its rollouts are not stored."""
    metrics: Mapping[str, tuple[int, float]]
    """What was logged of it; empty where the rollouts are there."""

    @classmethod
    def of(cls, run: Run, split: str) -> Judged:
        """The newest evaluation of `split`, whichever of the run's verbs made it."""
        evaluations = run.evaluations_of(split)
        last = evaluations[-1] if evaluations else None
        return cls(run, split, last, {} if last else run.last_metrics(split))

    @property
    def all_rollouts(self) -> tuple[Rollout, ...]:
        """Greedy ones first; none where they are not stored."""
        found = self.evaluation
        return (*found.greedy, *found.sampled) if found is not None else ()

    @property
    def problems(self) -> dict[str, Problem]:
        """The problems by what they are; see `problem_key`."""
        return {problem_key(rollout): rollout.problem for rollout in self.all_rollouts}

    def rollouts(self, decoding: Decoding, group: str) -> list[Rollout]:
        """Those of a domain, a data set or ``all``."""
        if self.evaluation is None:
            return []
        chosen = self.evaluation.greedy if decoding == "greedy" else self.evaluation.sampled
        return [r for r in chosen if group in (ALL, r.problem.domain, r.problem.dataset)]

    def means(self, metric: str, decoding: Decoding, group: str) -> dict[str, float]:
        """Problem -> mean of a metric; nothing where the rollouts are not stored."""
        rollouts = self.rollouts(decoding, group)
        if not rollouts:
            return {}
        return {key: mean for key, (mean, _) in problem_means(rollouts, metric).items()}

    def figure(self, metric: str, decoding: Decoding, group: str) -> Figure | None:
        """A metric with its interval, or without one as it was logged."""
        if self.evaluation is not None:
            rollouts = self.rollouts(decoding, group)
            return figure_of(rollouts, metric) if rollouts else None
        suffix = "_greedy" if decoding == "greedy" else ""
        first, slash, rest = metric.partition("/")
        end = "" if group == ALL else f"/{group}"
        logged = self.metrics.get(f"{self.split}/{first}{suffix}{slash}{rest}{end}")
        return None if logged is None else Figure(logged[1], None, None, 0)

    def side(self, letter: str) -> Side:
        """What a reader has to know of it."""
        run, problems = self.run, len(self.problems)
        sampled: tuple[Rollout, ...] = ()
        judged_by = run.id
        step = max((step for step, _ in self.metrics.values()), default=0)
        if self.evaluation is not None:
            judged_by, step = self.evaluation.run_id, self.evaluation.step
            sampled = self.evaluation.sampled
        return Side(
            letter, run.name, run.id, str(run.directory or ""), judged_by, step, problems,
            round(len(sampled) / problems) if problems else 0,
            sum(rollout.masked for rollout in self.all_rollouts), run.running,
        )  # fmt: skip


def has_evaluation(run: Run, split: str) -> bool:
    """Whether a run was ever judged fully on a split."""
    stored = any(part in (split, f"{split}/greedy") for _, part in run.journal_parts or {})
    return stored or any(
        name in run.last_metrics(split) for name in (f"{split}/reward", f"{split}/reward_greedy")
    )
