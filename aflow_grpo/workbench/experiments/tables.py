"""Rows as figures with intervals, and figures as Markdown.

A figure is the mean over repetitions of the mean over problems, several samples of a problem
averaged first; `evaluation.crossed` has the interval. Not here: where rows come from (`rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.evaluation.crossed import CrossedFigure, crossed_difference, crossed_mean
from aflow_grpo.workbench.experiments.rows import Row

__all__ = [
    "METRICS",
    "Metric",
    "arms_page",
    "cells",
    "difference",
    "figure",
    "markdown_table",
    "size_of",
]


@dataclass(frozen=True)
class Metric:
    """A figure of a row."""

    name: str
    title: str
    of: Callable[[Row], float]
    form: str = "share"
    """``share``: in percent; ``reward``; ``usd``: in USD per 1,000 problems; ``number``."""

    def text(self, figure: CrossedFigure, *, signed: bool = False) -> str:
        """The figure with its interval, for a table; `signed` for a difference."""
        low, high = figure.low, figure.high
        if self.form == "share" and not signed:
            low, high = max(0.0, low), min(1.0, high)
        return f"{self.number(figure.value, signed)} [{self.number(low)}, {self.number(high)}]"

    def number(self, value: float, signed: bool = False) -> str:
        """One number, in the metric's unit."""
        scale, digits = {"share": (100, 1), "usd": (1000, 3)}.get(self.form, (1, 2))
        return f"{scale * value:{'+' if signed else ''}.{digits}f}"


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("direct", "direct, %", lambda row: row.direct),
        Metric("fallback", "fallback, %", lambda row: row.fallback),
        Metric("accuracy", "accuracy, %", lambda row: row.correct),
        Metric("reward", "reward", lambda row: row.reward, "reward"),
        Metric("usd", "USD / 1,000", lambda row: row.cost_usd, "usd"),
        Metric("calls", "calls", lambda row: row.calls, "number"),
    )
}
"""By name."""


def cells(rows: Iterable[Row], metric: Metric) -> dict[int, dict[str, float]]:
    """Repetition -> problem -> mean of the metric over the rows of that problem."""
    sums: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        problems = sums.setdefault(row.replicate, {})
        problems.setdefault(row.problem, []).append(float(metric.of(row)))
    return {
        replicate: {problem: sum(values) / len(values) for problem, values in problems.items()}
        for replicate, problems in sorted(sums.items())
    }


def figure(rows: Sequence[Row], name: str) -> CrossedFigure:
    """A metric of rows of one arm."""
    return crossed_mean(cells(rows, METRICS[name]))


def difference(first: Sequence[Row], other: Sequence[Row], name: str) -> CrossedFigure:
    """A metric of `other` minus that of `first`, paired by repetition and problem."""
    metric = METRICS[name]
    return crossed_difference(cells(first, metric), cells(other, metric))


def arms_page(rows: Sequence[Row], reference: str, metrics: Sequence[str]) -> str:
    """Every arm's figures, its differences to the reference, and its figures by data set."""
    judged = _groups(rows, lambda row: (row.set, row.arm, row.mode))
    head = ["set", "arm", "", "n", *(METRICS[name].title for name in metrics)]
    lines, apart = [], []
    for (judged_on, arm, mode), members in judged.items():
        figures = [figure(members, name) for name in metrics]
        texts = [METRICS[n].text(f) for n, f in zip(metrics, figures, strict=True)]
        lines.append([judged_on, arm, mode, size_of(figures[0]), *texts])
        base = judged.get((judged_on, reference, mode))
        if base is not None and arm != reference:
            texts = _differences(base, members, metrics)
            apart.append([judged_on, f"{arm} - {reference}", mode, *texts])
    page = markdown_table(head, lines)
    if apart:
        page += "\nDifferences, paired by repetition and problem:\n\n"
        page += markdown_table(head, apart)
    return page + "\nBy data set:\n\n" + _by_dataset(rows, metrics)


def _differences(base: Sequence[Row], members: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """How many pairs there are, then each metric's difference; empty where there are none."""
    try:
        found = [difference(base, members, name) for name in metrics]
    except ValueError:  # other repetitions
        return [""] * (1 + len(metrics))
    texts = [METRICS[n].text(f, signed=True) for n, f in zip(metrics, found, strict=True)]
    return [size_of(found[0]) if found else "", *texts]


def _by_dataset(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    lines = []
    groups = _groups(rows, lambda row: (row.set, row.arm, row.mode, row.domain, row.dataset))
    for (judged_on, arm, mode, domain, dataset), members in groups.items():
        where = domain if dataset in ("sample", domain) else dataset
        texts = [METRICS[name].number(figure(members, name).value) for name in metrics]
        lines.append([judged_on, arm, mode, where, *texts])
    return markdown_table(["set", "arm", "", "", *(METRICS[n].title for n in metrics)], lines)


def _groups(
    rows: Sequence[Row], key: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their keys, in the order in which these first occur."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def size_of(figure: CrossedFigure) -> str:
    """Repetitions times problems, on average where they do not all have the same number."""
    return f"{figure.repetitions} × {figure.problems / figure.repetitions:.5g}"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; bars in its cells are escaped."""
    rows = [head, ["---"] * len(head), *lines]
    texts = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    texts[1] = texts[1].replace(" ", "")
    return "\n".join(texts) + "\n"
