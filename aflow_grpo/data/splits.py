"""Problems dealt out to training, validation and test, whole clusters at a time.

Copies are removed first, so that no problem counts twice. Which problems belong together is decided
in `similar`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.data.similar import clusters_of, exact_key
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["Shares", "Splits", "split_problems", "without_copies"]


@dataclass(frozen=True)
class Shares:
    """How problems are dealt out."""

    val: float = 0.1
    """Part for validation, 0 to 1."""
    test: float = 0.1
    """Part for the test, 0 to 1."""
    seed: int = 0
    """Decides the order of the clusters."""
    threshold: float = 0.7
    """Jaccard similarity from which two problems belong together, above 0, up to 1."""

    def __post_init__(self) -> None:
        for name, value in (("val", self.val), ("test", self.test)):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} is {value}, expected a share from 0 to below 1")
        if not 0 < self.val + self.test < 1:
            raise ConfigError(
                f"val {self.val:g} and test {self.test:g} add up to {self.val + self.test:g}, "
                "expected more than 0 and less than 1, so that something is left to train on"
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(
                f"threshold is {self.threshold}, expected a similarity above 0, up to 1 (equal)"
            )


@dataclass(frozen=True)
class Splits:
    """The result: every problem is in exactly one of the three."""

    train: tuple[Problem, ...]
    val: tuple[Problem, ...]
    test: tuple[Problem, ...]
    clusters: int
    """Clusters in all."""
    largest: int
    """Problems of the largest cluster."""

    def named(self) -> Mapping[str, tuple[Problem, ...]]:
        """The splits by name, in order."""
        return {"train": self.train, "val": self.val, "test": self.test}


def without_copies(problems: Sequence[Problem]) -> tuple[list[Problem], dict[str, str]]:
    """The problems without later copies, and id of each copy -> id of the one that is kept."""
    first: dict[tuple[str, ...], str] = {}
    copies: dict[str, str] = {}
    kept = []
    for problem in problems:
        key = exact_key(problem)
        if key in first:
            copies[problem.id] = first[key]
        else:
            first[key] = problem.id
            kept.append(problem)
    return kept, copies


def split_problems(problems: Sequence[Problem], shares: Shares, *, train: bool = True) -> Splits:
    """Deal out `problems`, whole clusters in a seeded order, each split in the given order.

    A cluster is taken for validation, else for the test, when it brings that split closer to its
    share of the problems; so a split's size is off by at most half a cluster where there are
    small ones, and by less than one always. The rest is for training.

    Args:
        problems: With different ids.
        shares: Sizes, seed and threshold.
        train: False deals everything out to validation and test, in the ratio of their shares.

    Raises:
        DataError: A split that should get problems gets none.
    """
    total = len(problems)
    scale = 1.0 if train else 1 / (shares.val + shares.test)
    wanted = {"val": shares.val * scale * total, "test": shares.test * scale * total}
    clusters = clusters_of(problems, shares.threshold)
    order = clusters[:]
    random.Random(derive_seed("data.splits", shares.seed)).shuffle(order)
    place: dict[int, str] = {}
    rest = "train" if train else ("test" if shares.test else "val")
    for name, target in wanted.items():
        size = 0
        for cluster in order:
            closer = abs(size + len(cluster) - target) < abs(size - target)
            if cluster[0] not in place and (closer or name == rest):
                size += len(cluster)
                place.update(dict.fromkeys(cluster, name))
    found = {
        name: tuple(p for i, p in enumerate(problems) if place.get(i, rest) == name)
        for name in ("train", "val", "test")
    }
    _check(found, shares, total, train=train)
    return Splits(**found, clusters=len(clusters), largest=max(map(len, clusters), default=0))


def _check(
    found: Mapping[str, Sequence[Problem]], shares: Shares, total: int, *, train: bool
) -> None:
    wanted = {"train": train, "val": shares.val > 0, "test": shares.test > 0}
    for name, needed in wanted.items():
        if needed and not found[name]:
            raise DataError(
                f"{total} problems leave none for {name} (val {shares.val:g}, test "
                f"{shares.test:g}): expected one or more in each; give more problems, other "
                "shares, or a higher threshold, since problems that are alike stay together"
            )
