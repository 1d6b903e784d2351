"""Worlds whose truth is known: what each workflow is worth for each kind of problem."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aflow_grpo.outcomes.model import OutcomeRow
from aflow_grpo.outcomes.structure import Structure

__all__ = ["World", "made_world", "structures"]

_WORDS = ["red", "blue", "cat", "dog", "train", "speed", "apple", "pear"]
_WORDS += ["boat", "river", "hill", "wheel", "coin", "card", "plane", "rope"]


def structures(count: int) -> list[Structure]:
    """Structures that share some features with each other."""
    return [
        Structure(f"s{n}", ((f"call:{n % 4}", 1.0), (f"first:{n % 3}", 1.0), (f"own:{n}", 1.0)))
        for n in range(count)
    ]


class World(NamedTuple):
    rows: list[OutcomeRow]
    structures: list[Structure]
    rates_PS: np.ndarray
    """True probability of being right, of the problems in `rows`."""
    problems: list[str]
    fresh_texts: list[str]
    fresh_rates_QS: np.ndarray
    """The same of problems that are in no row, on average over what their text does not show."""


def made_world(
    *, problems: int, per: int = 4, count: int = 8, by_text: float = 0.0, seed: int = 0
) -> World:
    """Right with 0.5 + structure effect (sd 0.1) + kind x structure (sd `by_text`) + problem (0.2).

    The kind shows in the words. A right answer pays 6 to 9.5 points by structure, a wrong one -2.
    """
    rng = np.random.default_rng(seed)
    found, total = structures(count), problems + 100
    kinds = rng.integers(0, 4, total)
    texts = [
        " ".join([*rng.choice(_WORDS[4 * k : 4 * k + 4], 4), *rng.choice(_WORDS, 3)]) for k in kinds
    ]
    effects_S, by_kind_KS = rng.normal(0, 0.1, count), rng.normal(0, by_text, (4, count))
    shown_PS = 0.5 + effects_S[None] + by_kind_KS[kinds]
    rates_PS = np.clip(shown_PS + rng.normal(0, 0.2, (total, 1)), 0.02, 0.98)
    rows = []
    for p in range(problems):
        for s in rng.integers(0, count, per):
            right = bool(rng.random() < rates_PS[p, s])
            reward = 6.0 + s / 2 if right else -2.0
            rows.append(
                OutcomeRow("math", f"p{p}", texts[p], found[s], reward, right, (s + 1) * 1e-4)
            )
    names = [f"p{p}" for p in range(problems)]
    return World(
        rows, found, rates_PS[:problems], names, texts[problems:], shown_PS[problems:]
    )  # fmt: skip
