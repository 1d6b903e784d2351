"""The doctor's lines and the monitor's picture for people; everything foreign is made printable.

A status is always a word, in colour where there is a terminal and NO_COLOR is not set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aflow_grpo.terminal import printable
from aflow_grpo.workbench.doctor.check import Check, Status
from aflow_grpo.workbench.doctor.devices import gpu_line, is_in_use, process_text
from aflow_grpo.workbench.doctor.nvidia import Gpu, Snapshot

__all__ = ["gpu_lines", "gpu_table", "show_checks"]

_STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "failure": "bold red"}
_SHOWN = 8


def show_checks(checks: Sequence[Check], console: Console, *, quiet: bool = False) -> None:
    """Every line with its group, then a line that sums up.

    Args:
        checks: In the order of their groups.
        console: Where to.
        quiet: Leave out what is ok.
    """
    shown = [check for check in checks if not (quiet and check.status == "ok")]
    width = max((len(_line(check.name)) for check in shown), default=0)
    for group, members in groupby(shown, key=lambda check: check.group):
        console.print(Text(group, style="bold"))
        if console.is_terminal:
            console.print(Padding(_table(list(members), width), (0, 0, 0, 2)))
        else:  # a line stays a line, so that it can be searched
            for line in (line for check in members for line in _plain(check, width)):
                console.print(Text(line), soft_wrap=True)
    if shown or not quiet:
        console.print(_sum(checks))


def _plain(check: Check, width: int) -> Iterator[str]:
    yield f"  {check.status:<7}  {_line(check.name):<{width}}  {_line(check.found)}"
    if check.remedy:
        yield f"  {'':<7}  {'':<{width}}  fix: {_line(check.remedy)}"


def _table(checks: Sequence[Check], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for check in checks:
        status = Text(check.status, style=_STYLES[check.status])
        found = Text(_line(check.found))
        if check.remedy:
            found.append(f"\nfix: {_line(check.remedy)}", style="cyan")
        table.add_row(status, Text(_line(check.name)), found)
    return table


def _line(text: str) -> str:
    return printable(text).replace("\n", " ")


def _sum(checks: Sequence[Check]) -> Text:
    counts = Counter(check.status for check in checks)
    parts = [f"{counts['ok']} ok"]
    parts += [_counted(counts[s], s) for s in ("warning", "failure") if counts[s]]
    if counts["failure"]:
        told, style = "a run with these settings would fail or be refused.", _STYLES["failure"]
    elif counts["warning"]:
        told, style = "a run can start.", _STYLES["warning"]
    else:
        told, style = "everything that was looked at is in order.", _STYLES["ok"]
    return Text(f"{', '.join(parts)}: {told}", style=style)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def gpu_lines(gpus: Sequence[Gpu], snapshot: Snapshot) -> Iterator[str]:
    """One plain line per GPU, where there is no terminal."""
    for gpu in gpus:
        users = snapshot.users_of(gpu)
        told = "; ".join(process_text(process) for process in users[:_SHOWN])
        more = f"; and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
        state = f"in use by {told or 'a process not to be seen from here'}{more}"
        yield f"gpu {gpu.index}  {gpu_line(gpu)}  {state if is_in_use(gpu, snapshot) else 'free'}"


def gpu_table(gpus: Sequence[Gpu], snapshot: Snapshot, moment: str) -> Group:
    """The GPUs with a bar of memory each and who uses them."""
    table = Table(box=None, pad_edge=False)
    for heading in ("GPU", "name", "memory", "", "busy", "used by"):
        table.add_column(heading)
    for gpu in gpus:
        users = snapshot.users_of(gpu)
        told = [process_text(process) for process in users[:_SHOWN]]
        if len(users) > _SHOWN:
            told.append(f"and {len(users) - _SHOWN} more")
        if not told:
            told = ["a process not to be seen from here" if is_in_use(gpu, snapshot) else "free"]
        style = "yellow" if is_in_use(gpu, snapshot) else "green"
        table.add_row(
            str(gpu.index),
            Text(gpu.name),
            Text(_bar(gpu), style=style),
            Text(_memory(gpu)),
            Text("?" if gpu.busy_percent is None else f"{gpu.busy_percent:.0f} %"),
            Text("\n".join(told), style=style),
        )
    return Group(table, Text(f"{moment}; Ctrl-C ends it. No process is ended.", style="dim"))


def _bar(gpu: Gpu, width: int = 12) -> str:
    if gpu.used_mib is None or not gpu.total_mib:
        return "?" * width
    full = min(width, round(width * gpu.used_mib / gpu.total_mib))
    return "#" * full + "-" * (width - full)


def _memory(gpu: Gpu) -> str:
    if gpu.used_mib is None or gpu.total_mib is None:
        return "unknown"
    return f"{gpu.used_mib:,.0f}/{gpu.total_mib:,.0f} MiB"
