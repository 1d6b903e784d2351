"""Tables of `trained_vs_search`: what each way spends, what it takes to reach a reward, break-even.

A search's repetitions in one world are averaged before anything else, so that n is the number of
replicates; intervals are Student's over them. A reward is reached where the mean curve stays at or
above it. A search knows one call of the plainest operator before it has spent anything, so what
that earns costs 0 USD. What a search had found half-way counts at what had been spent half-way,
though only its whole run says that nothing better was there; the last row compares with the whole
run. Not here: how the curves were made (`searching`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from aflow_grpo.evaluation.search_space import EXPANDER_NOTE, LITERATURE_IMPROVED_SHARE
from aflow_grpo.evaluation.spending import (
    Point,
    break_even,
    geometric_mean,
    mean_and_interval,
    mean_curve,
    point_at,
)
from aflow_grpo.workbench.experiments.searching import STRATEGIES

__all__ = ["search_figures", "search_table"]

_OF_THE_BEST = 0.95


@dataclass(frozen=True)
class _Run:
    """A way of getting a workflow or policy, in one replicate."""

    curves: tuple[tuple[Point, ...], ...]
    """One per repetition."""
    trained: bool
    cpu_s: float
    executions: float
    edits: int
    improved: int

    @property
    def end(self) -> Point:
        """Where it ends, averaged over repetitions, which need not spend the same."""
        spent_usd = fmean(curve[-1].spent_usd for curve in self.curves)
        return replace(mean_curve(self.curves)[-1], spent_usd=spent_usd)

    def reached(self, reward: float) -> Point | None:
        """Where the mean of the repetitions has the reward for good; None: it never has."""
        return point_at(mean_curve(self.curves), reward)


def search_figures(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures as plain data.

    Args:
        results: Of `run_trained_vs_search`, one per replicate; all with the same arms.

    Returns:
        `arms`: name -> figures with intervals; `targets`: name -> reward and, by arm, USD;
        `matched`: trained arm / strategy -> USD until training has what the search ends with, as a
        ratio to the search's whole run; `break_even`: the same keys -> one text per replicate.
    """
    replicates = [_runs(result) for result in results]
    names = list(replicates[0])
    trained = [name for name in names if name not in STRATEGIES]
    targets = [_targets(runs) for runs in replicates]
    return {
        "replicates": len(results),
        "validation": [sum(result["validation"].values()) for result in results],
        "held_out": [sum(result["held_out"].values()) for result in results],
        "arms": {name: _arm([runs[name] for runs in replicates]) for name in names},
        "targets": {
            target: _target(
                [each[target] for each in targets], replicates, names=names, trained=trained
            )
            for target in targets[0]
        },
        "break_even": {
            f"{name} / {strategy}": [_pays_off(runs[name], runs[strategy]) for runs in replicates]
            for name in trained
            for strategy in STRATEGIES
        },
        "matched": {
            f"{name} / {strategy}": _ratio(
                [_matched(runs[name], runs[strategy]) for runs in replicates]
            )
            for name in trained
            for strategy in STRATEGIES
        },
    }


def search_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The tables in Markdown."""
    figures = search_figures(results)
    parts = [_arms_table(figures), _targets_table(figures), _break_even_table(figures)]
    return "\n\n".join(parts) + f"\n\n{EXPANDER_NOTE}\n"


# Figures


def _runs(result: Mapping[str, Any]) -> dict[str, _Run]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for curve in result["curves"]:
        grouped.setdefault(curve["arm"], []).append(curve)
    return {
        name: _Run(
            tuple(tuple(Point(**point) for point in curve["points"]) for curve in curves),
            name not in STRATEGIES,
            fmean(curve["cpu_s"] for curve in curves),
            fmean(curve["executions"] for curve in curves),
            sum(max(0, curve["candidates"] - len(curve["chosen"])) for curve in curves),
            sum(curve["improved"] for curve in curves),
        )
        for name, curves in grouped.items()
    }


def _targets(runs: Mapping[str, _Run]) -> dict[str, float]:
    ends = [run.end.reward for run in runs.values()]
    best = max(ends)
    return {
        "the lowest final reward": min(ends),
        "what exhaustive search ends with": runs["exhaustive"].end.reward,
        "95 % of the best final reward": _OF_THE_BEST * best if best > 0 else best,
    }


def _arm(runs: Sequence[_Run]) -> dict[str, Any]:
    edits = sum(run.edits for run in runs)
    return {
        "spent_usd": mean_and_interval([run.end.spent_usd for run in runs]),
        # A training run's first point is its first checkpoint.
        "start_reward": None
        if runs[0].trained
        else mean_and_interval([fmean(curve[0].reward for curve in run.curves) for run in runs]),
        "reward": mean_and_interval([run.end.reward for run in runs]),
        "accuracy": mean_and_interval([run.end.accuracy for run in runs]),
        "problem_usd": mean_and_interval([run.end.problem_usd for run in runs]),
        "executions": fmean(run.executions for run in runs),
        "cpu_s": fmean(run.cpu_s for run in runs),
        "improved_share": sum(run.improved for run in runs) / edits if edits else 0.0,
    }


def _target(
    rewards: Sequence[float],
    replicates: Sequence[Mapping[str, _Run]],
    *,
    names: Sequence[str],
    trained: Sequence[str],
) -> dict[str, Any]:
    spent: dict[str, list[float | None]] = {}
    for name in names:
        points = [
            runs[name].reached(reward) for runs, reward in zip(replicates, rewards, strict=True)
        ]
        spent[name] = [None if point is None else point.spent_usd for point in points]
    return {
        "reward": fmean(rewards),
        "spent_usd": spent,
        "ratio": {
            f"{name} / {strategy}": _ratio(list(zip(spent[name], spent[strategy], strict=True)))
            for name in trained
            for strategy in STRATEGIES
        },
    }


def _ratio(pairs: Sequence[tuple[float | None, float | None]]) -> dict[str, Any]:
    """The geometric mean of first / second, where both were reached and neither was free."""
    usable = [first / second for first, second in pairs if first and second]
    value = geometric_mean(usable) if usable else None
    return {"value": value, "replicates": len(usable), "of": len(pairs)}


def _matched(trained: _Run, search: _Run) -> tuple[float | None, float]:
    """USD until training has what a search ends with, and what that search paid in all."""
    there = trained.reached(search.end.reward)
    return None if there is None else there.spent_usd, search.end.spent_usd


def _pays_off(trained: _Run, search: _Run) -> dict[str, str]:
    """From how many problems on training is the cheaper one, at equal reward and by cost alone."""
    equal = trained.reached(search.end.reward)
    at_equal = "never" if equal is None else str(break_even(equal, search.end))
    return {"equal reward": at_equal, "cost alone": str(break_even(trained.end, search.end))}


# Markdown


def _arms_table(figures: Mapping[str, Any]) -> str:
    lines = [
        f"{figures['replicates']} replicates; validation {_span(figures['validation'])}, held-out "
        f"{_span(figures['held_out'])} problems each. Mean ± half of the 95 % interval.",
        "",
        "| | spent in all, USD | held-out reward | of the one call it starts from | accuracy, %"
        " | USD / 1,000 problems | executions | CPU s | edits that helped |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, arm in figures["arms"].items():
        helped = "—"
        if name == "aflow_search":
            helped = (
                f"{100 * arm['improved_share']:.0f} % (Claude's: "
                f"{100 * LITERATURE_IMPROVED_SHARE:.0f} %)"
            )
        cells = [
            name,
            _shown(arm["spent_usd"], 4),
            _shown(arm["reward"], 2),
            "—" if arm["start_reward"] is None else _shown(arm["start_reward"], 2),
            _shown(arm["accuracy"], 1, 100),
            _shown(arm["problem_usd"], 4, 1000),
            f"{arm['executions']:,.0f}" if arm["executions"] else "—",
            f"{arm['cpu_s']:.0f}" if arm["cpu_s"] else "—",
            helped,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _targets_table(figures: Mapping[str, Any]) -> str:
    names, pairs = list(figures["arms"]), list(figures["matched"])
    heads = [*(f"{name}, USD" for name in names), *pairs]
    lines = [
        f"| until held-out reward is | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for target, told in figures["targets"].items():
        cells = [_spent(told["spent_usd"][name]) for name in names]
        cells += [_shown_ratio(told["ratio"][pair]) for pair in pairs]
        lines.append(f"| {target} ({told['reward']:.2f}) | {' | '.join(cells)} |")
    cells = [_shown(figures["arms"][name]["spent_usd"], 4) for name in names]
    cells += [_shown_ratio(figures["matched"][pair]) for pair in pairs]
    lines.append(f"| what each search ends with, against its whole run | {' | '.join(cells)} |")
    return "\n".join(lines)


def _break_even_table(figures: Mapping[str, Any]) -> str:
    lines = [
        "| training is the cheaper one, for future problems, than | at equal reward | by cost alone"
        " |",
        "|---|---|---|",
    ]
    for pair, told in figures["break_even"].items():
        equal = "; ".join(each["equal reward"] for each in told)
        cost = "; ".join(each["cost alone"] for each in told)
        lines.append(f"| {pair} | {equal} | {cost} |")
    return "\n".join(lines)


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _shown(figure: tuple[float, tuple[float, float]], digits: int, scale: float = 1.0) -> str:
    value, (low, high) = figure
    half = "" if math.isinf(high) else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * value:.{digits}f}{half}"


def _spent(spent: Sequence[float | None]) -> str:
    """The mean of the replicates that got there, and how many did where it is not all."""
    there = [usd for usd in spent if usd is not None]
    if not there:
        return "never"
    rest = f" ({len(there)} of {len(spent)})" if len(there) < len(spent) else ""
    return _shown(mean_and_interval(there), 4) + rest


def _shown_ratio(ratio: Mapping[str, Any]) -> str:
    if ratio["value"] is None:
        return "—"
    value, (low, high) = ratio["value"]
    ends = "" if math.isinf(high) else f" [{low:.2f}, {high:.2f}]"
    rest = f" ({ratio['replicates']} of {ratio['of']})" if ratio["replicates"] < ratio["of"] else ""
    return f"× {value:.2f}{ends}{rest}"
