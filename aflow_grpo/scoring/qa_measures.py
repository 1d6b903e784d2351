"""The exact match and F1 that papers report: HotpotQA's and DROP's official evaluation, anew.

HotpotQA (Yang et al. 2018, arXiv 1809.09600) takes SQuAD's rules and gives nothing for a yes or
no beside other words; DROP (Dua et al. 2019, arXiv 1903.00161) aligns spans one to one and pays
a pair only where its numbers agree. Both keep their blind spots (`3.5` is `35` for HotpotQA): what
is right is decided in `qa_scorer`, these figures are reported beside it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

__all__ = ["drop_measures", "hotpotqa_measures", "official_normal"]

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CLOSED = frozenset({"yes", "no", "noanswer"})
_MAX_SPANS = 50


def official_normal(text: str) -> str:
    """SQuAD's and HotpotQA's normal form: lower case, no punctuation, no articles, one blank."""
    bare = "".join(sign for sign in text.lower() if sign not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def hotpotqa_measures(answer: str, gold: str) -> tuple[float, float]:
    """(exact match, F1) of HotpotQA's evaluation, each in [0, 1]."""
    given, wanted = official_normal(answer), official_normal(gold)
    exact = float(given == wanted)
    if given != wanted and (given in _CLOSED or wanted in _CLOSED):
        return exact, 0.0
    given_words, wanted_words = given.split(), wanted.split()
    common = sum((Counter(given_words) & Counter(wanted_words)).values())
    if not common:
        return exact, 0.0
    return exact, 2 * common / (len(given_words) + len(wanted_words))


def drop_measures(answer: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """(exact match, F1) of DROP's evaluation, each in [0, 1], F1 rounded to 0.01 as there.

    Args:
        answer: The spans that were given; more than 50 are cut.
        gold: The spans of one accepted answer.
    """
    # Half a second to import: only where it is used.
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    given, wanted = _spans(answer[:_MAX_SPANS]), _spans(gold[:_MAX_SPANS])
    if not given or not wanted:
        return 0.0, 0.0
    exact = float(set(given) == set(wanted) and len(given) == len(wanted))
    scores_WG = np.array([[_bag_f1(g.split(), w.split()) for g in given] for w in wanted])
    rows, columns = linear_sum_assignment(-scores_WG)
    f1 = float(scores_WG[rows, columns].sum()) / max(len(given), len(wanted))
    return exact, round(f1, 2)


def _spans(texts: Sequence[str]) -> list[str]:
    return [_drop_normal(text) for text in texts]


def _drop_normal(text: str) -> str:
    words = (_drop_word(word) for word in re.split("[ -]", text.lower()))
    return " ".join(word for word in words if word)


def _drop_word(word: str) -> str:
    if not _is_number(word):
        word = "".join(sign for sign in word if sign not in _PUNCTUATION)
    if _is_number(word):
        return str(float(word))
    return " ".join(_ARTICLES.sub(" ", word).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _bag_f1(given_words: list[str], wanted_words: list[str]) -> float:
    """F1 of two sets of words; 0 where the gold span has numbers and none of them is there."""
    given, wanted = set(given_words), set(wanted_words)
    numbers = {word for word in wanted if _is_number(word)}
    if numbers and not numbers & given:
        return 0.0
    common = len(given & wanted)
    precision = common / len(given) if given else 1.0
    recall = common / len(wanted) if wanted else 1.0
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
