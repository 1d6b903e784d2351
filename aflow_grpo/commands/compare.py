"""`aflow-grpo compare RUN RUN…`: runs beside each other, and what of it is more than noise.

Parses and prints; the figures are `workbench.comparing`'s. What is printed fits into 100 columns.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.terminal import complain, console, printable

if TYPE_CHECKING:
    from aflow_grpo.workbench.comparing import Comparison, Line, RunComparison, Side
    from aflow_grpo.workbench.figures import Figure

__all__ = ["make_parser", "run_compare"]

_WIDTH = 100
_LABELS = {
    "direct_execution_rate": "direct",
    "fallback_rate": "fallback",
    "repaired_execution_rate": "repaired",
    "validation_failure_rate": "rejected",
    "cost_usd_per_problem": "USD / 1,000",
}
_VALUE_CHARS = 40


def run_compare(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings or an unreadable run."""
    options = make_parser().parse_args(list(arguments))
    # Here, not above: numpy and SciPy take longer to import than `--help` may take to answer.
    from aflow_grpo.workbench.comparing import compare

    try:
        found = compare(
            options.runs,
            split=options.split,
            by=options.by,
            metrics=options.metric or (),
            decoding=options.decoding,
            tracking_uri=options.tracking_uri,
        )
    except AFlowError as error:
        complain("aflow-grpo compare", error)
        return 2
    if options.json:
        print(json.dumps(_plain(found), indent=1, allow_nan=False))
    else:
        _show(found)
    return 0


def make_parser() -> VerbParser:
    """The verb's options."""
    parser = VerbParser(
        prog="aflow-grpo compare",
        description="aflow-grpo compare runs/a runs/b --by domain. Every run against the first "
        "one, on the rollouts of its last full evaluation.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="A run's directory, DIRECTORY:RUN_ID, or the id of an MLflow run with --tracking_uri.",
    )
    parser.add_argument(
        "--split",
        type=Literal["val", "test"],
        default=None,
        help="Which evaluation; default: test where every run has one, else val.",
    )
    parser.add_argument(
        "--by",
        type=Literal["all", "domain", "dataset"],
        default="all",
        help="Also for each domain or data set.",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        type=str,
        default=None,
        help="Other metrics than the headline, e.g. reward/efficiency score/f1.",
    )
    parser.add_argument(
        "--decoding",
        type=Literal["greedy", "sampled"],
        default=None,
        help="Only these workflows; default: both.",
    )
    parser.add_argument(
        "--tracking_uri", type=str, default=None, help="Where runs given by id are tracked."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON, for programs.")
    return parser


def _plain(value: Any) -> Any:
    """As JSON has it: what is no number there is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What a person sees


def _show(found: RunComparison) -> None:
    out = console()
    out.width = min(_WIDTH, max(out.width, 80)) if out.is_terminal else _WIDTH
    for side in found.sides:
        out.print(_title(side), soft_wrap=True)
    out.print()
    out.print(_settings(found))
    for i, side in enumerate(found.sides[1:]):
        out.print(_figures(found, i, side))
    for line in _closing(found):
        out.print(line)


def _title(side: Side) -> str:
    judged = f"step {side.step}"
    if side.problems:
        judged += f", {side.problems} problems"
        judged += f", {side.samples} samples each" if side.samples else ""
    if side.masked:
        judged += f", {side.masked} workflows in no figure (no endpoint answered)"
    running = "  STILL RUNNING" if side.running else ""
    return printable(f"{side.letter}  {side.name}  ({side.id[:8]}; {judged}){running}")


def _settings(found: RunComparison) -> Table | str:
    if not found.settings:
        return "No setting differs.\n"
    table = _table("Settings that differ")
    table.add_column("", overflow="fold")
    for side in found.sides:
        table.add_column(side.letter, overflow="fold", max_width=_VALUE_CHARS)
    for key, values in found.settings.items():
        table.add_row(printable(key), *("–" if v is None else printable(v) for v in values))
    return table


def _figures(found: RunComparison, i: int, side: Side) -> Table:
    first = found.sides[0]
    table = _table(f"{_split(found)}: {side.letter} against {first.letter}")
    table.add_column("", no_wrap=True)
    for letter in (first.letter, side.letter):
        table.add_column(letter, justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="center", no_wrap=True)
    table.add_column("problems", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    group = "all"
    for line in found.lines:
        if line.group != group:
            group = line.group
            table.add_section()
            table.add_row(printable(group), style="bold")
        compared = line.comparisons[i]
        cells = [_number(line.metric, line.figures[0]), _number(line.metric, line.figures[i + 1])]
        table.add_row(_label(line), *cells, *_compared(line.metric, compared))
    return table


def _compared(metric: str, found: Comparison | None) -> list[str]:
    if found is None:
        return ["–", "", "", ""]
    difference = _signed(metric, found.difference)
    if found.low is None or found.high is None:
        n = str(found.problems) if found.problems else ""
        return [difference, "", n, found.verdict]
    if not found.spread:
        interval = "the same on each"
    else:
        interval = f"{_signed(metric, found.low)} … {_signed(metric, found.high)}"
    return [difference, interval, str(found.problems), _verdict(metric, found)]


def _verdict(metric: str, found: Comparison) -> str:
    if metric == "cost_usd_per_problem" and found.verdict in ("better", "worse"):
        return "costs more" if found.difference > 0 else "costs less"
    return f"{found.verdict} †" if _only_alone(found) else found.verdict


def _only_alone(found: Comparison) -> bool:
    """Whether it would count if nothing else had been compared."""
    if found.low is None or found.high is None or found.p is None:
        return False
    apart = not found.low <= 0 <= found.high and found.p < 0.05
    return apart and found.verdict == "within noise"


def _closing(found: RunComparison) -> Iterator[str]:
    known = [c for line in found.lines for c in line.comparisons if c is not None]
    tested = [c for c in known if c.p is not None]
    if tested:
        pairing = "paired by problem" if all(c.paired for c in tested) else "bootstrap"
        yield (
            f"Intervals: {pairing}, over problems; another seed would train another policy, which "
            f"they do not hold. Verdicts hold together for all {len(tested)} differences, at 5 % "
            "(Holm)."
        )
    if any(map(_only_alone, tested)):
        yield (
            "† Its interval leaves out 0, but so would about one in twenty where nothing differs, "
            f"and there are {len(tested)}. Name it with --metric before you look to test it alone."
        )
    yield from map(printable, found.notes)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def _split(found: RunComparison) -> str:
    return {"val": "Validation", "test": "Test"}[found.split]


def _label(line: Line) -> str:
    name = _LABELS.get(line.metric, line.metric.replace("_", " "))
    return printable(f"{name}, {line.decoding}")


def _number(metric: str, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    if _is_share(metric):
        return f"{figure.value:.1%}"
    if metric == "cost_usd_per_problem":
        return f"{1000 * figure.value:.3f}"
    return f"{figure.value:.2f}"


def _signed(metric: str, value: float) -> str:
    if _is_share(metric):
        return f"{100 * value:+.1f}"
    if metric == "cost_usd_per_problem":
        return f"{1000 * value:+.3f}"
    return f"{value:+.2f}"


def _is_share(metric: str) -> bool:
    from aflow_grpo.workbench.figures import is_share  # imported by `compare` already

    return is_share(metric)
