"""The outcome model alone, as a router: no policy writes, a model picks a known workflow.

Two of them. One is fitted on the executions of fixed workflows that chose the best fixed one, so it
costs what they did; the other on what a training run executed, so that it costs what training did
and may pick what the policy found. Not here: the model (`outcomes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aflow_grpo.llm.journal_files import journal_paths
from aflow_grpo.outcomes.model import OutcomeModel, OutcomeRow, fit
from aflow_grpo.outcomes.structure import Structure, structure_of
from aflow_grpo.records import DOMAINS, Problem, Rollout, WorkflowSource
from aflow_grpo.workbench.experiments.arena import Arena, Bout, workflow_text
from aflow_grpo.workbench.experiments.rows import Row, read_rows, row_of, write_rows
from aflow_grpo.workbench.journal_figures import stored_rollouts
from aflow_grpo.workflow.library import library

__all__ = ["Router", "fixed_router", "run_router"]

_LEAST_SEEN = 4
"""A workflow is picked only if so many of its executions were seen."""


class Router:
    """Picks, for each problem, the workflow with the best predicted reward.

    Args:
        rows: What the model is fitted on.
        texts: Structure key -> a text of it that ran, by domain.
        structures: Structure key -> the structure.
    """

    def __init__(
        self,
        rows: Sequence[OutcomeRow],
        texts: dict[str, dict[str, str]],
        structures: dict[str, Structure],
    ) -> None:
        self.model: OutcomeModel = fit(rows)
        self._texts = texts
        self._structures = structures

    def pick(self, problems: Sequence[Problem]) -> list[str]:
        """The workflow's text for each problem."""
        chosen: dict[str, str] = {}
        for domain in DOMAINS:
            asked = [problem for problem in problems if problem.domain == domain]
            if not asked:
                continue
            keys = list(self._texts[domain])
            known = [self._structures[key] for key in keys]
            values_QT = self.model.predict(domain, [p.question for p in asked], known)
            for problem, best in zip(asked, values_QT.argmax(1).tolist(), strict=True):
                chosen[problem.id] = self._texts[domain][keys[best]]
        return [chosen[problem.id] for problem in problems]

    def execute(
        self,
        arena: Arena,
        problems: Sequence[Problem],
        arm: str,
        replicate: int,
        judged_on: str,
        file: Path,
    ) -> list[Row]:
        """The rows of its choices; kept in `file`."""
        if file.is_file():
            return read_rows([file])
        bouts = [
            Bout(problem, text) for problem, text in zip(problems, self.pick(problems), strict=True)
        ]
        rows = [
            row_of(rollout, arm, replicate, judged_on, "fixed")
            for rollout in arena.run(bouts)
            if not rollout.masked
        ]
        write_rows(file, rows)
        return rows


def fixed_router(rows: Sequence[Row], problems: Sequence[Problem]) -> Router:
    """A router over the fixed workflows, fitted on their executions.

    Args:
        rows: Of one replicate's selection problems.
        problems: These problems.
    """
    by_id = {problem.id: problem for problem in problems}
    sources = {domain: library(domain) for domain in DOMAINS}
    structures: dict[str, Structure] = {}
    texts: dict[str, dict[str, str]] = {domain: {} for domain in DOMAINS}
    seen: list[OutcomeRow] = []
    for row in rows:
        problem = by_id[row.problem]
        source = sources[problem.domain][row.arm]
        structure = structure_of(source)
        structures[structure.key] = structure
        texts[problem.domain].setdefault(structure.key, workflow_text(source))
        seen.append(_outcome(problem, structure, row.reward, row.correct, row.cost_usd))
    return Router(seen, texts, structures)


def run_router(folder: Path) -> Router:
    """A router over what a training run wrote and executed, from its journal."""
    structures: dict[str, Structure] = {}
    texts: dict[str, dict[str, str]] = {domain: {} for domain in DOMAINS}
    counts: dict[tuple[str, str], int] = {}
    seen: list[OutcomeRow] = []
    for stored in stored_rollouts(journal_paths(folder), parts=("train",)):
        rollout: Rollout = stored.rollout
        source: WorkflowSource | None = rollout.execution.source
        if rollout.masked or not rollout.execution.direct or source is None:
            continue
        structure, problem = structure_of(source), rollout.problem
        structures[structure.key] = structure
        texts[problem.domain].setdefault(structure.key, rollout.completion.text)
        counts[problem.domain, structure.key] = counts.get((problem.domain, structure.key), 0) + 1
        cost = rollout.execution.usage.cost_usd
        reward, correct = rollout.reward.total, rollout.score.correct
        seen.append(_outcome(problem, structure, reward, correct, cost))
    for domain, known in texts.items():
        texts[domain] = {k: t for k, t in known.items() if counts[domain, k] >= _LEAST_SEEN}
    return Router(seen, texts, structures)


def _outcome(
    problem: Problem, structure: Structure, reward: float, correct: bool, cost_usd: float
) -> OutcomeRow:
    return OutcomeRow(
        problem.domain, problem.id, problem.question, structure, reward, correct, cost_usd
    )
