"""The workflows that a report shows in full: which ones, and what a page needs of each.

Everything of a rollout is a model's text and hostile: it leaves here as plain text, as HTML that
pygments escaped, or as a picture in a data URI, in which a browser runs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from aflow_grpo.predictions import prediction_row
from aflow_grpo.records import Rollout, WorkflowSource
from aflow_grpo.terminal import printable
from aflow_grpo.training.metrics import REWARD_PARTS
from aflow_grpo.workflow.picture import to_svg, workflow_graph

__all__ = ["Card", "best_and_worst", "card_of", "clean"]

SHOWN = 4
"""Of the best and of the worst."""
_MOST_CHARS = 6000
"""Of one text; a policy may have written until its limit."""
_WEIGHTS = {"correctness": 65, "efficiency": 15, "simplicity": 10, "format": 5, "repetition": 5}
"""Of the default preset; only for the length of a bar, and a part may be longer."""


@dataclass(frozen=True)
class Card:
    """One workflow on one problem."""

    row: dict[str, Any]
    """See `prediction_row`."""
    title: str
    context: str
    gold: str
    right: bool
    code: Markup | None
    """The graph code, highlighted; None where the text holds no workflow."""
    text: str
    """What the policy wrote, where it is no workflow."""
    picture: str
    """A data URI; empty where there is no workflow."""
    picture_text: str
    parts: Sequence[tuple[str, float, float]]
    """Reward by part: name, points, share of its weight in [0, 1]."""


def best_and_worst(rollouts: Sequence[Rollout]) -> tuple[list[Rollout], list[Rollout]]:
    """The best that were right and the worst that were not; no workflow and no fault twice.

    Of the best with equal rewards those with more operators come first, one of each domain before
    a second of any; of the worst, one of each kind of fault before a second of any.
    """
    counted = [rollout for rollout in rollouts if not rollout.masked]
    right = sorted(
        (r for r in counted if r.score.correct),
        key=lambda r: (-r.reward.total, -len(r.execution.calls)),
    )
    wrong = sorted((r for r in counted if not r.score.correct), key=lambda r: r.reward.total)
    best = _varied(right, [r.problem.domain for r in right])
    worst = _varied(wrong, [str(r.execution.fault_kind or "wrong") for r in wrong])
    return best, worst


def card_of(rollout: Rollout) -> Card:
    """What the page shows of a rollout."""
    row = _cleaned(prediction_row(rollout, gold_known=True))
    source = rollout.execution.source
    picture = "" if source is None else _picture(source)
    names = [call["operator"] for call in row["operators"]]
    return Card(
        row=row,
        title=clean(rollout.problem.id),
        context=clean(rollout.problem.context),
        gold=clean(rollout.problem.answer),
        right=rollout.score.correct,
        code=None if source is None else _highlighted(source.graph_code),
        text="" if source is not None else clean(rollout.completion.text),
        picture=picture,
        picture_text=f"Picture of the workflow. Calls: {', '.join(names) or 'none ran'}.",
        parts=[
            (part, value, min(1.0, abs(value) / _WEIGHTS.get(part, 10)))
            for part in REWARD_PARTS
            if (value := getattr(rollout.reward, part)) or part != "penalty"
        ],
    )


def clean(text: str) -> str:
    """Text without control characters and of a length that a page can hold."""
    shown = printable(text.replace("\r\n", "\n").expandtabs(4))
    if len(shown) <= _MOST_CHARS:
        return shown
    return f"{shown[:_MOST_CHARS]} … ({len(shown) - _MOST_CHARS:,} more characters)"


def _varied(ordered: Sequence[Rollout], kinds: Sequence[str]) -> list[Rollout]:
    """The first of each kind, then the second of each, and so on; no text twice."""
    seen: dict[str, int] = {}
    texts: set[str] = set()
    placed = []
    for i, (rollout, kind) in enumerate(zip(ordered, kinds, strict=True)):
        source = rollout.execution.source
        text = rollout.completion.text if source is None else source.graph_code
        if text not in texts:
            texts.add(text)
            placed.append((seen.get(kind, 0), i, rollout))
            seen[kind] = seen.get(kind, 0) + 1
    chosen = sorted(placed, key=lambda place: place[:2])[:SHOWN]
    return [rollout for _, _, rollout in chosen]


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _cleaned(part) for key, part in value.items()}
    return [_cleaned(part) for part in value] if isinstance(value, list) else value


def _highlighted(code: str) -> Markup:
    formatter: Any = HtmlFormatter(nowrap=True)
    return Markup(highlight(clean(code), PythonLexer(), formatter))  # escapes what it is given


def _picture(source: WorkflowSource) -> str:
    svg = to_svg(workflow_graph(source)).encode("utf-8", "replace")
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
