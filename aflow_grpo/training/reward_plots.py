"""One picture of a run's course: reward and its parts, direct execution, accuracy, cost.

MLflow draws one chart for each metric; here those that belong together share one. Pure: series in,
PNG out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from aflow_grpo.records import DOMAINS
from aflow_grpo.training.metrics import REWARD_PARTS

__all__ = ["PLOTTED", "Series", "draw_course"]

Series = Mapping[str, Mapping[int, float]]
"""Metric -> step -> value."""

_RATES = (("direct_execution_rate", "direct execution"), ("accuracy", "accuracy"))
_COST = "train/cost_usd_total"
PLOTTED = (
    *(f"{split}/reward" for split in ("train", "val")),
    *(f"train/reward/{part}" for part in REWARD_PARTS),
    *(
        f"{split}/{name}{end}"
        for split in ("train", "val")
        for name, _ in _RATES
        for end in ("", *(f"/{domain}" for domain in DOMAINS))
    ),
    _COST,
)
"""The metrics that a picture shows."""
_COLOURS = dict(zip(("", *DOMAINS), ("black", "tab:blue", "tab:orange", "tab:green"), strict=True))


def draw_course(series: Series, title: str) -> bytes:
    """A PNG with four panels: reward and its parts, two rates by domain, cost.

    Training is a line, a validation a point. What is not in `series` is left out.
    """
    # Drawing takes a while to import and is not needed by every logger.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), dpi=100)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.08, top=0.9, hspace=0.32, wspace=0.16)
    figure.suptitle(title)
    panels = figure.subplots(2, 2)
    _reward(panels[0][0], series)
    for panel, (name, label) in zip((panels[0][1], panels[1][0]), _RATES, strict=True):
        _rate(panel, series, name, label)
    _line(panels[1][1], series.get(_COST, {}), "in all", color="black")
    panels[1][1].set_title("list cost, USD")
    panels[1][1].set_ylim(bottom=0)
    for panel in panels.flat:
        panel.set_xlabel("iteration")
        panel.grid(alpha=0.3)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small", ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _reward(panel: Any, series: Series) -> None:
    _line(panel, series.get("train/reward", {}), "total", color="black", linewidth=2)
    for part in REWARD_PARTS:
        _line(panel, series.get(f"train/reward/{part}", {}), part, linewidth=1)
    _points(panel, series.get("val/reward", {}), "total, validation", "black")
    panel.set_title("reward and its parts, points")


def _rate(panel: Any, series: Series, name: str, label: str) -> None:
    for domain, colour in _COLOURS.items():
        end = f"/{domain}" if domain else ""
        width = 1 if domain else 2
        shown = domain or "all"
        _line(panel, series.get(f"train/{name}{end}", {}), shown, color=colour, linewidth=width)
        _points(panel, series.get(f"val/{name}{end}", {}), f"{shown}, validation", colour)
    panel.set_title(f"{label}, share of workflows")
    panel.set_ylim(-0.03, 1.03)


def _line(panel: Any, values: Mapping[int, float], label: str, **style: Any) -> None:
    if values:
        steps = sorted(values)
        panel.plot(steps, [values[step] for step in steps], label=label, **style)


def _points(panel: Any, values: Mapping[int, float], label: str, colour: str) -> None:
    if values:
        steps = sorted(values)
        panel.plot(
            steps, [values[step] for step in steps], "o", color=colour, label=label, zorder=3,
            markeredgecolor="white",
        )  # fmt: skip
