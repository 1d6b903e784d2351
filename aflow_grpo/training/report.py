"""What a run prints at its end: the table of headline figures, and one workflow in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from aflow_grpo.records import DOMAINS, Rollout

__all__ = ["choose_example", "evaluation_table", "example_view"]

_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("direct, sampled", "direct_execution_rate", lambda v: f"{v:.0%}"),
    ("direct, greedy", "direct_execution_rate_greedy", lambda v: f"{v:.0%}"),
    ("accuracy, sampled", "accuracy", lambda v: f"{v:.0%}"),
    ("accuracy, greedy", "accuracy_greedy", lambda v: f"{v:.0%}"),
    ("reward, sampled", "reward", lambda v: f"{v:.1f}"),
    ("fallback, sampled", "fallback_rate", lambda v: f"{v:.0%}"),
    ("USD / 1000 problems", "cost_usd_per_problem", lambda v: f"{1000 * v:.2f}"),
)


def evaluation_table(
    title: str, split: str, after: Mapping[str, float], before: Mapping[str, float] | None = None
) -> Table:
    """Headline figures in total and per domain present; with `before`, as ``before -> after``.

    Fits into 80 columns.
    """
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True)
    present = [d for d in DOMAINS if any(key.endswith(f"/{d}") for key in after)]
    for column in ("all", *present):
        table.add_column(column, justify="right", no_wrap=True)
    for label, name, text in _ROWS:
        cells = []
        for suffix in ("", *(f"/{domain}" for domain in present)):
            key = f"{split}/{name}{suffix}"
            now = text(after[key]) if key in after else "–"
            then = text(before[key]) if before and key in before else "–"
            cells.append(f"{then} → {now}" if before is not None else now)
        table.add_row(label, *cells)
    return table


def choose_example(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The rollout that shows most: right if there is one, with the most operator calls."""
    return max(
        rollouts,
        key=lambda r: (r.score.correct, r.execution.direct, len(r.execution.calls)),
        default=None,
    )


def example_view(rollout: Rollout) -> RenderableType:
    """One problem with its workflow, operator calls, answer and reward."""
    execution, reward = rollout.execution, rollout.reward
    question = rollout.problem.question
    parts: list[RenderableType] = [
        Text(f"One workflow, for {rollout.problem.id}", style="bold"),
        Text(question if len(question) <= 400 else f"{question[:400]} …", style="italic"),
    ]
    if execution.source is not None:
        parts.append(
            Syntax(
                execution.source.graph_code, "python", background_color="default", word_wrap=True
            )
        )
        parts += [
            Text(f"  prompt for {name}: {text}") for name, text in execution.source.prompts.items()
        ]
    else:
        parts.append(Text(rollout.completion.text))
    for call in execution.calls:
        usage = call.usage
        parts.append(
            Text(
                f"  {call.operator}: {usage.calls} calls, {usage.prompt_tokens} + "
                f"{usage.completion_tokens} tokens, ${usage.cost_usd:.6f}"
            )
        )
    if execution.message:
        parts.append(Text(f"  {execution.status}: {execution.message}"))
    gold = f" (gold {rollout.problem.answer})" if rollout.problem.domain != "code" else ""
    verdict = "right" if rollout.score.correct else "wrong"
    if execution.answer is None:
        parts.append(Text(f"  no answer{gold}"))
    else:
        parts.append(Text(f"  answer, {verdict}: {execution.answer.strip()}{gold}"))
    parts.append(
        Text(
            f"  reward {reward.total:+.2f}: correctness {reward.correctness:.0f}, efficiency "
            f"{reward.efficiency:.1f}, simplicity {reward.simplicity:.1f}, format "
            f"{reward.format:.0f}, repetition {reward.repetition:.1f}, penalty {reward.penalty:g}"
        )
    )
    return Group(*parts)
