"""An answered problem for a person's eyes: workflow, operators, answer, reward, who answered.

Built from the plain row, so that a stored answer can be shown too. Whatever a model wrote loses its
control characters. Not here: where it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from aflow_grpo.terminal import printable

if TYPE_CHECKING:
    from aflow_grpo.workbench.solution import Solution

__all__ = ["row_view", "solution_view", "usd"]

_PARTS = ("correctness", "efficiency", "simplicity", "format", "repetition")
_UNBOUNDED = 100_000
_MOST_CHARS = 2000
"""Of a question or an answer; the whole is in the row."""


def usd(amount: float) -> str:
    """An amount with the digits that it needs: ``$1.25``, ``$0.0123``, ``$0.000055``, ``$0``."""
    if amount == 0:
        return "$0"
    digits = 2 if amount >= 1 else 4 if amount >= 0.01 else 6
    return f"${amount:.{digits}f}"


def solution_view(solution: Solution) -> RenderableType:
    """An answered problem."""
    return row_view(solution.row(), gold=solution.rollout.problem.answer)


def row_view(row: Mapping[str, Any], *, gold: str = "") -> RenderableType:
    """An answered problem from its row.

    Args:
        row: As `Solution.row` gives it.
        gold: The right answer, to stand beside the answer; empty for none.
    """
    parts: list[RenderableType] = [
        _title("problem", row["domain"]),
        _Inset(_text(row["question"])),
        _title("workflow", _workflow_state(row)),
    ]
    parts += [_Inset(part) for part in _workflow(row)]
    parts += [_title("operators", _totals(row)), _Inset(_operators(row))]
    parts += [_title("answer", _answered_by(row)), _Inset(_answer(row))]
    parts.append(_title("reward", _total(row)))
    if row["reward"] is not None:
        parts.append(_Inset(_reward(row, gold)))
    if row.get("note"):
        parts.append(Text(f"note: {row['note']}", style="yellow"))
    return Group(*parts)


def _title(name: str, rest: str) -> Text:
    line = Text.assemble((f"{name:<10}", "bold"), (printable(rest), "dim"))
    line.no_wrap, line.overflow = True, "ignore"
    return line


class _Inset:
    """Two spaces further right; where there is no terminal, lines are as long as they are."""

    def __init__(self, part: RenderableType) -> None:
        self._part = part

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bounded = console.is_terminal or console.is_jupyter
        width = max(options.max_width - 2, 20) if bounded else _UNBOUNDED
        inner = options.update(width=width, height=None)
        for line in console.render_lines(self._part, inner, pad=False):
            yield Segment("  ")
            yield from line
            yield Segment.line()


def _text(text: str, style: str = "") -> Text:
    shown = printable(text)
    if len(shown) > _MOST_CHARS:
        shown = f"{shown[:_MOST_CHARS]} … ({len(shown):,} characters)"
    return Text(shown, style=style)


def _workflow_state(row: Mapping[str, Any]) -> str:
    workflow, status = row["workflow"], row["status"]
    if workflow is None:
        state = f"none could be read ({status})"
    elif status == "ok":
        state = "ran as written" if row["direct"] else "ran after a repair"
    elif status in ("invalid", "cut"):
        state = f"did not run: {status}"
    else:
        state = f"did not run to its end: {status}"
    return f"{state}; written by {row['written_by']}" if row.get("written_by") else state


def _workflow(row: Mapping[str, Any]) -> Iterator[RenderableType]:
    workflow = row["workflow"]
    if workflow is not None:
        for name, prompt in workflow["prompts"].items():
            yield Text.assemble((f"prompt {printable(name)}: ", "cyan"), _text(prompt))
        yield _Code(printable(workflow["graph_code"]).rstrip())
    for finding in row["findings"]:
        where = f"line {finding['line']}: " if finding["line"] else ""
        hint = f". {finding['hint']}" if finding["hint"] else ""
        warning = finding["severity"] == "warn"
        text = f"{where}{finding['message'].rstrip('.')}{hint}"
        yield _text(text, "yellow" if warning else "red")
    told = {finding["message"] for finding in row["findings"]}
    if row["message"] and row["message"] not in told:
        yield _text(row["message"], "red")


class _Code:
    """Highlighted on a terminal; elsewhere the lines as they are, without padding."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.is_terminal or console.is_jupyter:
            yield Syntax(
                self._code,
                "python",
                theme="ansi_dark",
                background_color="default",
                word_wrap=True,
            )
        else:
            yield Text(self._code)


def _totals(row: Mapping[str, Any]) -> str:
    usage, calls = row["usage"], row["operators"]
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    return (
        f"{_count(len(calls), 'operator call')}, {_count(usage['calls'], 'LLM call')}, "
        f"{tokens:,} tokens, {usd(row['cost_usd'])}, {row['seconds']:.1f} s"
    )


def _operators(row: Mapping[str, Any]) -> RenderableType:
    """Layer by layer, in the order in which they were called."""
    trees: list[RenderableType] = []
    for layer, name in (("own", "workflow"), ("fallback", "fallback workflow")):
        calls = [call for call in row["operators"] if call["layer"] == layer]
        if calls:
            tree = Tree(Text(name), guide_style="dim")
            for call in calls:
                tree.add(_operator(call))
            trees.append(tree)
    return Group(*trees) if trees else Text("none was called", style="dim")


def _operator(call: Mapping[str, Any]) -> Text:
    figures = f"no LLM call, {call['seconds']:.1f} s"
    if call["calls"]:
        figures = (
            f"{_count(call['calls'], 'call')}, {call['prompt_tokens']:,} + "
            f"{call['completion_tokens']:,} tokens, {usd(call['cost_usd'])}, "
            f"{call['seconds']:.1f} s, {', '.join(dict.fromkeys(call['tiers']))}"
        )
    line = Text.assemble((printable(call["operator"]), "bold"), ("  " + printable(figures)))
    if call["message"]:
        line.append_text(_text(f"\n{call['message']}", "red"))
    return line


def _answered_by(row: Mapping[str, Any]) -> str:
    tiers: Sequence[str] = row["tiers"]
    by = {
        "own": "by the workflow itself",
        "fallback": "by the fallback workflow, since the policy's did not run",
        "none": "nobody answered",
    }[row["answered_by"]]
    if row["answered_by"] == "none":
        return by
    return f"{by}; {_plural(len(tiers), 'tier')} {', '.join(tiers)}" if tiers else by


def _answer(row: Mapping[str, Any]) -> RenderableType:
    if row["answer"] is None:
        return Text("none", style="red")
    if row["domain"] == "code":
        return _Code(_text(row["answer"]).plain)
    return _text(row["answer"], "bold green")


def _total(row: Mapping[str, Any]) -> str:
    reward = row["reward"]
    if reward is not None:
        return f"{reward['total']:.2f} of 10"
    if row["status"] == "unavailable":
        return "none: no endpoint answered, which is nobody's fault"
    return "unknown without the right answer: --gold"


def _reward(row: Mapping[str, Any], gold: str) -> RenderableType:
    reward, score = row["reward"], row["score"]
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name in _PARTS:
        table.add_row(name, f"{reward[name]:.1f} points")
    if reward["penalty"]:
        table.add_row("penalty", Text(f"{reward['penalty']:.1f} of the total", style="red"))
    right = "right" if score["correct"] else "wrong" if score["value"] == 0 else "partly right"
    if row["answered_by"] != "own":
        right = "not answered by the workflow itself, and only that is rewarded"
    told = f" ({printable(score['detail'])})" if score["detail"] else ""
    style = "green" if score["correct"] else "red"
    lines: list[RenderableType] = [Text(f"{right}{told}", style=style)]
    if gold and not score["correct"]:
        lines.append(Text(f"gold answer: {printable(gold)}"))
    return Group(*lines, table)


def _count(n: int, what: str) -> str:
    return f"{n} {_plural(n, what)}"


def _plural(n: int, what: str) -> str:
    return what if n == 1 else f"{what}s"
