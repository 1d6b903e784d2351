"""A circuit breaker: a tier that fails again and again is left alone for a while.

Closed, it lets every attempt through. After `threshold` failures in a row it opens: attempts are
refused for `cooldown_s`. Then it is half-open: one attempt at a time probes the endpoint; success
closes it, failure opens it again (M. Nygard, Release It!). Not here: what counts as a failure.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CircuitBreaker"]


class CircuitBreaker:
    """State of one endpoint, as its attempts saw it.

    Args:
        threshold: Failures in a row that open it.
        cooldown_s: Seconds during which it stays open.
        clock: Monotonic seconds.
    """

    def __init__(self, threshold: int, cooldown_s: float, clock: Callable[[], float]) -> None:
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the endpoint counts as down (half-open included)."""
        return self._open_until is not None

    @property
    def refuses(self) -> bool:
        """Whether `admit` would say no now."""
        if self._open_until is None:
            return False
        return self._probing or self._clock() < self._open_until

    def admit(self) -> bool:
        """Ask before an attempt; after True, report it with `success`, `failure` or `release`."""
        if self.refuses:
            return False
        self._probing = self.is_open
        return True

    def success(self) -> None:
        """The endpoint answered."""
        self._failures = 0
        self._open_until = None
        self._probing = False

    def failure(self) -> bool:
        """The endpoint failed; True when this opens the breaker from closed."""
        self._failures += 1
        self._probing = False
        was_open = self.is_open
        if was_open or self._failures >= self._threshold:
            self._open_until = self._clock() + self._cooldown_s
        return self.is_open and not was_open

    def release(self) -> None:
        """The attempt said nothing about the endpoint (it was cancelled, or told to wait)."""
        self._probing = False
