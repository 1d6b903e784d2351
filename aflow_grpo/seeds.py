"""Seeds derived from names: every random draw depends on what it is for, never on call order.

With this, a rollout's randomness is a function of (run seed, split, step, problem, member), so the
order in which workflows or executor calls finish cannot change a run, and a resumed run draws what
the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(*parts: int | str) -> int:
    """A 31-bit seed from `parts`, the same on every platform and in every process.

    Parts are kept apart, so ("ab", "c") and ("a", "bc") give different seeds, and so do 1 and "1".
    31 bits, because that is what OpenAI-compatible servers accept as `seed`.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF
