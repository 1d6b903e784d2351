"""Whether training problems are, or nearly are, problems that something is judged on.

A training problem leaks when a held-out one has its whole text, is the same code task (published
number or gold program), shares a large part of the question's word n-grams, or asks about the same
passage. Phrases that many problems share are no evidence and are left out of that comparison.

Not covered: paraphrase and translation; answers or solutions quoted inside other texts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aflow_grpo.data.similar import context_key, ngrams, places, words
from aflow_grpo.records import Problem

__all__ = ["Leak", "LeakReport", "find_leaks"]

LeakKind = Literal["task", "text", "n-grams", "context"]

_SIZE = 8
"""Words per n-gram of a question."""
_COMMON = 10
"""An n-gram of more problems than that is boilerplate, whatever they are."""
_NUMBERED = ("mbpp", "humaneval")
"""Datasets whose ids end in the published number of the task."""
_STRENGTH: Mapping[LeakKind, int] = {"task": 0, "text": 1, "n-grams": 2, "context": 3}


@dataclass(frozen=True)
class Leak:
    """One training problem and the held-out problem that it gives away."""

    problem: str
    """Id of the training problem."""
    held_out: str
    """Id of the held-out problem, its most telling one."""
    source: str
    """The name of the held-out set."""
    kind: LeakKind
    """`task`: the same code task; `text`: the same text; `n-grams`: a large part of the question;
    `context`: another question on the same passage."""
    share: float
    """Part of the shorter question's telling n-grams that both have; 1 for equal texts."""


@dataclass(frozen=True)
class LeakReport:
    """What of the held-out sets the training problems give away."""

    leaks: tuple[Leak, ...]
    """One per leaking training problem, in their order."""
    given_away: Mapping[str, int]
    """Held-out set -> how many of its problems leak (`context` alone does not count)."""
    sizes: Mapping[str, int]
    """Held-out set -> its number of problems."""

    @property
    def leaking(self) -> frozenset[str]:
        """Ids of the training problems that leak."""
        return frozenset(leak.problem for leak in self.leaks)


class _Index:
    """The held-out problems of one or several sets, to be looked up."""

    def __init__(self, held_out: Mapping[str, Sequence[Problem]]) -> None:
        self.items = [(name, p) for name, problems in held_out.items() for p in problems]
        self.keys: dict[Hashable, list[int]] = defaultdict(list)
        self.grams: list[frozenset[tuple[str, ...]]] = []
        self.by_gram: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, (_, problem) in enumerate(self.items):
            for key in _keys(problem):
                self.keys[key].append(number)
            self.grams.append(ngrams(words(problem.question), _SIZE))
            for gram in self.grams[-1]:
                self.by_gram[gram].append(number)


def find_leaks(
    train: Sequence[Problem],
    held_out: Mapping[str, Sequence[Problem]],
    *,
    share: float = 0.7,
    contexts: bool = True,
) -> LeakReport:
    """Which of `train` give away problems of the sets in `held_out` (name -> problems).

    Args:
        train: The problems to be trained on.
        held_out: The sets to be judged on.
        share: Part of the shorter question's 8-grams, boilerplate left out, from which on two
            questions are taken for one. Questions of up to 8 words are compared whole, and so
            are those on a passage, which must have a paragraph in common.
        contexts: Whether a question on a held-out question's passage leaks too.

    Time grows with the number of n-grams, not with the number of pairs.
    """
    index = _Index(held_out)
    grams = [ngrams(words(problem.question), _SIZE) for problem in train]
    common = _boilerplate([*grams, *index.grams])
    leaks, given = [], set()
    for problem, own in zip(train, grams, strict=True):
        found = [*_same(problem, index, contexts), *_overlaps(problem, own, index, common, share)]
        if not found:
            continue
        given |= {number for number, kind, _ in found if kind != "context"}
        number, kind, part = min(found, key=lambda f: (_STRENGTH[f[1]], -f[2], f[0]))
        source, other = index.items[number]
        leaks.append(Leak(problem.id, other.id, source, kind, round(part, 3)))
    counts = Counter(index.items[number][0] for number in given)
    return LeakReport(
        tuple(leaks),
        {name: counts[name] for name in held_out},
        {name: len(problems) for name, problems in held_out.items()},
    )


def _boilerplate(sets: Iterable[frozenset[tuple[str, ...]]]) -> frozenset[tuple[str, ...]]:
    """N-grams that occur in many problems; those that recur in copies of one set count once."""
    counts = Counter(gram for grams in set(sets) for gram in grams)
    return frozenset(gram for gram, count in counts.items() if count > _COMMON)


def _keys(problem: Problem) -> Iterator[tuple[LeakKind, Hashable]]:
    for place in places(problem):
        yield "text", place
    if problem.context:
        yield "context", context_key(problem)
    if problem.domain == "code":
        if problem.dataset in _NUMBERED:
            yield "task", (problem.dataset, problem.id.rpartition("/")[2])
        yield "task", words(problem.answer)


def _same(problem: Problem, index: _Index, contexts: bool) -> Iterator[tuple[int, LeakKind, float]]:
    for kind, key in _keys(problem):
        if kind == "context" and not contexts:
            continue
        for number in index.keys.get((kind, key), ()):
            yield number, kind, 0.0 if kind == "context" else 1.0


def _overlaps(
    problem: Problem,
    own: frozenset[tuple[str, ...]],
    index: _Index,
    common: frozenset[tuple[str, ...]],
    share: float,
) -> Iterator[tuple[int, LeakKind, float]]:
    """Held-out questions that share enough n-grams with this one."""
    if problem.context:
        return  # "How many yards was the longest …" is asked of many passages
    telling = own - common
    counts = Counter(number for gram in telling for number in index.by_gram.get(gram, ()))
    for number, shared in sorted(counts.items()):
        if index.items[number][1].context:
            continue
        shorter = min(len(telling), len(index.grams[number] - common))
        if shared >= share * shorter:
            yield number, "n-grams", shared / shorter
