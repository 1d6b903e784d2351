"""The sample data set: which problems are drawn, in which split, under which id.

1000 / 100 / 100 problems for train / val / test, 40 % math, 30 % code, 30 % qa, three levels of
difficulty in equal parts. Everything follows from the seed, to the byte, on every platform. No
two problems of a data set share their facts (the family's key) or their text. What cannot be told
apart from real data is not claimed: these are templates, a first exercise.

Ids: ``sample/<split>/<domain>/<number>-<family>-<wording>``; the wording says who may see it:
``seen3`` every split, ``held0`` val and test, ``test0`` the test split only, ``sealed0`` none, but
fresh problems that are asked for in such words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from aflow_grpo.data.apportion import apportion
from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate import (
    code_count,
    code_easy,
    code_middle,
    code_scan,
    math_easy,
    math_hard,
    math_middle,
    qa_combine,
    qa_one_hop,
    qa_two_hop,
)
from aflow_grpo.data.generate.family import Family, Instance, WordingKind, sentence
from aflow_grpo.data.jsonl import write_problems
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import DOMAINS, Domain, Problem

__all__ = [
    "COUNTS",
    "FAMILIES",
    "SHIPPED_SEED",
    "FreshWordings",
    "generate_problems",
    "generate_sample",
    "generate_worded",
    "wording_kind",
    "write_sample",
]

COUNTS: Mapping[str, int] = MappingProxyType({"train": 1000, "val": 100, "test": 100})
"""Problems per split of the shipped data set."""
SHIPPED_SEED = 0
"""The seed of the files in ``data/sample``."""
FreshWordings = Literal["seen", "held", "sealed"]
"""Of fresh problems: those of training; those of the other splits; those of no split at all."""
FAMILIES: tuple[Family, ...] = (
    *math_easy.FAMILIES,
    *math_middle.FAMILIES,
    *math_hard.FAMILIES,
    *code_easy.FAMILIES,
    *code_middle.FAMILIES,
    *code_count.FAMILIES,
    *code_scan.FAMILIES,
    *qa_one_hop.FAMILIES,
    *qa_two_hop.FAMILIES,
    *qa_combine.FAMILIES,
)

_PERCENT: Mapping[Domain, int] = {"math": 40, "code": 30, "qa": 30}
_LEVELS = (1, 2, 3)
_KINDS: Mapping[str, tuple[WordingKind, ...]] = {
    "train": ("seen",),
    "val": ("seen", "held"),
    "test": ("seen", "held", "test"),
}
_FRESH: Mapping[FreshWordings, tuple[int, tuple[WordingKind, ...]]] = {
    "seen": (0, ("seen",)),
    "held": (1, ("held", "test")),
    "sealed": (2, ("sealed",)),
}
"""Wordings of fresh problems -> the number that names their draws, the kinds drawn from."""
_MOST_TRIES = 2000


@dataclass
class _Taken:
    """What may not be drawn again."""

    facts: set[tuple[object, ...]] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)

    def add(self, family: Family, instance: Instance, text: str) -> bool:
        """Takes the problem; False when it is taken already."""
        facts, plain = (family.name, *instance.key), re.sub(r"\W+", " ", text.lower()).strip()
        if facts in self.facts or plain in self.texts:
            return False
        self.facts.add(facts)
        self.texts.add(plain)
        return True

    def copy(self) -> _Taken:
        return _Taken(set(self.facts), set(self.texts))


def generate_sample(
    seed: int = SHIPPED_SEED, counts: Mapping[str, int] = COUNTS
) -> dict[str, list[Problem]]:
    """The sample data set of a seed.

    Args:
        seed: Any integer; `SHIPPED_SEED` gives the shipped files.
        counts: Problems per split (train, val, test).

    Raises:
        ConfigError: A split is unknown or its count negative.
    """
    return _sample(seed, counts)[0]


def generate_problems(seed: int, n: int, *, held_out: bool) -> list[Problem]:
    """`n` fresh problems in the sample's mix, none of which is in the shipped data set.

    Args:
        seed: Any integer; the ids carry it.
        n: How many.
        held_out: Only wordings that training never sees; else only those that it does.

    Raises:
        ConfigError: `n` is negative.
        DataError: The families hold too few different problems.
    """
    return generate_worded(seed, n, "held" if held_out else "seen")


def generate_worded(seed: int, n: int, wordings: FreshWordings) -> list[Problem]:
    """`n` fresh problems as `generate_problems`, in wordings that are asked for by name.

    Args:
        seed: Any integer; the ids carry it and the wordings' name.
        n: How many.
        wordings: Which ones.

    Raises:
        ConfigError: `n` is negative.
        DataError: The families hold too few different problems.
    """
    _check_count("n", n)
    number, kinds = _FRESH[wordings]
    group = f"fresh-{wordings}-{seed}"
    return _draw_split(group, n, kinds, _shipped().copy(), ("fresh", seed, number))


def write_sample(directory: str | Path, seed: int = SHIPPED_SEED) -> list[Path]:
    """Writes ``train.jsonl``, ``val.jsonl`` and ``test.jsonl`` and returns their paths."""
    paths = []
    for split, problems in generate_sample(seed).items():
        paths.append(Path(directory) / f"{split}.jsonl")
        write_problems(paths[-1], problems)
    return paths


def wording_kind(problem: Problem) -> WordingKind | None:
    """Who may see the wording of a generated problem; None for problems from elsewhere."""
    match = re.search(r"-(seen|held|test|sealed)\d+$", problem.id)
    if problem.dataset != "sample" or match is None:
        return None
    kinds: dict[str, WordingKind] = {kind: kind for kind in get_args(WordingKind)}
    return kinds[match.group(1)]


@cache
def _shipped() -> _Taken:
    return _sample(SHIPPED_SEED, COUNTS)[1]


def _sample(seed: int, counts: Mapping[str, int]) -> tuple[dict[str, list[Problem]], _Taken]:
    taken, splits = _Taken(), {}
    for split, count in counts.items():
        if split not in _KINDS:
            raise ConfigError(f"counts: unknown split {split!r}, expected {', '.join(_KINDS)}")
        _check_count(f"counts[{split!r}]", count)
        splits[split] = _draw_split(split, count, _KINDS[split], taken, ("sample", seed, split))
    return splits, taken


def _draw_split(
    group: str,
    count: int,
    kinds: tuple[WordingKind, ...],
    taken: _Taken,
    names: tuple[int | str, ...],
) -> list[Problem]:
    problems = []
    shares = apportion(count, [_PERCENT[domain] for domain in DOMAINS])
    for domain, share in zip(DOMAINS, shares, strict=True):
        dice = Dice("problems", *names, domain)
        for index in range(share):
            level = _LEVELS[index % len(_LEVELS)]
            prefix = f"sample/{group}/{domain}/{index:04d}"
            problems.append(_draw(dice, domain, level, kinds, prefix, taken))
    return Dice("order", *names).shuffled(problems)


def _draw(
    dice: Dice,
    domain: Domain,
    level: int,
    kinds: tuple[WordingKind, ...],
    prefix: str,
    taken: _Taken,
) -> Problem:
    choices = [f for f in FAMILIES if f.domain == domain and f.difficulty == level]
    for _ in range(_MOST_TRIES):
        family, kind = dice.pick(choices), dice.pick(kinds)
        instance = family.draw(dice)
        wordings = family.wordings.of(kind)
        at = dice.below(len(wordings))
        question = sentence(dice, wordings[at], instance.fields)
        if taken.add(family, instance, f"{instance.context} {question}"):
            return Problem(
                id=f"{prefix}-{family.name}-{kind}{at}",
                dataset="sample",
                domain=domain,
                question=question,
                answer=instance.answer,
                alternatives=instance.alternatives,
                context=instance.context,
                entry_point=instance.entry_point,
                public_tests=instance.public_tests,
                hidden_tests=instance.hidden_tests,
                difficulty=level,
            )
    raise DataError(
        f"The {domain} families of level {level} hold too few different problems for {prefix}: "
        f"{_MOST_TRIES} draws gave nothing new. Ask for fewer problems."
    )


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ConfigError(f"{name} is {count}, expected a number of problems, 0 or more")
