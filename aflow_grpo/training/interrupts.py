"""Ctrl-C and SIGTERM: how they stop a run, and where they are held back.

While a run is being loaded, nothing of it exists yet, and a signal ends the process on the spot.
(An exception would not do: import machinery and finalisers swallow it.) Child processes end by
themselves when their parent does.

Once the run exists, a signal raises in the main thread wherever that is, also in the middle of
sampling. What raises unwinds the run: calls are cancelled, a checkpoint is written, MLflow is told,
processes are ended. Should it be swallowed after all, `raise_if_stopped` raises it again.

Light, because it is imported before anything heavy. Not here: what is closed (`rollout_callback`),
when a checkpoint may be written (`checkpoint`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from aflow_grpo.training.launched import is_first_rank

__all__ = [
    "SHUTDOWN_S",
    "Terminated",
    "deferred_interrupt",
    "raise_if_stopped",
    "stop_signals",
    "take_signals_back",
    "unwind_from_here",
]

SHUTDOWN_S = 5.0
"""A stopped run has ended by then."""
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_SHOW_CURSOR = "\x1b[?25h"
_Handler = Callable[[int, FrameType | None], object]


class Terminated(SystemExit):
    """SIGTERM has arrived."""

    def __init__(self) -> None:
        super().__init__(128 + int(signal.SIGTERM))


class _Stop:
    """What a command does about a signal."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self.unwinds = False
        self.signum: int | None = None
        self._at = 0.0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.unwinds:
            self._leave(signum)
        now = time.monotonic()
        if self.signum is not None and now < self._at + SHUTDOWN_S:
            return
        self.signum, self._at = signum, now
        self.throw()

    def throw(self) -> None:
        """Raise what the signal means; nothing when none has come."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is not None:
            raise Terminated

    def _leave(self, signum: int) -> NoReturn:
        message = f"\naflow-grpo {self._verb}: {_WORDS[signal.Signals(signum)]}.\n"
        with contextlib.suppress(OSError):
            if os.isatty(2):
                message = f"{_SHOW_CURSOR}{message}"  # a live line may have hidden it
            if is_first_rank():
                os.write(2, message.encode())
        os._exit(128 + signum)


_current: _Stop | None = None
"""Signal handlers are the process's, and so is this."""


@contextmanager
def stop_signals(verb: str) -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM stop the command `verb`, with exit code 130 or 143.

    At first by leaving the process at once; after `unwind_from_here` by raising KeyboardInterrupt
    or `Terminated`. What follows within 5 s changes nothing, so that impatience does not cut the
    shutdown short; a later signal gets through. After a stop the process is about to end, and both
    stay ignored. Does nothing outside the main thread.
    """
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {name: signal.getsignal(name) for name in _WORDS}
    _current = stop = _Stop(verb)
    try:
        for name in _WORDS:
            signal.signal(name, stop)
        yield
    finally:
        for name in _WORDS:
            signal.signal(name, usual[name] if stop.signum is None else signal.SIG_IGN)
        _current = None


def unwind_from_here() -> None:
    """From now on there is something to end in good order."""
    if _current is not None:
        _current.unwinds = True


def take_signals_back() -> None:
    """Handle Ctrl-C and SIGTERM as `stop_signals` said, whoever has put a handler there since."""
    if _current is not None:
        for name in _WORDS:
            if signal.getsignal(name) is not signal.SIG_IGN:
                signal.signal(name, _current)


def raise_if_stopped() -> None:
    """Raise again if a signal has come: for code that works on, so that its exception was lost."""
    if _current is not None:
        _current.throw()


@contextmanager
def deferred_interrupt(on_held: Callable[[], object] | None = None) -> Iterator[None]:
    """Handle a Ctrl-C or SIGTERM that comes inside the block at its end.

    A second one of the same kind gets through at once. Does nothing outside the main thread, and
    for a signal that is ignored or left to the system.

    Args:
        on_held: Called when one is held back, between two instructions of the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual: dict[int, _Handler] = {}
    for name in _WORDS:
        handler = signal.getsignal(name)
        if callable(handler):
            usual[name] = handler
    held: list[int] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        if signum in held:
            usual[signum](signum, frame)
        else:
            held.append(signum)
            if on_held is not None:
                on_held()

    try:
        for signum in usual:
            signal.signal(signum, hold)
        yield
    finally:
        for signum, handler in usual.items():
            signal.signal(signum, handler)
    for signum in held:
        usual[signum](signum, None)
