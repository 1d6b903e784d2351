"""What a run prints at its end: the table of headline figures, and one workflow in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from aflow_grpo.records import DOMAINS, OperatorCall, Rollout, WorkflowSource
from aflow_grpo.workflow.library import fallback_workflow

__all__ = ["choose_example", "evaluation_table", "example_view", "masked_note"]

_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("direct, sampled", "direct_execution_rate", lambda v: f"{v:.0%}"),
    ("direct, greedy", "direct_execution_rate_greedy", lambda v: f"{v:.0%}"),
    ("accuracy, sampled", "accuracy", lambda v: f"{v:.0%}"),
    ("accuracy, greedy", "accuracy_greedy", lambda v: f"{v:.0%}"),
    ("reward, sampled", "reward", lambda v: f"{v:.1f}"),
    ("fallback, sampled", "fallback_rate", lambda v: f"{v:.0%}"),
    ("USD / 1000 problems", "cost_usd_per_problem", lambda v: f"{1000 * v:.2f}"),
    ("USD / 1000, writing", "policy_cost_usd_per_problem", lambda v: f"{1000 * v:.2f}"),
)
_SHOWN_CHARS = 400
_WHERE_THERE_IS_ONE = {"policy_cost_usd_per_problem"}


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
        if name in _WHERE_THERE_IS_ONE and f"{split}/{name}" not in after:
            continue
        cells = []
        for suffix in ("", *(f"/{domain}" for domain in present)):
            key = f"{split}/{name}{suffix}"
            now = text(after[key]) if key in after else "–"
            then = text(before[key]) if before and key in before else "–"
            cells.append(f"{then} → {now}" if before is not None else now)
        table.add_row(label, *cells)
    return table


def masked_note(split: str, metrics: Mapping[str, float]) -> str:
    """What share of the workflows the table leaves out; empty when it has them all."""
    lost = {
        kind: metrics.get(f"{split}/status{suffix}/unavailable", 0.0)
        for kind, suffix in (("sampled", ""), ("greedy", "_greedy"))
    }
    told = [f"{share:.0%} of the {kind} workflows" for kind, share in lost.items() if share]
    if not told:
        return ""
    return f"In no figure: {' and '.join(told)}. No endpoint answered for them, or not in time."


def choose_example(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The rollout that shows most: right if there is one, with the most operator calls."""
    return max(
        rollouts,
        key=lambda r: (
            r.score.correct,
            r.execution.direct,
            len(r.execution.calls),
            len(r.execution.fallback_calls),
        ),
        default=None,
    )


def example_view(rollout: Rollout) -> RenderableType:
    """One problem with its workflow, operator calls, answer and reward; and what stood in for it.

    Where the policy's own workflow did not run, the fixed workflow that answered for the user.
    """
    execution, reward = rollout.execution, rollout.reward
    parts: list[RenderableType] = [
        Text(f"One workflow, for {rollout.problem.id}", style="bold"),
        Text(_printable(_shortened(rollout.problem.question)), style="italic"),
    ]
    if execution.source is not None:
        parts += _workflow(execution.source)
    else:
        # What is no workflow may be anything: one paragraph of it will do.
        parts.append(Text(_printable(_shortened(" ".join(rollout.completion.text.split())))))
    parts += map(_call, execution.calls)
    if execution.message:
        parts.append(Text(_printable(f"  {execution.status}: {execution.message}")))
    gold = f" (gold {rollout.problem.answer})" if rollout.problem.domain != "code" else ""
    verdict = "right" if rollout.score.correct else "wrong"
    if execution.answer is None:
        parts.append(Text(f"  no answer{gold}"))
    else:
        parts.append(Text(f"  answer, {verdict}: {_printable(execution.answer.strip())}{gold}"))
    parts.append(
        Text(
            f"  reward {reward.total:+.2f}: correctness {reward.correctness:.0f}, efficiency "
            f"{reward.efficiency:.1f}, simplicity {reward.simplicity:.1f}, format "
            f"{reward.format:.0f}, repetition {reward.repetition:.1f}, penalty {reward.penalty:g}"
        )
    )
    if execution.fallback_calls:
        parts.append(Text(f"The fixed workflow for {rollout.problem.domain} answered in its place"))
        parts += _workflow(fallback_workflow(rollout.problem.domain))
        parts += map(_call, execution.fallback_calls)
        answer = execution.fallback_answer
        shown = "no answer" if answer is None else f"answer: {_printable(answer.strip())}"
        parts.append(Text(f"  {shown}{gold}"))
    return Group(*parts)


def _workflow(source: WorkflowSource) -> list[RenderableType]:
    code = _printable(source.graph_code)
    return [
        Syntax(code, "python", background_color="default", word_wrap=True),
        *(Text(_printable(f"  prompt for {n}: {text}")) for n, text in source.prompts.items()),
    ]


def _call(call: OperatorCall) -> Text:
    usage = call.usage
    failed = f"; failed: {call.message}" if call.message else ""
    return Text(
        f"  {call.operator}: {usage.calls} calls, {usage.prompt_tokens} + "
        f"{usage.completion_tokens} tokens, ${usage.cost_usd:.6f}{_printable(failed)}"
    )


def _printable(text: str) -> str:
    """Without control characters: what a model wrote must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} …"
