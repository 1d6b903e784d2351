"""AFlow's own score of QA answers, defects included, so that numbers compare with its tables.

Token F1 after lower case, without punctuation and articles: `The answer is Paris.` gets 0.5 for
`Paris`, `3.5` is `35`, a yes for a no gets what the words around it share. Written anew from the
description of AFlow (arXiv 2410.10762); the recorded runs are the test. Never train on it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from aflow_grpo.records import Score

__all__ = ["aflow_f1", "score_qa_aflow"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_RIGHT = 1 - 1e-9


def score_qa_aflow(answer: str, golds: Sequence[str], *, alternatives: bool) -> Score:
    """AFlow's F1; `correct` where it is 1.

    Args:
        answer: The workflow's answer, any text.
        golds: The accepted answers, at least one.
        alternatives: As for DROP: `|` separates alternatives in both texts, and the best pair
            counts. Without it the first gold answer and the whole text are compared, as for
            HotpotQA.
    """
    if alternatives:
        wanted = [part for gold in golds for part in gold.split("|") if part.strip()]
        value = max(
            (aflow_f1(given, gold) for given in answer.split("|") for gold in wanted), default=0.0
        )
    else:
        value = aflow_f1(answer, golds[0])
    return Score(value, value >= _RIGHT, f"AFlow's F1 with {golds[0][:80]!r} is {value:.3f}")


def aflow_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the shared tokens, in [0, 1]."""
    given, wanted = _tokens(answer), _tokens(gold)
    common = sum((Counter(given) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _tokens(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
