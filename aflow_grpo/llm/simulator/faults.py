"""Faults on demand: what goes wrong with a request, decided by seeded draws.

Faults of transport hit one HTTP attempt and never change what the reply says. Faults of content
come with status 200 and hit a request for good: whoever asks again gets the same words. A draw is a
function of the seed, the request's digest and, for transport, the number of the attempt, so neither
the order of arrival nor the load changes it. Only the outage goes by the clock. Not here: how a
fault looks on the wire (`server`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Literal, get_args

from aflow_grpo.errors import ConfigError
from aflow_grpo.seeds import derive_seed

__all__ = ["CONTENT_FAULTS", "TRANSPORT_FAULTS", "Fault", "FaultSettings", "Faults", "OutageKind"]

OutageKind = Literal["unavailable", "refused"]
_KEY = "llm.simulator.faults"
_REMEMBERED = 65_536


class Fault(StrEnum):
    """What can go wrong; the value is the end of the setting's name, after `rate_`."""

    RATE_LIMITED = "429"
    RATE_LIMITED_BARE = "429_bare"
    INTERNAL = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    SLOW = "slow"
    HANG = "hang"
    DROPPED = "dropped"
    DROPPED_MIDWAY = "dropped_midway"
    TRUNCATED = "truncated"
    NOT_JSON = "not_json"
    NO_CHOICES = "no_choices"
    WRONG_TYPES = "wrong_types"
    REFUSAL = "refusal"
    MALFORMED = "malformed"
    CUT = "cut"


CONTENT_FAULTS = (Fault.REFUSAL, Fault.MALFORMED, Fault.CUT)
TRANSPORT_FAULTS = tuple(fault for fault in Fault if fault not in CONTENT_FAULTS)


@dataclass(frozen=True)
class FaultSettings:
    """Which share of the HTTP attempts fails, and how; those of transport exclude each other."""

    seed: int = 0
    """Decides which attempts and requests are hit."""
    rate_429: float = 0.0
    """Share of attempts answered with 429 and a Retry-After."""
    rate_429_bare: float = 0.0
    """429 without a Retry-After."""
    rate_500: float = 0.0
    """500, the server's own error."""
    rate_502: float = 0.0
    """502, a gateway's error, as a page of HTML."""
    rate_503: float = 0.0
    """503, overloaded."""
    rate_slow: float = 0.0
    """The right reply, `slow_s` late."""
    rate_hang: float = 0.0
    """No answer ever."""
    rate_dropped: float = 0.0
    """The connection ends before the answer."""
    rate_dropped_midway: float = 0.0
    """The connection ends in the middle of the answer."""
    rate_truncated: float = 0.0
    """Half of the body, as if that were all."""
    rate_not_json: float = 0.0
    """Status 200 and a page of HTML."""
    rate_no_choices: float = 0.0
    """A chat completion with an empty list of choices."""
    rate_wrong_types: float = 0.0
    """A chat completion whose content is no text and whose usage is no number."""
    rate_refusal: float = 0.0
    """Share of requests that the model refuses in a polite sentence (content)."""
    rate_malformed: float = 0.0
    """Share of requests whose reply lacks the tags or the code block asked for (content)."""
    rate_cut: float = 0.0
    """Share of requests whose reply stops in the middle, with finish_reason `length` (content)."""
    retry_after_s: float = 0.05
    """What a 429 asks the client to wait."""
    slow_s: float = 5.0
    """How late a slow reply is, on top of the latency."""
    outage_start_s: float = 0.0
    """When an outage begins, after the first chat request."""
    outage_s: float = 0.0
    """How long it lasts; 0: there is none."""
    outage: OutageKind = "unavailable"
    """`unavailable` answers everything with 503, `refused` closes the port."""

    def __post_init__(self) -> None:
        for fault in Fault:
            if not 0 <= self.rate(fault) <= 1:
                raise ConfigError(
                    f"{_KEY}.rate_{fault}={self.rate(fault)!r}: expected a share from 0 to 1."
                )
        for kind, faults in (("attempt", TRANSPORT_FAULTS), ("reply", CONTENT_FAULTS)):
            used = {f"rate_{fault}": self.rate(fault) for fault in faults if self.rate(fault)}
            total = sum(used.values())
            if total > 1 + 1e-9:
                raise ConfigError(
                    f"{_KEY}: {' + '.join(used)} = {total:g}, expected at most 1: one {kind} fails "
                    "in one way only. Lower them."
                )
        for name in ("retry_after_s", "slow_s", "outage_start_s", "outage_s"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"{_KEY}.{name}={getattr(self, name)!r}: expected 0 or more seconds."
                )
        if self.outage not in get_args(OutageKind):
            raise ConfigError(
                f"{_KEY}.outage={self.outage!r}: expected one of {', '.join(get_args(OutageKind))}."
            )

    def rate(self, fault: Fault) -> float:
        """The share of `fault`."""
        return float(getattr(self, f"rate_{fault}"))


class Faults:
    """Draws the faults of one server; holds how often each of the last requests was tried.

    Args:
        settings: The rates.
        remembered: Requests whose number of attempts is known; an older one counts from 0 again.
    """

    def __init__(self, settings: FaultSettings, *, remembered: int = _REMEMBERED) -> None:
        self._seed = settings.seed
        self._transport = _Wheel(settings, TRANSPORT_FAULTS)
        self._content = _Wheel(settings, CONTENT_FAULTS)
        self._remembered = remembered
        self._attempts: OrderedDict[bytes, int] = OrderedDict()

    def transport(self, digest: bytes) -> Fault | None:
        """What befalls the next attempt of the request with this digest; counts it."""
        if not self._transport.turns:
            return None
        attempt = self._attempts.pop(digest, 0)
        self._attempts[digest] = attempt + 1
        if len(self._attempts) > self._remembered:
            self._attempts.popitem(last=False)
        return self._transport.at(derive_seed("transport", self._seed, digest.hex(), attempt))

    def content(self, digest: bytes) -> Fault | None:
        """What is wrong with the reply to this request, at every attempt."""
        if not self._content.turns:
            return None
        return self._content.at(derive_seed("content", self._seed, digest.hex()))


class _Wheel:
    """Faults by their shares of the unit interval."""

    def __init__(self, settings: FaultSettings, faults: Iterable[Fault]) -> None:
        self._faults = [fault for fault in faults if settings.rate(fault)]
        self._ends = list(accumulate(settings.rate(fault) for fault in self._faults))

    @property
    def turns(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._faults)

    def at(self, draw: int) -> Fault | None:
        """The fault at a 31-bit draw; None beyond the last."""
        place = bisect_right(self._ends, (draw + 0.5) / 2**31)
        return self._faults[place] if place < len(self._faults) else None
