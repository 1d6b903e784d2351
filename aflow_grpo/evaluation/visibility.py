"""How far failure shows in a problem's text.

Three answers: a fixed score of two surface features with nothing fitted, a ridge classifier on
surface features, and one on TF-IDF words; the last two are cross-validated. The recorded sets have
30 to 119 problems, so every area under the curve has a wide interval, and `shrunk` pulls the
datasets' figures towards their common mean as far as their differences are explained by chance.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aflow_grpo.evaluation.scores import Figure, bootstrap

__all__ = [
    "TextScale",
    "auc",
    "cross_validated_auc",
    "question_part",
    "shrunk",
    "surface",
    "text_features",
    "text_scale",
    "text_score",
    "weight_for_auc",
]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[A-Za-z]+")
_FOLDS = 5
_ROUNDS = 10
_NORMAL = NormalDist()


@dataclass(frozen=True)
class TextScale:
    """Mean and standard deviation of a dataset's text features: log length, log numbers."""

    means: tuple[float, float]
    deviations: tuple[float, float]
    score_deviation: float
    """Standard deviation of the sum of the two standardised features."""


def question_part(text: str) -> str:
    """The question without its passage (DROP's prompts hold both)."""
    start = text.rfind("Question:")
    return (text[start + len("Question:") :] if start >= 0 else text).strip()


def text_features(question: str) -> tuple[float, float]:
    """log(characters) and log(1 + numbers) of a question."""
    return math.log(max(1, len(question))), math.log1p(len(_NUMBER.findall(question)))


def text_scale(questions: Sequence[str]) -> TextScale:
    """The constants that standardise `text_score` on these questions."""
    features = np.array([text_features(question) for question in questions])
    means, deviations = features.mean(0), np.maximum(features.std(0), 1e-9)
    score = ((features - means) / deviations).sum(1)
    return TextScale(
        (float(means[0]), float(means[1])),
        (float(deviations[0]), float(deviations[1])),
        float(max(score.std(), 1e-9)),
    )


def text_score(question: str, scale: TextScale) -> float:
    """How hard a question looks: longer and with more numbers than others of its dataset."""
    features = text_features(question)
    pairs = zip(features, scale.means, scale.deviations, strict=True)
    return sum((value - mean) / sd for value, mean, sd in pairs) / scale.score_deviation


def surface(text: str) -> tuple[float, ...]:
    """Nine surface features of a text, for the ridge classifier."""
    words = _WORD.findall(text)
    return (
        *text_features(text),
        *text_features(question_part(text)),
        math.log1p(len(re.findall(r"[.?!](?:\s|$)", text))),
        sum(map(len, words)) / max(1, len(words)),
        math.log1p(text.count(",")),
        math.log1p(text.count("\\") + text.count("$")),
        len({word.lower() for word in words}) / max(1, len(words)),
    )


def auc(fails: NDArray[np.bool_], scores: NDArray[np.float64]) -> Figure:
    """Chance that a problem that fails has a higher score than one that does not."""

    def statistic(rows: NDArray[np.intp]) -> float:
        some = fails[rows]
        if some.all() or not some.any():
            return math.nan
        return float(roc_auc_score(some, scores[rows]))

    return bootstrap(statistic, len(fails))


def cross_validated_auc(texts: Sequence[str], fails: NDArray[np.bool_], *, words: bool) -> Figure:
    """The AUC of predictions for problems that the classifier has not seen.

    Args:
        texts: Problem texts.
        fails: What is predicted.
        words: TF-IDF words; otherwise `surface` features.
    """
    folds = min(_FOLDS, int(fails.sum()), int((~fails).sum()))
    if folds < 2:
        return Figure(math.nan, math.nan, math.nan)
    if words:
        data = np.array(texts, dtype=object)
        model = make_pipeline(
            TfidfVectorizer(min_df=2, sublinear_tf=True), LogisticRegression(C=1.0)
        )
    else:
        data = np.array([surface(text) for text in texts])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    predicted = np.zeros((len(texts), _ROUNDS))
    splits = RepeatedStratifiedKFold(n_splits=folds, n_repeats=_ROUNDS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant features of small folds
        for number, (train, test) in enumerate(splits.split(data, fails)):
            model.fit(data[train], fails[train])
            predicted[test, number // folds] = model.decision_function(data[test])
    # The interval is that of the mean prediction over rounds.
    return auc(fails, predicted.mean(1))


def shrunk(figures: Mapping[str, Figure]) -> dict[str, float]:
    """Random-effects estimates: each dataset's AUC pulled towards the common mean.

    The variance between datasets is DerSimonian and Laird's; standard errors come from the
    intervals.
    """
    names = [name for name, figure in figures.items() if not math.isnan(figure.value)]
    values = np.array([figures[name].value for name in names])
    errors = np.array([(figures[name].high - figures[name].low) / (2 * 1.96) for name in names])
    weights = 1 / np.maximum(errors, 1e-3) ** 2
    mean = float((weights * values).sum() / weights.sum())
    spread = float((weights * (values - mean) ** 2).sum())
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    between = max(0.0, (spread - (len(names) - 1)) / scale)
    total = 1 / (errors**2 + between) if between else weights
    mean = float((total * values).sum() / total.sum())
    keeps = between / (between + errors**2)
    return dict(zip(names, (float(v) for v in mean + keeps * (values - mean)), strict=True))


def weight_for_auc(wanted: float, accuracy: float) -> float:
    """The correlation of a normal text score with a normal latent difficulty that gives an AUC.

    Args:
        wanted: The AUC of "fails" by the text score.
        accuracy: Share of problems that are solved.

    Returns:
        In [0, 0.99]; 0 for an AUC of one half or less.
    """
    rng = np.random.default_rng(0)
    latent, own = rng.standard_normal((2, 40_000))
    fails = latent > _NORMAL.inv_cdf(accuracy)
    low, high = 0.0, 0.99
    for _ in range(24):
        middle = (low + high) / 2
        score = middle * latent + math.sqrt(1 - middle * middle) * own
        reached = float(roc_auc_score(fails, score)) < wanted
        low, high = (middle, high) if reached else (low, middle)
    return 0.0 if wanted <= 0.5 else (low + high) / 2
