"""What every verb writes to the terminal with: how much is said, a console, progress on long steps.

How much is said is one choice of the user for the whole command (`--quiet`, `--debug`), kept in the
environment, so that child processes know it too. Progress goes to stderr: what a verb prints can
be piped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from rich.console import Console

__all__ = ["VERBOSITY", "Step", "console", "printable", "progress", "verbosity"]

Verbosity = Literal["quiet", "normal", "debug"]
VERBOSITY = "AFLOW_GRPO_VERBOSITY"
"""The environment variable; `--quiet` and `--debug` set it."""
_LINE_EVERY_S = 10.0
"""How often a plain line is written where there is no terminal."""


def verbosity() -> Verbosity:
    """How much the user wants to read."""
    value = os.environ.get(VERBOSITY, "normal")
    return value if value in ("quiet", "debug") else "normal"  # type: ignore[return-value]


def console(*, stderr: bool = False) -> Console:
    """A console that prints names as they are: "[x]" in one is no markup, ":x:" no emoji."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """Without control characters: what a model wrote must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Step(Protocol):
    """A long step that goes on."""

    def advance(self, done: int = 1, note: str = "") -> None:
        """So many more are done; `note` says what there is to say, such as USD so far."""


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Step]:
    """Rate and time left of a long step: a live line on a terminal, else a plain line now and then.

    Args:
        description: What is done, e.g. ``judging answers``.
        total: How many there are; None where nobody knows.
    """
    shown = console(stderr=True)
    if verbosity() == "quiet":
        yield _Silent()
    elif shown.is_terminal:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        timing = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, *timing, console=shown, transient=True) as live:
            yield _Live(live, live.add_task(description, total=total, note=""))
    else:
        yield _Lines(shown, description, total)


class _Silent:
    def advance(self, done: int = 1, note: str = "") -> None:
        """Nothing is said."""


class _Live:
    def __init__(self, live: object, task: object) -> None:
        self._live, self._task = live, task

    def advance(self, done: int = 1, note: str = "") -> None:
        self._live.update(self._task, advance=done, **({"note": note} if note else {}))  # type: ignore[attr-defined]


class _Lines:
    def __init__(self, shown: Console, description: str, total: int | None) -> None:
        self._console, self._description, self._total = shown, description, total
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, done: int = 1, note: str = "") -> None:
        self._done += done
        now = time.monotonic()
        if now - self._said < _LINE_EVERY_S:
            return
        self._said = now
        pace = self._done / (now - self._started)
        of = f"/{self._total}" if self._total is not None else ""
        left = f", {(self._total - self._done) / pace:.0f} s left" if self._total else ""
        line = f"{self._description}: {self._done}{of}, {pace:.1f}/s{left}  {note}"
        self._console.print(line.rstrip(), soft_wrap=True)
