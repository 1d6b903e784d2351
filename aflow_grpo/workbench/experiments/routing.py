"""The outcome model alone, as a baseline: no policy writes, a router picks a known workflow.

Two of them. One is fitted on the executions of fixed workflows that chose the best fixed one, so it
costs what they did; the other on what a training run executed, so that it costs what training did
and may pick what the policy found. Not here: the model and its choice (`outcomes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aflow_grpo.outcomes.model import OutcomeRow
from aflow_grpo.outcomes.router import Executed, Router
from aflow_grpo.outcomes.structure import structure_of
from aflow_grpo.records import DOMAINS, Problem
from aflow_grpo.workbench.experiments.arena import Arena, Bout, workflow_text
from aflow_grpo.workbench.experiments.rows import Row, read_rows, row_of, write_rows
from aflow_grpo.workflow.library import library

__all__ = ["executed_rows", "routed_rows"]


def executed_rows(rows: Sequence[Row], problems: Sequence[Problem]) -> list[Executed]:
    """Executions of fixed workflows, for a router to learn from.

    Args:
        rows: Of one replicate's selection problems.
        problems: These problems.
    """
    by_id = {problem.id: problem for problem in problems}
    sources = {domain: library(domain) for domain in DOMAINS}
    executed: list[Executed] = []
    for row in rows:
        problem = by_id[row.problem]
        source = sources[problem.domain][row.arm]
        told = OutcomeRow(
            problem.domain,
            problem.id,
            problem.question,
            structure_of(source),
            row.reward,
            row.correct,
            row.cost_usd,
        )
        executed.append((told, source))
    return executed


def routed_rows(
    router: Router,
    arena: Arena,
    problems: Sequence[Problem],
    *,
    arm: str,
    replicate: int,
    judged_on: str,
    file: Path,
) -> list[Row]:
    """The rows of what the router picks; kept in `file`."""
    if file.is_file():
        return read_rows([file])
    bouts: list[Bout] = []
    for domain in DOMAINS:
        asked = [problem for problem in problems if problem.domain == domain]
        chosen = router.choose(domain, [problem.question for problem in asked]) if asked else []
        bouts += [
            Bout(problem, workflow_text(routed.candidate.source))
            for problem, routed in zip(asked, chosen, strict=True)
        ]
    rows = [
        row_of(rollout, arm, replicate, judged_on, "fixed")
        for rollout in arena.run(bouts)
        if not rollout.masked
    ]
    write_rows(file, rows)
    return rows
