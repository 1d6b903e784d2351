"""Endless batches in fixed proportions of the domains, resumable from one integer.

Which problem stands where follows from (problems, mix, batch size, seed, window) and the batch's
index alone, so a resumed run draws what the uninterrupted one would have drawn, and every rank
computes its own slice without talking to the others. It knows nothing of tensors or loaders.

Proportions: the mix is exact over every *window* of batches, and within a window the domains are
interleaved, so that each batch, and each rank's slice of it, is as balanced as whole numbers allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from aflow_grpo.data.apportion import apportion, interleave
from aflow_grpo.data.dice import Dice
from aflow_grpo.errors import ConfigError
from aflow_grpo.records import DOMAINS, Domain, Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["DomainMix", "ProportionalSampler", "stratified"]

_TOLERANCE = 1e-6
_FINEST = 1000
_LONGEST_WINDOW = 1000


@dataclass(frozen=True)
class DomainMix:
    """Share of each domain in training batches; the shares sum to 1."""

    math: float = 0.4
    """Share of math problems, 0 to 1."""
    code: float = 0.3
    """Share of code problems, 0 to 1."""
    qa: float = 0.3
    """Share of question-answering problems, 0 to 1."""

    def __post_init__(self) -> None:
        shares = {domain: self.share(domain) for domain in DOMAINS}
        for domain, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"data.mix.{domain} is {share}, expected a share from 0 to 1")
        if abs(sum(shares.values()) - 1) > _TOLERANCE:
            given = " + ".join(f"{domain} {share}" for domain, share in shares.items())
            raise ConfigError(
                f"data.mix: {given} = {sum(shares.values()):.6g}, expected shares that sum to 1. "
                "Give all three (a domain that you leave out keeps its default)."
            )

    def share(self, domain: Domain) -> float:
        """The share of one domain."""
        return {"math": self.math, "code": self.code, "qa": self.qa}[domain]


class ProportionalSampler:
    """Draws batches for ever; each domain is reshuffled whenever it has been gone through.

    Args:
        problems: What to draw from, in any order.
        mix: Share of each domain.
        batch_size: Problems per batch over all ranks, a multiple of `world_size`.
        seed: Decides every order.
        window: Batches over which the mix is exact; None takes the fewest that make it so (5 for
            the default mix and a batch of 2, 1 for a batch of 10). Where the shares do not divide
            a given window, the largest remainders round it.
        rank: Which slice of each batch `next_batch` returns, from 0.
        world_size: Number of slices.

    Raises:
        ConfigError: A number is out of range, or a domain has a share but no problems.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        mix: DomainMix,
        *,
        batch_size: int,
        seed: int,
        window: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_sizes(batch_size, window, rank, world_size)
        self._pools = {d: [p for p in problems if p.domain == d] for d in DOMAINS}
        for domain, pool in self._pools.items():
            if mix.share(domain) > 0 and not pool:
                raise ConfigError(
                    f"data.mix.{domain} is {mix.share(domain)}, but the data hold no {domain} "
                    f"problems. Set data.mix.{domain} to 0 and raise another share, or add "
                    f"{domain} problems."
                )
        self._batch_size, self._seed = batch_size, seed
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        shares = [Fraction(mix.share(d)).limit_denominator(_FINEST) for d in DOMAINS]
        self.window = _exact_window(shares, batch_size) if window is None else window
        """Batches over which the mix is exact."""
        self._schedule = _schedule(shares, batch_size * self.window)
        self._next = 0
        self._orders: dict[Domain, tuple[int, list[Problem]]] = {}
        self._digest = derive_seed(
            *(f"{p.domain} {p.id}" for p in problems),
            *(f"{d} {share}" for d, share in zip(DOMAINS, shares, strict=True)),
            batch_size,
            seed,
            self.window,
        )

    def next_batch(self) -> list[Problem]:
        """This rank's slice of the next batch; a domain smaller than its share repeats in it."""
        windows, batch = divmod(self._next, self.window)
        start = batch * self._batch_size
        self._next += 1
        drawn = {d: windows * self._schedule.count(d) for d in DOMAINS}
        for domain in self._schedule[:start]:
            drawn[domain] += 1
        problems = []
        for domain in self._schedule[start : start + self._batch_size]:
            problems.append(self._problem(domain, drawn[domain]))
            drawn[domain] += 1
        return problems[self._slice]

    def state_dict(self) -> dict[str, int]:
        """Where the sampler stands; the same on every rank, small enough for any checkpoint."""
        return {"next_batch": self._next, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes to where `state` was taken; the number of ranks may differ.

        Raises:
            ConfigError: The state is from other problems or other settings.
        """
        if state["digest"] != self._digest:
            raise ConfigError(
                "The checkpoint's sampler drew from other data: the problems (or their order), "
                "mix, batch size, seed or window differ from now. Resume with the settings of the "
                "checkpoint's run, or start a new run from its weights."
            )
        self._next = state["next_batch"]

    def _problem(self, domain: Domain, index: int) -> Problem:
        pool = self._pools[domain]
        cycle, place = divmod(index, len(pool))
        if self._orders.get(domain, (-1, pool))[0] != cycle:
            order = Dice("sampler", self._seed, domain, cycle).shuffled(pool)
            self._orders[domain] = (cycle, order)
        return self._orders[domain][1][place]


def stratified(problems: Sequence[Problem], n: int, seed: int) -> list[Problem]:
    """`n` problems with the domains in the proportions of `problems`, in their given order.

    The choice depends on the problems and the seed alone; all of them where `n` is not smaller.

    Raises:
        ConfigError: `n` is negative.
    """
    if n < 0:
        raise ConfigError(f"n is {n}, expected how many problems to take, 0 or more")
    if n >= len(problems):
        return list(problems)
    places = [[at for at, p in enumerate(problems) if p.domain == d] for d in DOMAINS]
    shares = apportion(n, [len(pool) for pool in places])
    chosen = [
        at
        for domain, pool, share in zip(DOMAINS, places, shares, strict=True)
        for at in Dice("stratified", seed, domain).picks(pool, share)
    ]
    return [problems[at] for at in sorted(chosen)]


def _check_sizes(batch_size: int, window: int | None, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, expected 1 or more problems per batch")
    if window is not None and window < 1:
        raise ConfigError(f"window is {window}, expected 1 or more batches, or null")
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank is {rank}, expected 0 to world_size - 1 (world_size {world_size})")
    if batch_size % world_size:
        raise ConfigError(
            f"batch_size {batch_size} cannot be split over {world_size} ranks: expected a multiple "
            f"of {world_size}, e.g. {-(-batch_size // world_size) * world_size}"
        )


def _exact_window(shares: Sequence[Fraction], batch_size: int) -> int:
    exact = math.lcm(*((share * batch_size).denominator for share in shares))
    return min(exact, _LONGEST_WINDOW)


def _schedule(shares: Sequence[Fraction], slots: int) -> list[Domain]:
    """The domain of each slot of a window."""
    return [DOMAINS[at] for at in interleave(apportion(slots, shares))]
