"""What problems have in common with each other, and structures with each other: the two sides.

A pair (problem, structure) is like another as far as the problems are, times as far as the
structures are. Each side is fitted on what was seen and then compares anything with that. Centred
likenesses, whose mean over what was seen is 0, keep a main effect out of an interaction.

Problems are compared by their question alone: by words (TF-IDF of words and pairs of words) and by
size (log length, how many numbers). Not here: the model that uses this (`process`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log, log1p
from typing import Any

import numpy as np

from aflow_grpo.outcomes.structure import Structure
from aflow_grpo.outcomes.variances import Floats

__all__ = ["ProblemSide", "StructureSide"]

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MOST_WORDS = 20_000


class ProblemSide:
    """Likeness of questions to those that were seen.

    Args:
        texts_P: Questions, without their passages.
    """

    def __init__(self, texts_P: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectors: Any = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_WORDS,
            token_pattern=r"(?u)\b\w+\b",
        )  # fmt: skip
        try:
            words_PD = self._vectors.fit_transform(texts_P)
        except ValueError:  # no question holds a word
            self._vectors, words_PD = None, None
        self._words_PD = words_PD
        none_PP = np.zeros((len(texts_P), len(texts_P)))
        like_PP = none_PP if words_PD is None else self._raw(words_PD)
        self._means_P, self._mean = like_PP.mean(1), float(like_PP.mean())
        self._scale = 1.0
        self._scale = _mean_diagonal(self._centred(like_PP, self._means_P))
        self._seen_PP = self._centred(like_PP, self._means_P)
        sizes_P2 = _sizes(texts_P)
        self._centre_2 = sizes_P2.mean(0)
        spread_2 = sizes_P2.std(0)
        self._spread_2 = np.where(spread_2 > 1e-9, spread_2, np.inf)
        self._sizes_P2: Floats = (sizes_P2 - self._centre_2) / self._spread_2

    def words(self, texts_Q: Sequence[str] | None = None) -> Floats:
        """Centred likeness by words to those seen, (Q, P); without texts, of those seen."""
        if texts_Q is None:
            return self._seen_PP
        if self._vectors is None:
            return np.zeros((len(texts_Q), len(self._means_P)))
        like_QP = self._raw(self._vectors.transform(texts_Q))
        return self._centred(like_QP, like_QP.mean(1))

    def size(self, texts_Q: Sequence[str] | None = None) -> Floats:
        """Likeness by size to those seen, (Q, P)."""
        like_QP: Floats = self._standard(texts_Q) @ self._sizes_P2.T / 2
        return like_QP

    def _raw(self, words_QD: Any) -> Floats:
        like_QP: Floats = np.asarray((words_QD @ self._words_PD.T).todense(), dtype=np.float64)
        return like_QP

    def _centred(self, like_QP: Floats, means_Q: Floats) -> Floats:
        shift_QP = means_Q[:, None] + self._means_P[None, :] - self._mean
        centred_QP: Floats = (like_QP - shift_QP) / self._scale
        return centred_QP

    def _standard(self, texts_Q: Sequence[str] | None) -> Floats:
        if texts_Q is None:
            return self._sizes_P2
        scaled_Q2: Floats = (_sizes(texts_Q) - self._centre_2) / self._spread_2
        return scaled_Q2


def _sizes(texts: Sequence[str]) -> Floats:
    """Log length in characters and log (1 + numbers), (Q, 2)."""
    sizes = [(log(1 + len(text)), log1p(len(_NUMBER.findall(text)))) for text in texts]
    return np.array(sizes, dtype=np.float64).reshape(-1, 2)


def _mean_diagonal(like_PP: Floats) -> float:
    """What to divide by, so that the diagonal has mean 1; of nothing at all, 1."""
    mean = float(np.diagonal(like_PP).mean())
    return mean if mean > 1e-9 else 1.0


class StructureSide:
    """Likeness of structures to those that were seen.

    Args:
        structures_S: Of different keys.
    """

    def __init__(self, structures_S: Sequence[Structure]) -> None:
        self._keys = {structure.key: s for s, structure in enumerate(structures_S)}
        names = sorted({name for one in structures_S for name, _ in one.features})
        self._columns = {name: d for d, name in enumerate(names)}
        self._unit_SD = self._units(structures_S)
        cosine_SS = self._unit_SD @ self._unit_SD.T
        self._like_means_S, self._like_mean = cosine_SS.mean(1), float(cosine_SS.mean())
        self._like_scale = 1.0
        self._like_scale = _mean_diagonal(self._like_centred(cosine_SS, self._like_means_S))
        both_SS = (cosine_SS + np.eye(len(structures_S))) / 2
        self._both_means_S, self._both_mean = both_SS.mean(1), float(both_SS.mean())
        self._both_scale = 1.0
        self._both_scale = _mean_diagonal(self._both_centred(both_SS, self._both_means_S))

    def exact(self, structures_T: Sequence[Structure]) -> Floats:
        """1 where the structure is the same, (T, S)."""
        same_TS = np.zeros((len(structures_T), len(self._keys)))
        for t, structure in enumerate(structures_T):
            if structure.key in self._keys:
                same_TS[t, self._keys[structure.key]] = 1.0
        return same_TS

    def features(self, structures_T: Sequence[Structure]) -> Floats:
        """Centred cosine of features, (T, S)."""
        cosine_TS = self._cosine(structures_T)
        return self._like_centred(cosine_TS, cosine_TS.mean(1))

    def both(self, structures_T: Sequence[Structure]) -> Floats:
        """Mean of sameness and cosine, (T, S); 1 for the same structure."""
        both_TS: Floats = (self._cosine(structures_T) + self.exact(structures_T)) / 2
        return both_TS

    def contrast(self, structures_T: Sequence[Structure]) -> Floats:
        """The centred mean of sameness and cosine, (T, S): for interactions."""
        both_TS = self.both(structures_T)
        return self._both_centred(both_TS, both_TS.mean(1))

    def _cosine(self, structures_T: Sequence[Structure]) -> Floats:
        cosine_TS: Floats = self._units(structures_T) @ self._unit_SD.T
        return cosine_TS

    def _units(self, structures_T: Sequence[Structure]) -> Floats:
        """Feature vectors of length 1, of which the features that were never seen are left out."""
        unit_TD = np.zeros((len(structures_T), len(self._columns)))
        for t, structure in enumerate(structures_T):
            length = sum(weight**2 for _, weight in structure.features) ** 0.5 or 1.0
            for name, weight in structure.features:
                if name in self._columns:
                    unit_TD[t, self._columns[name]] = weight / length
        return unit_TD

    def _like_centred(self, like_TS: Floats, means_T: Floats) -> Floats:
        shift_TS = means_T[:, None] + self._like_means_S[None, :] - self._like_mean
        centred_TS: Floats = (like_TS - shift_TS) / self._like_scale
        return centred_TS

    def _both_centred(self, like_TS: Floats, means_T: Floats) -> Floats:
        shift_TS = means_T[:, None] + self._both_means_S[None, :] - self._both_mean
        centred_TS: Floats = (like_TS - shift_TS) / self._both_scale
        return centred_TS
