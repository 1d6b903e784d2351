"""Shares in whole numbers: how many problems of each domain make up a total.

The largest-remainder method (Hamilton): every share is its exact quota rounded down or up, and the
shares sum to the total. In fractions, so that 0.4 of 5 is 2 on every platform.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

__all__ = ["apportion", "interleave"]


def apportion(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Splits `total` in proportion to `weights`; equal remainders go to the earlier weight.

    Args:
        total: What to split, 0 or more.
        weights: Not negative, at least one above 0; they need not sum to 1.
    """
    whole = sum(weights, Fraction(0))
    quotas = [Fraction(weight) * total / whole for weight in weights]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda at: (shares[at] - quotas[at], at))
    for at in by_remainder[: total - sum(shares)]:
        shares[at] += 1
    return shares


def interleave(shares: Sequence[int]) -> list[int]:
    """The positions of `shares`, each as often as its share says, spread as evenly as it goes.

    ``interleave([2, 1, 1])`` is ``[0, 1, 2, 0]``: at each slot comes the position that lags most
    behind its proportion, the earlier one if two lag alike.
    """
    total = sum(shares)
    given = [0] * len(shares)
    slots = []
    for slot in range(1, total + 1):
        # Lags are kept in units of 1/total, so they stay whole numbers.
        lags = [share * slot - count * total for share, count in zip(shares, given, strict=True)]
        open_positions = [at for at, share in enumerate(shares) if given[at] < share]
        chosen = max(open_positions, key=lambda at: (lags[at], -at))
        given[chosen] += 1
        slots.append(chosen)
    return slots
