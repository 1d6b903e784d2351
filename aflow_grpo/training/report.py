"""What a run prints at its end: the table of headline figures, and one workflow in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from aflow_grpo.records import DOMAINS, OperatorCall, Rollout, WorkflowSource
from aflow_grpo.terminal import printable
from aflow_grpo.workflow.library import fallback_workflow

__all__ = [
    "choose_example",
    "evaluation_table",
    "example_view",
    "masked_note",
    "table_note",
]

_SHOWN_CHARS = 400
_UNKNOWN = "–"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _per_thousand(value: float) -> str:
    return f"{1000 * value:.2f}"


_ROWS: Mapping[str, Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "sampled": {
        "direct": ("direct_execution_rate", _share),
        "accuracy": ("accuracy", _share),
        "reward": ("reward", lambda v: f"{v:.1f}"),
        "fallback": ("fallback_rate", _share),
        "USD / 1000": ("cost_usd_per_problem", _per_thousand),
        "writing": ("policy_cost_usd_per_problem", _per_thousand),
    },
    "greedy": {
        "direct": ("direct_execution_rate_greedy", _share),
        "accuracy": ("accuracy_greedy", _share),
    },
}
"""How workflows are drawn -> label -> metric, and how a value of it is written."""
_WHERE_THERE_IS_ONE = {"policy_cost_usd_per_problem"}


def evaluation_table(
    title: str, split: str, after: Mapping[str, float], before: Mapping[str, float] | None = None
) -> Table:
    """Headline figures in total and per domain present; with `before`, as ``before → after``.

    Below a figure is its 95 % interval, where it has one. Fits into 80 columns.
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
    present = [d for d in DOMAINS if any(key.endswith((f"/{d}", f".{d}")) for key in after)]
    for column in ("all", *present):
        table.add_column(column, justify="right", no_wrap=True)
    ends = ("", *(f"/{domain}" for domain in present))
    moments = [after] if before is None else [before, after]
    for kind, figures in _ROWS.items():
        if all(f"{split}/{name}" not in after for name, _ in figures.values()):
            continue
        problems = f"{split}/problems{'' if kind == 'sampled' else '_greedy'}"
        numbers = (f"n = {after[problems + e]:.0f}" if problems + e in after else "" for e in ends)
        table.add_row(Text(kind, "bold"), *(Text(number, "dim") for number in numbers))
        for label, (name, text) in figures.items():
            if name in _WHERE_THERE_IS_ONE and f"{split}/{name}" not in after:
                continue
            table.add_row(f"  {label}", *_row(f"{split}/{name}", ends, moments, text))
            intervals = [
                _intervals(split, f"{name}{end.replace('/', '.')}", moments) for end in ends
            ]
            if any(intervals):
                table.add_row("", *(Text(cell, "dim") for cell in intervals))
    return table


def _row(
    name: str,
    ends: Sequence[str],
    moments: Sequence[Mapping[str, float]],
    text: Callable[[float], str],
) -> list[str]:
    return [
        " → ".join(text(m[name + end]) if name + end in m else _UNKNOWN for m in moments)
        for end in ends
    ]


def _intervals(split: str, name: str, moments: Sequence[Mapping[str, float]]) -> str:
    """Both ends of a rate's, in percent; of a reward's half its width, which is narrower to read.

    Empty where no moment has one.
    """
    told = []
    for figures in moments:
        low = figures.get(f"{split}/ci95_low/{name}")
        high = figures.get(f"{split}/ci95_high/{name}")
        if low is None or high is None:
            told.append(_UNKNOWN)
        elif name.startswith("reward"):
            told.append(f"±{(high - low) / 2:.1f}")
        else:
            told.append(f"{100 * low:.0f}–{100 * high:.0f}")
    return "" if set(told) == {_UNKNOWN} else " → ".join(told)


def table_note(split: str, metrics: Mapping[str, float], samples: int) -> str:
    """What the table's small print means; empty where it has none.

    Args:
        split: ``val`` or ``test``.
        metrics: An evaluation's.
        samples: Sampled workflows per problem.
    """
    if f"{split}/problems_greedy" not in metrics:
        return ""
    kinds = f"{samples} sampled workflow{'s' if samples > 1 else ''} and the greedy one"
    drawn = kinds if samples else "the greedy workflow"
    return (
        f"n problems, {drawn} for each. Second lines are\n"
        "95 % intervals over problems. direct: ran exactly as written. USD: list cost."
    )


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
        Text(printable(_shortened(rollout.problem.question)), style="italic"),
    ]
    if execution.source is not None:
        parts += _workflow(execution.source)
    else:
        # What is no workflow may be anything: one paragraph of it will do.
        parts.append(Text(printable(_shortened(" ".join(rollout.completion.text.split())))))
    parts += map(_call, execution.calls)
    if execution.message:
        parts.append(Text(printable(f"  {execution.status}: {execution.message}")))
    problem = rollout.problem
    gold = f" (gold {printable(problem.answer)})" if problem.domain != "code" else ""
    verdict = "right" if rollout.score.correct else "wrong"
    if execution.answer is None:
        parts.append(Text(f"  no answer{gold}"))
    else:
        parts.append(Text(f"  answer, {verdict}: {printable(execution.answer.strip())}{gold}"))
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
        shown = "no answer" if answer is None else f"answer: {printable(answer.strip())}"
        parts.append(Text(f"  {shown}{gold}"))
    return Group(*parts)


def _workflow(source: WorkflowSource) -> list[RenderableType]:
    code = printable(source.graph_code)
    return [
        Syntax(code, "python", background_color="default", word_wrap=True),
        *(Text(printable(f"  prompt for {n}: {text}")) for n, text in source.prompts.items()),
    ]


def _call(call: OperatorCall) -> Text:
    usage = call.usage
    failed = f"; failed: {call.message}" if call.message else ""
    return Text(
        f"  {call.operator}: {usage.calls} calls, {usage.prompt_tokens} + "
        f"{usage.completion_tokens} tokens, ${usage.cost_usd:.6f}{printable(failed)}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} …"
