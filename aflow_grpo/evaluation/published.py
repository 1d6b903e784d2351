"""Figures of gpt-4o-mini that are not computed from the recorded scores, and named contrasts.

The recorded search runs used subsets picked for high variance, so a dataset's level is taken from
the published one-call accuracy, and noise, contrasts and costs from the runs. The discovered
workflows' parents are not recorded: each contrast names the two rounds it compares, found by their
operators and scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.evaluation.structure import Agreement

__all__ = [
    "AGREEMENT",
    "CONTRASTS",
    "ONE_CALL",
    "Contrast",
    "OneCall",
    "contrasts_of",
]


@dataclass(frozen=True)
class OneCall:
    """One call per problem with an empty instruction."""

    published: float
    """Accuracy in the AFlow paper (arXiv 2410.10762, table 1, IO); F1 for question answering."""
    raw: float
    """Mean score of the recorded run on the search subset (official scorers, no formatting)."""
    prompt_tokens: int
    """Inferred from cost and text length."""
    completion_tokens: int
    usd: float
    """Per problem, recorded."""


ONE_CALL = {
    "GSM8K": OneCall(0.927, 0.778, 60, 285, 0.000180),
    "MATH": OneCall(0.486, 0.487, 80, 900, 0.000549),
    "HumanEval": OneCall(0.870, 0.933, 120, 405, 0.000263),
    "MBPP": OneCall(0.718, 0.728, 35, 320, 0.000197),
    "DROP": OneCall(0.683, 0.061, 290, 65, 0.000082),
    "HotpotQA": OneCall(0.681, 0.158, 1400, 25, 0.000224),
}


AGREEMENT = {
    "GSM8K": Agreement(0.948, 0.897, 0.182, 0.865),
    "MATH": Agreement(0.688, 0.669, 0.151, 0.511),
    "DROP": Agreement(0.938, 0.737, 0.240, 0.703),
    "HotpotQA": Agreement(0.862, 0.684, 0.267, 0.628),
}
"""As reported with the runs; of the predictions behind it only a sample was kept."""


@dataclass(frozen=True)
class Contrast:
    """What a change of workflow does to the mean score."""

    dataset: str
    name: str
    parents: tuple[str, ...]
    """Recorded rounds; the mean over them counts. ``io`` is round 1, the one call."""
    children: tuple[str, ...]


CONTRASTS = (
    Contrast("GSM8K", "three samples and SC", ("io",), ("2",)),
    Contrast("GSM8K", "then Programmer", ("2",), ("3",)),
    Contrast("GSM8K", "more samples (5)", ("8",), ("10",)),
    Contrast("GSM8K", "then a formatting Custom", ("4", "3"), ("5", "23")),
    Contrast("MATH", "Programmer and refining", ("io",), ("2",)),
    Contrast("MATH", "then three samples and SC", ("2",), ("3",)),
    Contrast("MATH", "then four diverse and SC", ("2",), ("5",)),
    Contrast("MATH", "three samples and SC alone", ("io",), ("8",)),
    Contrast("MBPP", "Test and fixing", ("io",), ("2",)),
    Contrast("MBPP", "three samples, SC, Test", ("2",), ("5", "10", "14", "15", "17")),
    Contrast("MBPP", "a rewrite before Test", ("2",), ("4", "7", "12")),
    Contrast("HumanEval", "Test and regenerating", ("io",), ("5",)),
    Contrast("HumanEval", "a rewrite before Test", ("io",), ("4", "6", "9", "13", "15")),
    Contrast("HumanEval", "a rewrite alone", ("io",), ("3",)),
    Contrast("HumanEval", "a conditional rewrite", ("io",), ("16",)),
    Contrast("DROP", "AnswerGenerate and a short format", ("io",), ("2",)),
    Contrast("DROP", "three samples and SC", ("2",), ("3",)),
    Contrast("DROP", "a weaker format instruction", ("2",), ("6", "14")),
    Contrast("DROP", "a mild verifying step after it", ("3",), ("5", "8", "12", "16")),
    Contrast("DROP", "a bad verifying step after it", ("3",), ("7", "11")),
    Contrast("HotpotQA", "AnswerGenerate and a format", ("io",), ("2",)),
    Contrast("HotpotQA", "three samples, SC, better format", ("2",), ("3",)),
    Contrast("HotpotQA", "a verifying step after it", ("3",), ("4", "5", "8", "9", "13")),
)


def contrasts_of(dataset: str) -> tuple[Contrast, ...]:
    """The contrasts of one dataset."""
    return tuple(contrast for contrast in CONTRASTS if contrast.dataset == dataset)
