"""Ctrl-C at a moment that suits: held back while weights and counters do not belong together.

SIGTERM needs none of this: Lightning notes it, and the code that waits looks at the note.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deferred_interrupt"]


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Raise a Ctrl-C that comes inside the block at its end; a second one gets through at once.

    Does nothing outside the main thread, or where Ctrl-C is ignored or handled otherwise.
    """
    usual = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or usual is not signal.default_int_handler
    ):
        yield
        return
    pressed = False

    def hold(signum: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt
