"""A trained policy beside everything that needs no training, on the same problems.

Which fixed workflow is best, and in which shares workflows are mixed, is decided on problems of the
training set. The oracle is not: it sees the outcomes that it is judged by, and is luck as much as
ceiling. Not here: making the runs (`running`), executing fixed workflows (`fixed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_grpo.data.sources import DataSource, load_sources
from aflow_grpo.evaluation.crossed import crossed_ratio
from aflow_grpo.outcomes.router import Router
from aflow_grpo.records import DOMAINS, Domain
from aflow_grpo.workbench.executor_settings import config_path
from aflow_grpo.workbench.experiments.arena import Arena
from aflow_grpo.workbench.experiments.fixed import (
    CASCADES,
    balanced,
    choose,
    execute_fixed,
    mixed,
    per_problem,
    ranking,
)
from aflow_grpo.workbench.experiments.plan import Experiment, Replicate
from aflow_grpo.workbench.experiments.routing import executed_rows, routed_rows
from aflow_grpo.workbench.experiments.rows import Row
from aflow_grpo.workbench.experiments.running import Cell, keep_settings
from aflow_grpo.workbench.experiments.tables import (
    METRICS,
    cells,
    difference,
    figure,
    markdown_table,
    size_of,
)
from aflow_grpo.workbench.outcomes import from_journal

__all__ = ["baseline_rows", "table"]

_NAMED: Mapping[str, Mapping[Domain, str]] = {
    "IO": dict.fromkeys(DOMAINS, "io"),
    "chain of thought": dict.fromkeys(DOMAINS, "chain_of_thought"),
    "SC-3": dict.fromkeys(DOMAINS, "self_consistency_3"),
    "SC-5": dict.fromkeys(DOMAINS, "self_consistency_5"),
    "self-refine": dict.fromkeys(DOMAINS, "self_refine"),
    "program of thought": {"math": "program_of_thought", "code": "direct", "qa": "direct"},
}
"""Methods of the literature by domain; a program answers no reading question and is code itself."""
BEST = "best fixed, by accuracy"
_TOP = 3


def _right(row: Row) -> float:
    return row.value


def _rewarded(row: Row) -> float:
    return row.reward


def baseline_rows(
    experiment: Experiment, replicate: Replicate, root: Path, policy: Sequence[Row]
) -> list[Row]:
    """The rows of everything that is not a policy, in one replicate.

    Args:
        experiment: Its `options.select_per_domain` says on how many training problems the fixed
            workflows are compared, `options.router_min_runs` (5) how often a workflow ran at least
            for a router to choose it.
        replicate: Which.
        root: The experiment's folder.
        policy: The trained policy's rows of this replicate: the mix is matched to their cost, and
            the router is fitted on their run.
    """
    settings: dict[str, Any] = replicate.fill(dict(experiment.settings))
    (judged_on, told), *_ = experiment.judged_in(replicate.kind).items()
    sources = replicate.fill(dict(told))["data.val"]
    problems = load_sources(DataSource(**dict(each)) for each in sources)
    judged = {row.problem for row in policy}
    problems = [problem for problem in problems if problem.id in judged]
    selection = balanced(settings["data.train"], int(experiment.options["select_per_domain"]))
    folder = root / f"fixed-{replicate.number}"
    made_with = {"settings": settings, "data.val": sources, "seed": replicate.seed}
    made_with["options"] = dict(experiment.options)
    keep_settings(folder, made_with)
    configs = [config_path(path) for path in experiment.configs]
    everything = [*selection, *problems]
    with Arena(everything, configs=configs, settings=settings, seed=replicate.seed) as arena:
        n = replicate.number
        chosen_on = execute_fixed(arena, selection, n, "selection", folder / "selection.jsonl")
        fixed = execute_fixed(arena, problems, n, judged_on, folder / "judged.jsonl")
        rows = _fixed_arms(chosen_on, fixed, policy)
        least = int(experiment.options.get("router_min_runs", 5))
        known = executed_rows(chosen_on, selection)
        routers = {"router, from fixed workflows": Router(known, min_runs=least)}
        for arm in experiment.options.get("routers", ()):
            run = root / Cell(experiment.arm(arm), replicate).name / "fit"
            routers[f"router, from the run of {arm}"] = from_journal(run, min_runs=least)
        for number, (name, router) in enumerate(routers.items()):
            rows += routed_rows(
                router,
                arena,
                problems,
                arm=name,
                replicate=n,
                judged_on=judged_on,
                file=folder / f"router-{number}.jsonl",
            )
    return rows


def _fixed_arms(chosen_on: Sequence[Row], fixed: Sequence[Row], policy: Sequence[Row]) -> list[Row]:
    def always(arm: str, names: Mapping[Domain, str]) -> list[Row]:
        return mixed(fixed, arm, {domain: {name: 1.0} for domain, name in names.items()})

    rows: list[Row] = []
    for arm, names in _NAMED.items():
        rows += always(arm, names)
    best = choose(chosen_on, "accuracy", _right)
    rows += always(BEST, best.names)
    rows += always("best fixed, by reward", choose(chosen_on, "reward", _rewarded).names)
    plain = choose(chosen_on, "accuracy", _right, CASCADES)
    rows += always("best fixed but for cascades, by accuracy", plain.names)
    top = {
        domain: dict.fromkeys(ranking(chosen_on, domain, _right)[:_TOP], 1.0) for domain in DOMAINS
    }
    rows += mixed(fixed, "random among the top three", top)
    rows += mixed(fixed, "random mix at the policy's cost", _matched(chosen_on, best.names, policy))
    rows += per_problem(
        fixed, "oracle of the library", lambda members: max(members, key=lambda row: row.reward)
    )
    return rows


def _matched(
    chosen_on: Sequence[Row], best: Mapping[Domain, str], policy: Sequence[Row]
) -> dict[Domain, dict[str, float]]:
    """Shares of the best and of the cheapest one call, so that the mix costs what the policy does.

    Costs are those on the selection problems; the policy's are its own.
    """
    shares: dict[Domain, dict[str, float]] = {}
    for domain, name in best.items():
        spent = [row.cost_usd for row in policy if row.domain == domain and row.mode == "greedy"]
        one_call = [n for n in ("direct", "custom", "io") if _mean_cost(chosen_on, domain, n)]
        if not one_call:  # nothing costs anything
            shares[domain] = {name: 1.0}
            continue
        cheap = min(one_call, key=lambda n: _mean_cost(chosen_on, domain, n))
        low, high = (_mean_cost(chosen_on, domain, n) for n in (cheap, name))
        wanted = sum(spent) / len(spent) if spent else high
        share = 1.0 if high <= low else min(1.0, max(0.0, (wanted - low) / (high - low)))
        shares[domain] = {cheap: 1 - share}
        shares[domain][name] = shares[domain].get(name, 0.0) + share
    return shares


def _mean_cost(rows: Sequence[Row], domain: Domain, name: str) -> float:
    costs = [row.cost_usd for row in rows if row.domain == domain and row.arm == name]
    return sum(costs) / len(costs) if costs else 0.0


def table(rows: Sequence[Row], reference: str = BEST) -> str:
    """Every arm's figures, and what it is to the reference: accuracy, cost, reward."""
    arms: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        arms.setdefault((row.arm, row.mode), []).append(row)
    base = [row for row in rows if row.arm == reference]
    head = ["arm", "", "n", *(METRICS[n].title for n in _SHOWN)]
    head += ["accuracy − best", "cost / best", "reward − best", "reward above in"]
    lines = []
    for (arm, mode), members in arms.items():
        figures = [figure(members, name) for name in _SHOWN]
        lines.append(
            [
                arm,
                mode,
                size_of(figures[0]),
                *(METRICS[m].text(f) for m, f in zip(_SHOWN, figures, strict=True)),
                *_beside(base, members),
            ]
        )
    return markdown_table(head, lines)


def _beside(base: Sequence[Row], members: Sequence[Row]) -> list[str]:
    """Accuracy, cost and reward beside the reference; empty where they share no problem."""
    try:
        right, better = (difference(base, members, name) for name in ("accuracy", "reward"))
    except ValueError:
        return [""] * 4
    wins = sum(value > 0 for value in better.by_repetition)
    try:
        ratio = crossed_ratio(cells(base, METRICS["usd"]), cells(members, METRICS["usd"]))
        times = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    except ValueError:  # one of them costs nothing
        times = ""
    return [
        METRICS["accuracy"].text(right, signed=True),
        times,
        METRICS["reward"].text(better, signed=True),
        f"{wins} of {better.repetitions}",
    ]


_SHOWN = ("accuracy", "usd", "reward")
