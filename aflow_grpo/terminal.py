"""What every verb writes to the terminal with: how much is said, a console, progress on long steps.

How much is said is one choice of the user for the whole command (`--quiet`, `--debug`), kept in the
environment, so that child processes know it too. Progress goes to stderr: what a verb prints can
be piped. Not here: what a run prints (`training.progress`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args
from unicodedata import category

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

if TYPE_CHECKING:
    from rich.live import Live

__all__ = [
    "VERBOSITY",
    "Step",
    "Verbosity",
    "complain",
    "console",
    "printable",
    "progress",
    "show_log",
    "show_origin",
    "verbosity",
]

Verbosity = Literal["quiet", "normal", "debug"]
VERBOSITY = "AFLOW_GRPO_VERBOSITY"
"""The environment variable; `--quiet` and `--debug` set it."""
LINE_EVERY_S = 10.0
"""How often a plain line is written where there is no terminal."""
_REFRESH_PER_S = 4
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_BAR = (6, 30)
"""Fewest and most columns of a bar."""


def verbosity() -> Verbosity:
    """How much the user wants to read."""
    for level in get_args(Verbosity):
        if os.environ.get(VERBOSITY) == level:
            return cast(Verbosity, level)
    return "normal"


def console(*, stderr: bool = False) -> Console:
    """A console that prints names as they are: "[x]" in one is no markup, ":x:" no emoji.

    On stderr, while something goes on there, it is the one that prints above the live lines.
    """
    if stderr and _BOARD.console is not None:
        return _BOARD.console
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """Without control characters: what a model wrote must not steer the terminal.

    Line ends, tabs and spaces of every width stay.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" or category(c) == "Zs" else _REPLACED for c in text
    )


def complain(program: str, error: BaseException) -> None:
    """Say on stderr what was wrong, in one line; with `--debug` also where it was raised.

    Args:
        program: Who says so, e.g. ``aflow-grpo infer``.
        error: Whose message is shown.
    """
    show_origin(error)
    print(f"{program}: {printable(str(error))}", file=sys.stderr)


def show_origin(error: BaseException) -> None:
    """With `--debug`, print where `error` was raised."""
    if verbosity() == "debug":
        lines = "".join(traceback.format_exception(error))
        print(printable(lines), end="", file=sys.stderr)


def show_log() -> None:
    """This package's warnings and errors go to stderr; with `--debug` whatever it logs, with times.

    Not by Python's handler of last resort: a message may quote what an endpoint said.
    """
    ours = logging.getLogger("aflow_grpo")
    handler = next((h for h in ours.handlers if isinstance(h, _ToStderr)), None)
    if handler is None:
        handler = _ToStderr(logging.WARNING)
        handler.setFormatter(_PrintableFormatter())
        ours.addHandler(handler)
    if verbosity() == "debug":
        handler.setLevel(logging.DEBUG)
        handler.setFormatter(
            _PrintableFormatter("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%H:%M:%S")
        )
        ours.setLevel(logging.DEBUG)


class _ToStderr(logging.Handler):
    """To what is stderr at the moment: while a step is shown live, that prints above it."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(self.format(record), file=sys.stderr, flush=True)


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Step(Protocol):
    """A long step that goes on. Its methods may be called in any thread and raise nothing."""

    def advance(self, done: int = 1, note: str = "") -> None:
        """So many more are done; `note` says what there is to say, such as USD so far."""

    def say(self) -> None:
        """Write a plain line now, where plain lines are written."""


@contextmanager
def progress(
    description: str,
    total: int | None,
    *,
    done: int = 0,
    quiet: bool = False,
    line_every_s: float = LINE_EVERY_S,
) -> Iterator[Step]:
    """Rate and time left of a long step: live on a terminal, else a plain line now and then.

    Steps nest: on a terminal the inner one is shown below the outer one.

    Args:
        description: What is done, e.g. ``judging answers``.
        total: How many there are; None where nobody knows.
        done: How many of them were done before.
        quiet: Show nothing, as with `--quiet`.
        line_every_s: Seconds between two plain lines; the first comes after as long.
    """
    if quiet or verbosity() == "quiet":
        yield _Silent()
        return
    if _is_live():
        live = _LiveStep(description, total, done)
        _BOARD.add(live)
        try:
            yield live
        finally:
            _BOARD.remove(live)
        return
    lines = _Lines(description, total, done, line_every_s)
    yield lines
    lines.end()


def _is_live() -> bool:
    """Not rich's idea of it: in CI logs, FORCE_COLOR asks for colours and not for a moving line."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    except ValueError:  # closed
        return False


class _Silent:
    def advance(self, done: int = 1, note: str = "") -> None:
        """Nothing is said."""

    def say(self) -> None:
        """Nothing is said."""


class _Counts:
    """How far a step is."""

    def __init__(self, description: str, total: int | None, done: int) -> None:
        self.description = _one_line(description)
        self.total = total
        self.done = self._before = done
        self.note = ""
        self.started = self._last = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, done: int = 1, note: str = "") -> None:
        with self._lock:
            if done:
                self.done, self._last = self.done + done, time.monotonic()
            self.note = _one_line(note) if note else self.note

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def count(self) -> str:
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    @property
    def pace(self) -> str:
        """``3.2/s``, ``12.0 s each``; empty while nobody knows."""
        each_s = self._each_s
        if each_s is None:
            return ""
        return f"{1 / each_s:.1f}/s" if each_s <= 1 else f"{each_s:.1f} s each"

    @property
    def left(self) -> str:
        """``0:38 left``; empty while nobody knows."""
        each_s = self._each_s
        if self.total is None or each_s is None:
            return ""
        waited_s = time.monotonic() - self._last
        return f"{_clock(max(0.0, (self.total - self.done) * each_s - waited_s))} left"

    @property
    def _each_s(self) -> float | None:
        made = self.done - self._before
        return max(self._last - self.started, 1e-3) / made if made > 0 else None


class _Lines(_Counts):
    """Plain lines, for logs."""

    def __init__(self, description: str, total: int | None, done: int, every_s: float) -> None:
        super().__init__(description, total, done)
        self._every_s = every_s
        self._due = self.started + every_s
        self._said: tuple[int, str] | None = None

    def advance(self, done: int = 1, note: str = "") -> None:
        super().advance(done, note)
        if time.monotonic() >= self._due:
            self.say()

    def say(self) -> None:
        with self._lock:
            self._due = time.monotonic() + self._every_s
            if self._said != (self.done, self.note):
                self._said = (self.done, self.note)
                self._write(", ".join(filter(None, (self.count, self.pace, self.left))))

    def end(self) -> None:
        """Where lines were written, one that says that this was all."""
        if self._said is not None:
            self._write(f"{self.count} in {_clock(self.elapsed_s)}")

    def _write(self, told: str) -> None:
        # A line that nobody can read any more must not end the work.
        with contextlib.suppress(OSError, ValueError):
            line = f"{self.description}: {told}  {self.note}".rstrip()
            print(line, file=sys.stderr, flush=True)


class _LiveStep(_Counts):
    """Two lines of a terminal: how far, and the note."""

    def say(self) -> None:
        """It is always there to be read."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        tail = "  ".join(filter(None, (self.count, self.pace, self.left)))
        room = width - cell_len(self.description) - cell_len(tail) - 4
        bar = self._bar(min(room, _BAR[1]), ascii_only=options.ascii_only)
        line = _row(f"{self.description}  ")
        if bar:
            line.append(f"{bar}  ", "green")
        line.append(tail)
        yield line
        if self.note:
            yield Text("\n", end="")
            yield _row(f"  {self.note}", "dim")

    def _bar(self, columns: int, *, ascii_only: bool) -> str:
        if self.total is None or columns < _BAR[0]:
            return ""
        share = min(1.0, self.done / self.total) if self.total else 1.0
        full = math.floor(share * columns)
        done, rest = ("#", "-") if ascii_only else ("━", "─")
        return done * full + rest * (columns - full)


class _Board:
    """The live lines of all steps that go on; the process has one terminal."""

    def __init__(self) -> None:
        self.console: Console | None = None
        """While there are any."""
        self._live: Live | None = None
        self._steps: list[_LiveStep] = []
        self._lock = threading.Lock()

    def add(self, step: _LiveStep) -> None:
        with self._lock:
            self._steps = [*self._steps, step]
            if self._live is not None:
                return
            # Here, not above: nobody who prints a line should wait for it.
            from rich.live import Live

            shown = console(stderr=True)
            self._live = Live(
                self,
                console=shown,
                transient=True,
                refresh_per_second=_REFRESH_PER_S,
                # What is piped has to arrive there.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
            self.console = shown

    def remove(self, step: _LiveStep) -> None:
        with self._lock:
            self._steps = [s for s in self._steps if s is not step]
            live = self._live
            if live is None or self._steps:
                return
            self._live = self.console = None
        live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for index, step in enumerate(self._steps):
            if index:
                yield Text("\n", end="")
            yield step


_BOARD = _Board()


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ").replace("\t", " ")


def _row(text: str, style: str = "") -> Text:
    """One line of the terminal, cut where that ends."""
    return Text(text, style, no_wrap=True, overflow="ellipsis", end="")


def _clock(seconds: float) -> str:
    """``0:38``, ``12:05``, ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
