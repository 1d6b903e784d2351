"""A real terminal of 80 columns, and everything that is written to it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading

__all__ = ["HIDE", "SHOW", "PseudoTerminal"]

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
_DEADLINE_S = 30.0


class PseudoTerminal:
    """`slave` is the terminal, a file descriptor; whatever is written to it is read at once."""

    def __init__(self, columns: int = 80, lines: int = 25) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._shown = b""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        """What has been written so far."""
        return self._shown.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until `text` has been written."""
        with self._more:
            found = self._more.wait_for(lambda: text in self.shown, timeout=_DEADLINE_S)
        assert found, f"{text!r} is not in {self.shown!r}"

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def close(self) -> str:
        """Close the terminal; returns all that was written."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
            self._reader.join(timeout=_DEADLINE_S)
            os.close(self._master)
        return self.shown

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the last holder of the terminal has closed it
                return
            if not part:
                return
            with self._more:
                self._shown += part
                self._more.notify_all()
