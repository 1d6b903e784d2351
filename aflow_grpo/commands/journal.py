"""`aflow-grpo journal DIR`: what a run's executor calls and rollouts were, and what they cost.

The journals are opened for reading only, so a run may go on meanwhile. What is counted:
`workbench.journal_figures`; docs/journal.md describes the files for other programs.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.terminal import complain, printable
from aflow_grpo.workbench.journal_figures import By, Figures, Tally, read_figures

__all__ = ["make_parser", "run_journal"]

_FAULTS_SHOWN = 5
_COLUMNS = (
    "operator calls", "in rollouts", "API calls", "failed", "prompt tokens", "completion tokens",
    "tokens per call", "list USD", "billed USD",
)  # fmt: skip


def run_journal(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings or an unreadable journal."""
    options = make_parser().parse_args(list(arguments))
    try:
        figures = read_figures(options.directory, options.by, options.run)
        files: Mapping[Path, int] = {}
        if options.parquet is not None:
            # Here, not above: pyarrow takes a while to import.
            from aflow_grpo.commands.journal_export import export_parquet

            files = export_parquet(figures.paths, options.parquet, options.run)
    except AFlowError as error:
        complain("aflow-grpo journal", error)
        return 2
    except sqlite3.Error as error:
        print(
            f"aflow-grpo journal: a journal in {options.directory} cannot be read ({error}). "
            "Where it is damaged, `sqlite3 journal.db .recover` saves what can be saved.",
            file=sys.stderr,
        )
        return 2
    if options.json:
        print(json.dumps(_plain(figures), indent=1))
        return 0
    _show(figures)
    for path, rows in files.items():
        print(f"{rows:,} rows: {path}")
    return 0


def make_parser() -> VerbParser:
    parser = VerbParser(
        prog="aflow-grpo journal",
        description="Executor calls and rollouts of a run, from its journal.db; a run may be "
        "writing it meanwhile.",
    )
    parser.add_argument(
        "directory", type=Path, help="The run's directory (trainer.default_root_dir)."
    )
    parser.add_argument(
        "--run", type=str, default=None, help="Only this MLflow run; default: every run there."
    )
    parser.add_argument("--by", type=By, default="operator", help="What the table's rows are.")
    parser.add_argument("--json", action="store_true", help="Print JSON, for programs.")
    parser.add_argument(
        "--parquet",
        type=Path,
        default=None,
        help="Export to this folder: calls.parquet, rollouts.parquet, problems.parquet.",
    )
    return parser


def _plain(figures: Figures) -> dict[str, object]:
    """The figures under their names, as JSON has them."""
    plain = {f.name: getattr(figures, f.name) for f in dataclasses.fields(figures)}
    groups = {name: _plain_tally(tally) for name, tally in figures.groups.items()}
    paths = [str(path) for path in figures.paths]
    return plain | {"paths": paths, "total": _plain_tally(figures.total), "groups": groups}


def _plain_tally(tally: Tally) -> dict[str, float]:
    return dataclasses.asdict(tally) | {"tokens_per_call": tally.tokens_per_call}


def _show(figures: Figures) -> None:
    total = figures.total
    console = Console(width=max(130, Console().width), highlight=False)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("journal", _where(figures))
    facts.add_row("runs", ", ".join(_name(run) for run in figures.runs) or "none")
    facts.add_row(
        "calls",
        f"{total.api_calls:,} answered, {total.failed:,} failed, {total.attempts:,} HTTP attempts, "
        f"in {figures.executions:,} executions{_span(figures)}",
    )
    facts.add_row("USD", f"{total.billed_usd:.6f} billed, {total.cost_usd:.6f} by the price list")
    if figures.tiers:
        shares = (f"{_name(k)} {n / total.api_calls:.1%}" for k, n in figures.tiers.most_common())
        facts.add_row("tiers", ", ".join(shares))
    for fault, calls in figures.faults.most_common(_FAULTS_SHOWN):
        facts.add_row("fault", f"{calls:,} x {escape(_line(fault))}")
    if (more := len(figures.faults) - _FAULTS_SHOWN) > 0:
        facts.add_row("", f"and {more:,} other faults")
    for part, statuses in figures.rollouts.items():
        told = ", ".join(f"{status} {n:,}" for status, n in statuses.most_common())
        facts.add_row("rollouts", f"{_name(part)}: {statuses.total():,} ({told})")
    console.print(facts)
    console.print(_table(figures))
    print(
        "operator calls: those that asked the executor; in rollouts: all of the stored rollouts, "
        "also those\nthat asked nothing or were answered from the journal."
    )


def _table(figures: Figures) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(figures.by, no_wrap=True, overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    largest_first = sorted(figures.groups.items(), key=lambda group: (-group[1].cost_usd, group[0]))
    for name, tally in largest_first:
        cells = _cells(tally)
        if figures.by in ("tier", "model"):
            cells[_COLUMNS.index("in rollouts")] = "-"  # a rollout does not say
        table.add_row(_name(name), *cells)
    table.add_section()
    table.add_row("total", *_cells(figures.total))
    return table


def _cells(tally: Tally) -> list[str]:
    counts = (
        tally.operator_calls, tally.rollout_operator_calls, tally.api_calls, tally.failed,
        tally.prompt_tokens, tally.completion_tokens, round(tally.tokens_per_call),
    )  # fmt: skip
    return [*(f"{n:,}" for n in counts), f"{tally.cost_usd:.6f}", f"{tally.billed_usd:.6f}"]


def _where(figures: Figures) -> str:
    names = ", ".join(path.name for path in figures.paths)
    folder = escape(str(figures.paths[0].parent))
    return f"{names} in {folder}, {figures.size_bytes / 1e6:.2f} MB"


def _span(figures: Figures) -> str:
    if figures.first_s is None or figures.last_s is None:
        return ""
    first, last = (datetime.fromtimestamp(s, UTC) for s in (figures.first_s, figures.last_s))
    return f", {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _name(name: str) -> str:
    return escape(_line(name)) or "(none)"


def _line(text: str) -> str:
    """One line that a terminal takes, whatever an endpoint said."""
    return " ".join(printable(text).splitlines())
