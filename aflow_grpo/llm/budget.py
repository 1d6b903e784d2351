"""What a run may really pay: a hard limit in USD, kept before every HTTP attempt.

An attempt first reserves the most that it could cost, and settles what it was billed afterwards.
So the sum of what was spent and of what is on its way never passes the limit, however many calls
run at once. While only others' reservations are in the way, a call waits for them: most of a
reservation comes back, since replies are shorter than `max_tokens`. When even that would not help,
the run is over. Not here: what an attempt can cost (`endpoint`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from decimal import Decimal

from aflow_grpo.errors import BudgetSpent, ConfigError

__all__ = ["Budget"]


class Budget:
    """USD of one run, shared by all its clients; for one event loop.

    Args:
        limit_usd: Never passed; None for no limit.
        spent_usd: What the run has paid before, e.g. by its journal.
        ranks: Processes that share the limit without asking each other: whatever is left when they
            begin is divided equally among them.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float = 0.0, *, ranks: int = 1) -> None:
        if limit_usd is not None and limit_usd <= 0:
            raise ConfigError(
                f"llm.budget_usd={limit_usd!r}: expected more than 0 USD, or null for no limit."
            )
        self._limit = None if limit_usd is None else _exact(limit_usd)
        self._ranks = ranks
        self.begin(spent_usd)
        self._reserved = Decimal(0)
        self._waiting: deque[tuple[Decimal, asyncio.Future[None]]] = deque()
        self._refused: Decimal | None = None

    @property
    def limit_usd(self) -> float | None:
        """The limit; None for none."""
        return None if self._limit is None else float(self._limit)

    @property
    def spent_usd(self) -> float:
        """What was billed so far here, and of all ranks before they began."""
        return float(self._spent)

    @property
    def reserved_usd(self) -> float:
        """The most that what is on its way can still cost."""
        return float(self._reserved)

    def begin(self, spent_usd: float) -> None:
        """Count what the run has paid before, e.g. by its journals, in place of what is known."""
        self._spent = _exact(spent_usd)
        self._others = Decimal(0)
        if self._limit is not None and self._spent < self._limit:
            self._others = (self._limit - self._spent) * (self._ranks - 1) / self._ranks

    def check(self) -> None:
        """Refuse at once when an attempt was refused before: the run is ending.

        Raises:
            BudgetSpent: One was.
        """
        if self._refused is not None:
            raise self._error(self._refused)

    async def reserve(self, most: Decimal) -> None:
        """Wait until an attempt that costs at most `most` USD may leave; then `settle` it.

        Raises:
            BudgetSpent: It could pass the limit, whatever the others turn out to cost.
        """
        self.check()
        if self._limit is None or (not self._waiting and self._fits(most)):
            self._reserved += most
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((most, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._reserved -= most  # it was let through in the same moment
            self._serve()
            raise

    def settle(self, most: Decimal, billed: Decimal) -> None:
        """Replace a reservation by what was billed for it, in USD."""
        self._reserved -= most
        self._spent += billed
        self._serve()

    def _fits(self, most: Decimal) -> bool:
        spent = self._spent + self._others + self._reserved
        return self._limit is None or spent + most <= self._limit

    def _serve(self) -> None:
        """Let those through who wait, in their order, as far as the money goes."""
        while self._waiting:
            most, turn = self._waiting[0]
            if not turn.done():  # else cancelled
                if self._refused is None and not self._would_fit_alone(most):
                    self._refused = most
                if self._refused is not None:
                    turn.set_exception(self._error(self._refused))
                elif self._fits(most):
                    self._reserved += most
                    turn.set_result(None)
                else:
                    return
            self._waiting.popleft()

    def _would_fit_alone(self, most: Decimal) -> bool:
        return self._limit is None or self._spent + self._others + most <= self._limit

    def _error(self, most: Decimal) -> BudgetSpent:
        kept = f" and {self._others:.6f} USD are for other ranks" if self._others else ""
        return BudgetSpent(
            f"llm.budget_usd={self.limit_usd:g} would be passed: {self._spent:.6f} USD are spent"
            f"{kept}, "
            f"and the next call could cost up to {most:.6f} USD. To go on, raise "
            "--llm.budget_usd and continue with --ckpt_path last; what was answered is kept and "
            "is not paid for again."
        )


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))
