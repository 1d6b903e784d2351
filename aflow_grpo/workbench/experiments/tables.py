"""Rows as figures with intervals, and figures as Markdown.

A figure is the mean over repetitions of the mean over problems, several samples of a problem
averaged first; `evaluation.crossed` has the interval. Not here: where rows come from (`rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.evaluation.crossed import CrossedFigure, crossed_difference, crossed_mean
from aflow_grpo.workbench.experiments.rows import Row

__all__ = ["METRICS", "Metric", "cells", "difference", "figure", "markdown_table", "mean_table"]


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


def mean_table(
    rows: Sequence[Row],
    *,
    metrics: Sequence[str] = ("direct", "accuracy", "reward", "usd"),
    split_by: Callable[[Row], str] = lambda row: row.mode,
) -> str:
    """One line for each set, arm and value of `split_by`, in the order of the rows."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.set, row.arm, split_by(row)), []).append(row)
    head = ["set", "arm", "", "n", *(METRICS[name].title for name in metrics)]
    lines = []
    for (judged_on, arm, part), members in groups.items():
        figures = [figure(members, name) for name in metrics]
        size = f"{figures[0].repetitions} × {figures[0].problems // figures[0].repetitions}"
        texts = [METRICS[n].text(f) for n, f in zip(metrics, figures, strict=True)]
        lines.append([judged_on, arm, part, size, *texts])
    return markdown_table(head, lines)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; bars in its cells are escaped."""
    rows = [head, ["---"] * len(head), *lines]
    texts = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    texts[1] = texts[1].replace(" ", "")
    return "\n".join(texts) + "\n"
