"""Which problems are the same or nearly so: normalised words, exact similarity join, clusters.

Two texts are near-duplicates when the Jaccard similarity of their sets of word n-grams reaches a
threshold. The join is exact (All-Pairs with prefix filter, Bayardo, Ma and Srikant 2007: "Scaling
up all pairs similarity search"), so no pair is missed by an unlucky hash, and no draw is made.

Not covered: paraphrase and translation; they share too few n-grams.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

from aflow_grpo.records import Problem

__all__ = [
    "Clusters",
    "clusters_of",
    "context_key",
    "exact_key",
    "near_duplicates",
    "ngrams",
    "places",
    "question_key",
    "words",
]

_LOOK_ALIKES = str.maketrans(
    "авекмнорстухіјѕԁԛԝɡαεικνορτυχ‐‑‒–—−×⁄∕",
    "abekmhopctyxijsdqwgaeikvoptux------*//",
)
"""Lower-case letters and signs that look like ASCII ones; text is lower-cased before."""
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[-+*/=<>^|]")
_SHINGLE, _CONTEXT_SHINGLE = 3, 5
"""Words per n-gram: short ones for questions, longer ones where a text has hundreds of words."""
_SLACK = 1e-9
"""Keeps rounding from losing a pair that lies exactly on the threshold."""


@lru_cache(maxsize=50_000)
def words(text: str) -> tuple[str, ...]:
    """The words, numbers and signs of arithmetic in `text`, in order, as they are compared.

    Case, accents, line ends, spacing, punctuation, invisible characters, compatibility forms and
    the commonest Cyrillic and Greek look-alikes make no difference; digits and signs do. A hyphen
    between letters is no minus.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cf"))
    kept = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", kept.translate(_LOOK_ALIKES))
    return tuple(_number(token) for token in _TOKEN.findall(kept))


def _number(token: str) -> str:
    if not token[0].isdecimal():
        return token
    return re.sub(r",(?=\d{3}(?!\d))", "", token)


def ngrams(tokens: Sequence[str], size: int) -> frozenset[tuple[str, ...]]:
    """All runs of `size` words; a shorter text is one n-gram, an empty one has none."""
    if not tokens:
        return frozenset()
    last = max(len(tokens) - size, 0)
    return frozenset(tuple(tokens[start : start + size]) for start in range(last + 1))


def question_key(problem: Problem) -> str:
    """What equal questions share, whatever their context."""
    return " ".join(words(problem.question))


def context_key(problem: Problem) -> str:
    """What problems on one passage share; empty without a context."""
    return " ".join(words(problem.context))


def places(problem: Problem) -> list[tuple[str, str]]:
    """Question and paragraph, for each paragraph of the context; the question alone without one.

    Copies that name their paragraphs in another order, or not all of them, share one.
    """
    question = question_key(problem)
    paragraphs = [" ".join(words(part)) for part in problem.context.split("\n\n")]
    return [(question, paragraph) for paragraph in dict.fromkeys(paragraphs)]


def exact_key(problem: Problem) -> tuple[str, ...]:
    """What two copies of one problem share: question, context, answer and code's tests.

    Copies that differ in their answer are no copies: neither is thrown away for the other.
    """
    return (
        problem.domain,
        question_key(problem),
        context_key(problem),
        # A gold program is compared as it is, save its line ends: `(a)` is not `[a]`.
        "\n".join(line.rstrip() for line in problem.answer.strip().splitlines())
        if problem.domain == "code"
        else " ".join(problem.answer.split()).casefold(),
        problem.entry_point,
    )


def near_duplicates(
    sets: Sequence[frozenset[tuple[str, ...]]], threshold: float
) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of sets with Jaccard similarity >= `threshold`, sorted.

    Empty sets are similar to nothing. Exact for every threshold in (0, 1].
    """
    frequency = Counter(gram for grams in sets for gram in grams)
    rank = {g: r for r, (g, _) in enumerate(sorted(frequency.items(), key=lambda i: (i[1], i[0])))}
    ordered = [sorted(rank[gram] for gram in grams) for grams in sets]
    members = [set(ranks) for ranks in ordered]
    index: dict[int, list[int]] = defaultdict(list)
    pairs = []
    for i in sorted(range(len(sets)), key=lambda i: (len(ordered[i]), i)):
        size = len(ordered[i])
        # Two similar sets share an element among the rarest `size - least + 1` of both.
        least = math.ceil(threshold * size - _SLACK)
        prefix = ordered[i][: size - least + 1]
        candidates = {j for gram in prefix for j in index[gram] if len(ordered[j]) >= least}
        for j in candidates:
            common = len(members[i] & members[j])
            if common >= threshold * (size + len(ordered[j]) - common) - _SLACK:
                pairs.append((min(i, j), max(i, j)))
        for gram in prefix:
            index[gram].append(i)
    return sorted(pairs)


class Clusters:
    """Disjoint sets over 0 … size - 1 (union-find); a cluster is named by its least member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """The name of the cluster that holds `item`."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        """Make one cluster of those of `a` and `b`."""
        a, b = sorted((self.find(a), self.find(b)))
        self._parent[b] = a

    def groups(self) -> list[list[int]]:
        """The clusters in the order of their names, members ascending."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            found[self.find(item)].append(item)
        return [found[name] for name in sorted(found)]


def clusters_of(problems: Sequence[Problem], threshold: float) -> list[list[int]]:
    """Indices of problems that belong together, each index in exactly one cluster.

    Problems are joined when their questions are near-duplicates (problems without a context), when
    their contexts are equal or near-duplicates, when they ask the same about one paragraph, or when
    they have one gold program. "Who scored first?" is asked of many passages and joins nothing.
    """
    clusters = Clusters(len(problems))
    keys: dict[Hashable, list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        for key in _shared(problem):
            keys[key].append(index)
    for same in keys.values():
        for index in same[1:]:
            clusters.join(same[0], index)
    plain = [i for i, problem in enumerate(problems) if not problem.context]
    question_words = [words(problems[i].question) for i in plain]
    _join_similar(clusters, plain, question_words, _SHINGLE, threshold)
    passages = {context_key(p): i for i, p in reversed([*enumerate(problems)]) if p.context}
    members = sorted(passages.values())
    contexts = [words(problems[i].context) for i in members]
    _join_similar(clusters, members, contexts, _CONTEXT_SHINGLE, threshold)
    return clusters.groups()


def _shared(problem: Problem) -> Iterable[Hashable]:
    if problem.context:
        yield "context", context_key(problem)
    for place in places(problem):
        yield "question", place
    if problem.domain == "code":
        yield "code", words(problem.answer)


def _join_similar(
    clusters: Clusters,
    members: Sequence[int],
    texts: Sequence[Sequence[str]],
    size: int,
    threshold: float,
) -> None:
    """Join those of `members` whose `texts` are near-duplicates."""
    sets = [ngrams(text, size) for text in texts]
    for a, b in near_duplicates(sets, threshold):
        clusters.join(members[a], members[b])
