"""Learning curves of several runs under each of several settings, as one picture.

Of each setting the mean over its runs is a line, and the lowest and highest run bound a band. Pure:
series in, SVG out, equal series give equal bytes. Not here: where the series come from.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

__all__ = ["History", "draw_curves", "smoothed"]

History = Mapping[int, float]
"""Iteration -> value, of one run."""


def smoothed(history: History, window: int) -> dict[int, float]:
    """The mean over the last `window` values up to each iteration, fewer at the beginning.

    Args:
        history: Of one run.
        window: From 1, which leaves it as it is.
    """
    steps = sorted(history)
    return {
        step: fmean(history[at] for at in steps[max(0, n + 1 - window) : n + 1])
        for n, step in enumerate(steps)
    }


def draw_curves(
    panels: Mapping[str, Mapping[str, Sequence[History]]], title: str, *, window: int = 5
) -> str:
    """An SVG with one panel for each figure, side by side.

    Args:
        panels: Title of a panel -> name of a setting -> its runs.
        title: Of the picture.
        window: As of `smoothed`.
    """
    # Drawing takes a while to import and is not needed by every experiment.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(panels), 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, (name, settings) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for setting, runs in settings.items():
            histories = [smoothed(run, window) for run in runs if run]
            steps = sorted({step for history in histories for step in history})
            values = [[history[step] for history in histories if step in history] for step in steps]
            (line,) = axes.plot(
                steps, [fmean(at) for at in values], label=f"{setting} ({len(histories)})"
            )
            low, high = [min(at) for at in values], [max(at) for at in values]
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_title(name)
        axes.set_xlabel(f"iteration (mean of the last {window})" if window > 1 else "iteration")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", title="setting (runs)")
    buffer = io.StringIO()
    # Text stays text; names of parts hang on the salt alone, and no date is written.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
