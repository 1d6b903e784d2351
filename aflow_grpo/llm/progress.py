"""How far one call has come: what whoever gives it up or cuts it off has to know."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal

from aflow_grpo.records import Usage

__all__ = ["Progress"]


@dataclass
class Progress:
    """Shared by the call and by those who wait for it."""

    attempts: int = 0
    """HTTP attempts in the tier that is being asked."""
    billed: Decimal = Decimal(0)
    """USD paid for them. An attempt whose bill is not known counts with the most it can be."""
    started_s: float = 0.0
    """Unix time of the first of them."""
    sent: bool = False
    """Whether one is on its way, so that it will be paid for in any case."""
    abandoned: bool = False
    """Nobody waits any more: what is on its way is awaited and kept, nothing new is sent."""

    @property
    def usage(self) -> Usage:
        """What was spent in this tier without an answer so far."""
        return Usage(attempts=self.attempts, billed_usd=float(self.billed))

    def begin(self) -> None:
        """Another tier is asked."""
        self.attempts, self.billed = 0, Decimal(0)

    def send(self) -> None:
        """An attempt leaves."""
        if not self.attempts:
            self.started_s = time.time()
        self.attempts += 1
        self.sent = True
