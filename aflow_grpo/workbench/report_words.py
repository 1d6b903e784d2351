"""Numbers and verdicts of a report as a person reads them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aflow_grpo.workbench.comparing import Comparison
from aflow_grpo.workbench.figures import Figure, is_share

__all__ = [
    "LABELS",
    "change_text",
    "figure_text",
    "interval_text",
    "moment_text",
    "signed_text",
    "span_text",
    "value_text",
    "verdict_words",
]

_POINTS = " points"
LABELS = {
    "accuracy": "Accuracy",
    "direct_execution_rate": "Direct execution",
    "reward": "Reward",
    "fallback_rate": "Fallback needed",
    "cost_usd_per_problem": "USD per 1,000 problems",
}


def figure_text(figure: Figure | None, metric: str) -> str:
    """A figure; a dash where there is none."""
    return "–" if figure is None else value_text(metric, figure.value)


def value_text(metric: str, value: float) -> str:
    """A metric's value: shares in percent, costs for 1,000 problems."""
    if is_share(metric):
        return f"{value:.0%}" if value in (0.0, 1.0) else f"{100 * value:.1f}%"
    if metric == "cost_usd_per_problem":
        return f"${1000 * value:.3f}"
    return f"{value:+.2f}".replace("-", "−")


def change_text(found: Comparison | None, metric: str) -> str:
    """A difference; empty where there is none."""
    return "" if found is None else signed_text(metric, found.difference)


def verdict_words(found: Comparison, metric: str) -> tuple[str, str, str]:
    """Words, a class for the colour, a sign; what costs more is not worse by itself."""
    if found.verdict in ("better", "worse"):
        if metric == "cost_usd_per_problem":
            dearer = found.difference > 0
            return ("costs more", "plain", "▲") if dearer else ("costs less", "plain", "▼")
        good = found.verdict == "better"
        return found.verdict, "good" if good else "bad", "▲" if good else "▼"
    return found.verdict, "plain", "≈" if found.verdict == "within noise" else "?"


def interval_text(found: Comparison | Figure | None, metric: str) -> str:
    """The 95 % interval of a figure or a difference; empty where it is not known."""
    if found is None or found.low is None or found.high is None:
        return ""
    if isinstance(found, Figure):
        return f"{value_text(metric, found.low)} to {value_text(metric, found.high)}"
    if not found.spread:
        return "the same on each problem"
    low = signed_text(metric, found.low).removesuffix(_POINTS)  # once will do
    return f"{low} to {signed_text(metric, found.high)}"


def signed_text(metric: str, value: float) -> str:
    """A difference of a metric with its sign: shares in points of percent."""
    if is_share(metric):
        text = f"{100 * value:+.1f}{_POINTS}"
    elif metric == "cost_usd_per_problem":
        text = f"{'−' if value < 0 else '+'}${abs(1000 * value):.3f}"
    else:
        text = f"{value:+.2f}"
    return text.replace("-", "−")


def moment_text(unix_s: float) -> str:
    """A moment, to the minute."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"


def span_text(seconds: float) -> str:
    """A length of time."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = math.floor(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
