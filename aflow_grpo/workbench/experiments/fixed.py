"""Baselines without training: fixed workflows, and what can be made of several of them.

Which fixed workflow is best is decided on problems of the training set, at a cost that is counted;
on the problems that everything is judged on, only its choice counts. `mixed` arms draw a workflow
for each problem, and take what the execution of that one gave. Not here: policies
(`running`), the outcome model as a router (`routing`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aflow_grpo.data.sources import DataSource, load_sources
from aflow_grpo.records import DOMAINS, Domain, Problem
from aflow_grpo.workbench.experiments.arena import Arena, Bout, workflow_text
from aflow_grpo.workbench.experiments.rows import Row, read_rows, row_of, write_rows
from aflow_grpo.workflow.library import library

__all__ = ["CASCADES", "Chosen", "balanced", "choose", "execute_fixed", "mixed", "per_problem"]

CASCADES = ("cascade", "cascade_agreement", "cascade_review", "cascade_test")
"""Fixed workflows that decide at run time whether to spend more, and say so in their name."""
SELECT, JUDGE = "select", "judge"


@dataclass(frozen=True)
class Chosen:
    """Which fixed workflow is best in each domain, by some figure on the selection problems."""

    by: str
    names: Mapping[Domain, str]
    cost_usd: float
    """List cost of the executions that decided it."""


def balanced(sources: Sequence[Mapping[str, object]], per_domain: int) -> list[Problem]:
    """The first `per_domain` problems of each domain, its data sets taking turns.

    Args:
        sources: As `data.train` has them.
        per_domain: Most problems of one domain.
    """
    problems = load_sources([DataSource(**dict(each)) for each in sources])  # type: ignore[arg-type]
    chosen: list[Problem] = []
    for domain in DOMAINS:
        by_set: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.domain == domain:
                by_set.setdefault(problem.dataset, []).append(problem)
        rounds = max(map(len, by_set.values()), default=0)
        turns = [each[i] for i in range(rounds) for each in by_set.values() if i < len(each)]
        chosen += turns[:per_domain]
    return chosen


def execute_fixed(
    arena: Arena, problems: Sequence[Problem], replicate: int, judged_on: str, file: Path
) -> list[Row]:
    """Every fixed workflow of its domain on every problem, once; kept in `file`."""
    if file.is_file():
        return read_rows([file])
    texts = {d: {name: workflow_text(s) for name, s in library(d).items()} for d in DOMAINS}
    asked = [(name, p) for p in problems for name in texts[p.domain]]
    rollouts = arena.run([Bout(p, texts[p.domain][name]) for name, p in asked])
    rows = [
        row_of(rollout, name, replicate, judged_on, "fixed")
        for (name, _), rollout in zip(asked, rollouts, strict=True)
        if not rollout.masked
    ]
    write_rows(file, rows)
    return rows


def choose(
    rows: Sequence[Row], by: str, figure: Callable[[Row], float], without: Sequence[str] = ()
) -> Chosen:
    """The best workflow of each domain; among equals the cheaper one.

    Args:
        rows: Of one replicate's selection problems.
        by: Names the figure.
        figure: More is better.
        without: Workflows that are not to be chosen.
    """
    names: dict[Domain, str] = {}
    cost = 0.0
    for domain in DOMAINS:
        ranked = ranking(rows, domain, figure, without)
        if ranked:
            names[domain] = ranked[0]
        cost += sum(row.cost_usd for row in rows if row.domain == domain and row.arm not in without)
    return Chosen(by, names, cost)


def ranking(
    rows: Sequence[Row],
    domain: Domain,
    figure: Callable[[Row], float],
    without: Sequence[str] = (),
) -> list[str]:
    """A domain's workflows, the best first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.domain == domain and row.arm not in without:
            groups.setdefault(row.arm, []).append(row)

    def worth(name: str) -> tuple[float, float]:
        members = groups[name]
        mean = sum(figure(row) for row in members) / len(members)
        return -round(mean, 9), sum(row.cost_usd for row in members) / len(members)

    return sorted(groups, key=worth)


def per_problem(
    rows: Sequence[Row], arm: str, pick: Callable[[Sequence[Row]], Row | None]
) -> list[Row]:
    """At most one row for each problem, chosen among those of all workflows.

    Args:
        rows: Of one replicate's judged problems.
        arm: The name of what chooses so.
        pick: Of the rows of one problem; None leaves the problem out.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.problem, []).append(row)
    picked = [pick(members) for members in groups.values()]
    return [replace(row, arm=arm) for row in picked if row is not None]


def mixed(
    rows: Sequence[Row], arm: str, shares: Mapping[Domain, Mapping[str, float]], seed: int = 0
) -> list[Row]:
    """A workflow drawn for each problem in proportion to its domain's shares.

    Of a problem none of whose workflows was executed there is no row.

    Args:
        rows: Of one replicate's judged problems.
        arm: The name of what chooses so.
        shares: Domain -> workflow -> weight, from 0.
        seed: Of the draws; one for each replicate and problem, as a user would have it.
    """

    def pick(members: Sequence[Row]) -> Row | None:
        by_name = {row.arm: row for row in members}
        told = shares.get(members[0].domain, {})  # type: ignore[call-overload]
        known = [name for name, share in told.items() if share > 0 and name in by_name]
        if not known:
            return None
        rng = random.Random(f"{seed}/{arm}/{members[0].replicate}/{members[0].problem}")
        return by_name[rng.choices(known, [told[name] for name in known])[0]]

    return per_problem(rows, arm, pick)
