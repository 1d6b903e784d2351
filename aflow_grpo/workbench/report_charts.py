"""The charts of a report, as plotly figures in JSON: what is drawn, and a sentence that says it.

Colours are the page's: a trace names one of them, and the page's script puts in what reads well on
a light or a dark ground. Names come from runs and may hold markup, which plotly would obey in
labels: they are escaped here. Not here: the page (`reporting`), where the figures come from
(`report_data`).
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aflow_grpo.records import DOMAINS
from aflow_grpo.terminal import printable
from aflow_grpo.training.metrics import REWARD_PARTS
from aflow_grpo.workbench.report_data import ReportData
from aflow_grpo.workbench.runs import Points

__all__ = ["Chart", "charts_of", "thinned"]

_MOST_POINTS = 400
"""Of one curve; more do not show on a screen."""
_MOST_NAMES = 8
"""Of one chart; the others are summed up."""
_STEP = "step"
_FEW_STEPS = 6
_MINUS = "\N{MINUS SIGN}"
_DASHES = {"all": "solid", "math": "solid", "code": "dash", "qa": "dot"}
_COLOURS = {"all": "ink", "math": "c1", "code": "c2", "qa": "c3"}
_STATUSES = {
    "ok": "good", "error": "c2", "timeout": "c4", "cut": "c6", "invalid": "bad",
    "unavailable": "faint",
}  # fmt: skip
_SERIES = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
_HEALTH = (
    ("train/entropy", "Entropy, nats per token"),
    ("train/kl", "KL to the reference, nats per token"),
    ("train/grad_norm", "Gradient norm before clipping"),
    ("train/clip_fraction", "Share of clipped tokens"),
    ("train/zero_variance_groups", "Share of groups without a signal"),
    ("train/length/completion_tokens", "Tokens written"),
)


@dataclass(frozen=True)
class Chart:
    """One chart."""

    id: str
    title: str
    summary: str
    """What it shows, in words: the text for those who do not see it."""
    figure: Mapping[str, Any]
    """``data`` and ``layout`` for plotly.js."""
    legend: tuple[tuple[str, str, str], ...] = ()
    """(name, colour, ``solid``, ``dash``, ``dot``, ``area`` or a mark); none for one trace."""
    small: bool = False
    section: str = "curves"
    """``curves``, ``use`` (operators, cost), ``faults`` or ``health``."""


def charts_of(data: ReportData) -> list[Chart]:
    """Every chart that the run has figures for."""
    found = [
        _reward(data), _accuracy(data), _direct(data), _reward_parts(data),
        _operators(data), _cost(data),
        _statuses(data), _faults(data), _rules(data), _fallback(data),
        *(_health(data, name, title) for name, title in _HEALTH),
    ]  # fmt: skip
    return [chart for chart in found if chart is not None]


def thinned(points: Points, most: int = _MOST_POINTS) -> Points:
    """At most so many points, each the mean of as many neighbours; a last one may have fewer."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return tuple((part[len(part) // 2][0], _mean([v for _, v in part])) for part in parts)


# Curves


def _reward(data: ReportData) -> Chart | None:
    return _learning(
        data, "reward", "Reward", "points, from −10 to 10", {"range": [-10.5, 10.5]}, "{:+.1f}"
    )


def _accuracy(data: ReportData) -> Chart | None:
    return _learning(data, "accuracy", "Accuracy", "share answered right", _SHARE, "{:.0%}")


def _direct(data: ReportData) -> Chart | None:
    return _learning(
        data, "direct_execution_rate", "Direct execution", "share that ran as written", _SHARE,
        "{:.0%}",
    )  # fmt: skip


_SHARE = {"range": [-0.03, 1.03], "tickformat": ".0%"}


def _learning(
    data: ReportData, metric: str, title: str, unit: str, axis: Mapping[str, Any], text: str
) -> Chart | None:
    """A metric of the training rollouts by domain, and of the full evaluations as marks."""
    traces = []
    for domain in (*DOMAINS, "all"):
        end = "" if domain == "all" else f"/{domain}"
        points = data.curves.get(f"train/{metric}{end}", ())
        if points:
            width = 3 if domain == "all" else 1.3
            traces.append(
                _line(points, domain, _COLOURS[domain], dash=_DASHES[domain], width=width)
            )
    for suffix, name, symbol in (("", "validation, sampled", "diamond-open"),
                                 ("_greedy", "validation, greedy", "square-open")):  # fmt: skip
        points = data.curves.get(f"val/{metric}{suffix}", ())
        if points:
            traces.append(_marks(points, name, symbol))
    if not traces:
        return None
    points = data.curves.get(f"train/{metric}", data.curves.get(f"val/{metric}", ()))
    summary = f"{_from_to(points, text)} {title} by step in training ({unit}), by domain."
    return _chart(metric, title, summary, traces, axis)


def _reward_parts(data: ReportData) -> Chart | None:
    traces = []
    told = []
    for part, colour in zip(REWARD_PARTS, (*_SERIES[:5], "bad"), strict=True):
        points = data.curves.get(f"train/reward/{part}", ())
        if not points:
            continue
        # Ten points of a dimension are one of the reward; the penalty is in the reward's own.
        scale = 1.0 if part == "penalty" else 0.1
        scaled = tuple((step, scale * value) for step, value in points)
        stack = "penalty" if part == "penalty" else "parts"
        traces.append(_area(scaled, part, colour, stack))
        ends = f"{scaled[0][1]:+.1f} to {scaled[-1][1]:+.1f}"
        told.append(f"{part} {ends.replace('-', _MINUS)}")
    if not traces:
        return None
    summary = f"What the reward is made of, first to last step: {', '.join(told)}."
    return _chart("reward_parts", "Reward by part", summary, traces, {"zeroline": True})


# What ran, what it cost


def _operators(data: ReportData) -> Chart | None:
    curves = _under(data.curves, "train/operators/")
    return _stacked(
        "operators", "Operator use", curves, {}, "use",
        "Calls of each operator per workflow that ran, by step in training.",
    )  # fmt: skip


def _cost(data: ReportData) -> Chart | None:
    traces = []
    for domain in (*DOMAINS, "all"):
        end = "" if domain == "all" else f"/{domain}"
        points = data.curves.get(f"train/cost_usd_per_problem{end}", ())
        if points:
            scaled = tuple((step, 1000 * value) for step, value in points)
            width = 3 if domain == "all" else 1.3
            traces.append(
                _line(scaled, domain, _COLOURS[domain], dash=_DASHES[domain], width=width)
            )
    if not traces:
        return None
    points = data.curves.get("train/cost_usd_per_problem", ())
    told = _from_to(tuple((s, 1000 * v) for s, v in points), "${:.3f}")
    summary = f"{told} List cost of the policy's own workflows in USD per 1,000 problems, by step."
    return _chart("cost", "Cost per 1,000 problems", summary, traces,
                  {"tickprefix": "$", "rangemode": "tozero"}, "use")  # fmt: skip


# What went wrong


def _statuses(data: ReportData) -> Chart | None:
    curves = _under(data.curves, "train/status/")
    ordered = {name: curves[name] for name in _STATUSES if any(v for _, v in curves.get(name, ()))}
    return _stacked(
        "statuses", "How executions ended", ordered, _SHARE, "faults",
        "Share of each status by step in training. Ok means that the workflow ran to an answer.",
        _STATUSES,
    )  # fmt: skip


def _faults(data: ReportData) -> Chart | None:
    curves = _under(data.curves, "train/fault/")
    steps = [step for step, _ in data.curves.get("train/reward", ())]
    # A kind is logged at the steps at which it came up.
    known = {name: dict(points) for name, points in curves.items()}
    filled = {
        name: tuple((step, known[name].get(step, 0.0)) for step in steps) if steps else points
        for name, points in curves.items()
    }
    return _stacked(
        "faults", "Kinds of fault", filled, {"tickformat": ".0%", "rangemode": "tozero"}, "faults",
        "Share of workflows that failed for each kind of fault, by step in training.",
    )  # fmt: skip


def _rules(data: ReportData) -> Chart | None:
    return _stacked(
        "rules", "Findings by rule", data.rules, {"rangemode": "tozero"}, "faults",
        "What validation found wrong, by rule: findings per workflow, by step in training.",
    )  # fmt: skip


def _fallback(data: ReportData) -> Chart | None:
    points = data.curves.get("train/fallback_rate", ())
    if not points:
        return None
    traces = [_area(points, "needs the fallback", "c2", "one")]
    summary = (
        f"{_from_to(points, '{:.0%}')} Share of workflows in whose place the fixed workflow of "
        "the domain has to answer, by step in training."
    )
    return _chart("fallback", "Fallback", summary, traces, _SHARE, "faults")


def _health(data: ReportData, metric: str, title: str) -> Chart | None:
    points = data.curves.get(metric, ())
    if not points:
        return None
    traces = [_line(points, title, "c1", width=2)]
    told = _from_to(points, "{:.3g}")
    return _chart(metric.replace("/", "_"), title, told, traces, {"rangemode": "tozero"},
                  "health", small=True)  # fmt: skip


# Traces


def _stacked(
    name: str,
    title: str,
    curves: Mapping[str, Points],
    axis: Mapping[str, Any],
    section: str,
    summary: str,
    colours: Mapping[str, str] | None = None,
) -> Chart | None:
    """Areas on top of each other; the biggest first, the smallest in one."""
    shown = {k: p for k, p in curves.items() if any(v for _, v in p)}
    if not shown:
        return None
    if colours is None:
        order = sorted(shown, key=lambda k: -_mean([v for _, v in shown[k]]))
        shown = {k: shown[k] for k in order[:_MOST_NAMES]} | _others(shown, order[_MOST_NAMES:])
        colours = dict(zip(shown, (*_SERIES, "faint"), strict=False))
    traces = [_area(points, k, colours[k], "one") for k, points in shown.items()]
    told = ", ".join(f"{k} {p[0][1]:.2g} to {p[-1][1]:.2g}" for k, p in list(shown.items())[:3])
    return _chart(name, title, f"{summary} First to last step: {told}.", traces, axis, section)


def _others(curves: Mapping[str, Points], names: Sequence[str]) -> dict[str, Points]:
    if not names:
        return {}
    sums: dict[int, float] = {}
    for name in names:
        for step, value in curves[name]:
            sums[step] = sums.get(step, 0.0) + value
    return {f"{len(names)} others": tuple(sorted(sums.items()))}


def _line(
    points: Points, name: str, colour: str, *, dash: str = "solid", width: float = 2
) -> go.Scatter:
    points = thinned(points)
    mode = "lines+markers" if len(points) == 1 else "lines"
    return go.Scatter(
        **_xy(points), name=_label(name), mode=mode, meta=colour, hoverinfo="x+y+name",
        line={"dash": dash, "width": width}, marker={"size": 6}, cliponaxis=False,
    )  # fmt: skip


def _area(points: Points, name: str, colour: str, stack: str) -> go.Scatter:
    points = thinned(points)
    mode = "lines+markers" if len(points) == 1 else "lines"
    return go.Scatter(
        **_xy(points), name=_label(name), mode=mode, meta=colour, stackgroup=stack,
        hoverinfo="x+y+name", line={"width": 0.8},
    )  # fmt: skip


def _marks(points: Points, name: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        **_xy(thinned(points)), name=_label(name), mode="markers", meta="c5",
        hoverinfo="x+y+name", marker={"symbol": symbol, "size": 11, "line": {"width": 2}},
        cliponaxis=False,
    )  # fmt: skip


def _xy(points: Points) -> dict[str, list[float | None]]:
    """What is no number is a gap."""
    return {
        "x": [step for step, _ in points],
        "y": [value if math.isfinite(value) else None for _, value in points],
    }


def _chart(
    name: str,
    title: str,
    summary: str,
    traces: Sequence[go.Scatter],
    axis: Mapping[str, Any],
    section: str = "curves",
    *,
    small: bool = False,
) -> Chart:
    last = max((x for trace in traces for x in trace.x), default=0) or 1
    layout = go.Layout(
        xaxis={
            "title": {"text": _STEP, "standoff": 6},
            "range": [-0.025 * last, 1.025 * last],
            **({"dtick": 1} if last <= _FEW_STEPS else {}),  # else there are ticks between steps
        },
        yaxis=dict(axis),
        showlegend=False,
        hovermode="x unified" if len(traces) > 1 else "closest",
    )
    # Through plotly's own classes: a property that it does not know raises here.
    figure = go.Figure(list(traces), layout).to_plotly_json()
    figure["layout"].pop("template", None)
    legend = tuple(_in_legend(trace) for trace in traces) if len(traces) > 1 else ()
    return Chart(name, title, summary.strip(), figure, legend, small, section)


def _in_legend(trace: go.Scatter) -> tuple[str, str, str]:
    kind = "area" if trace.stackgroup else trace.line.dash
    if trace.mode == "markers":
        kind = trace.marker.symbol
    return html.unescape(trace.name), trace.meta, kind


def _under(curves: Mapping[str, Points], prefix: str) -> dict[str, Points]:
    return {name[len(prefix) :]: p for name, p in curves.items() if name.startswith(prefix)}


def _from_to(points: Points, text: str) -> str:
    if not points:
        return ""
    (first_step, first), (last_step, last) = points[0], points[-1]
    began, ended = (text.format(value).replace("-", _MINUS) for value in (first, last))
    if first_step == last_step:
        return f"{began} at step {first_step}."
    return f"{began} at step {first_step}, {ended} at step {last_step}."


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _label(name: str) -> str:
    """A name as plotly shows it: no tags, no entities, no template of its own."""
    return html.escape(printable(name), quote=False).replace("%{", "% {").replace("_", " ")
