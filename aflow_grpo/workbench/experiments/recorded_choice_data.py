"""Recorded runs as a world to choose in: rewards per (problem, workflow, repeat), folds, features.

Everything that is fitted (words, directions, means) is fitted on a fold's training problems only.
Two things are not in the records. A workflow's cost is known as its mean over a run, not per
problem, so every problem of a workflow gets that mean. Of a call inside a loop only the call is
known, not how often it was made: `loop_calls` says how often it counts. Not here: who chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from aflow_grpo.evaluation.recorded import Recorded
from aflow_grpo.evaluation.visibility import question_part, text_features
from aflow_grpo.records import (
    Completion,
    Domain,
    Execution,
    OperatorCall,
    Problem,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.rewards import RewardSettings, RewardWeights, compute_reward
from aflow_grpo.seeds import derive_seed

__all__ = [
    "SURFACE",
    "ChoiceWorld",
    "Fit",
    "choice_world",
    "folds",
    "shuffled",
    "text_columns",
]

SURFACE = 2
"""Columns before the words' directions: log length and log number count."""
_DOMAINS: dict[str, Domain] = {
    "GSM8K": "math",
    "MATH": "math",
    "HumanEval": "code",
    "MBPP": "code",
    "DROP": "qa",
    "HotpotQA": "qa",
}
_CALL = OperatorCall("custom", {}, {}, Usage(), seconds=0.0)
_TEXT = Completion('{"prompts": {}, "graph_code": "..."}', (), (), (), finished=True)
_SOURCE = WorkflowSource("class Workflow: ...")


@dataclass(frozen=True)
class ChoiceWorld:
    """One dataset: axes `P` problems, `W` workflows, `R` repeats."""

    dataset: str
    problems: tuple[str, ...]
    questions: tuple[str, ...]
    workflows: tuple[str, ...]
    scores_PWR: NDArray[np.float64]
    """Recorded, in [0, 1]: right or wrong, or F1."""
    usd_W: NDArray[np.float64]
    """Mean list cost of one execution."""
    calls_W: tuple[int, ...]
    """Operator calls of one execution; one inside a loop counts `loop_calls` times."""

    @property
    def scores_PW(self) -> NDArray[np.float64]:
        """Means over repeats."""
        scores: NDArray[np.float64] = self.scores_PWR.mean(2)
        return scores

    def rewards_PWR(self, efficiency_points: float | None = None) -> NDArray[np.float64]:
        """What each recorded run is worth by the package's reward, preset `ordered`.

        Args:
            efficiency_points: Of 100; what it has more or less than the preset's 15 comes from
                correctness. None: the preset.
        """
        settings = RewardSettings()
        if efficiency_points is not None:
            preset = RewardWeights()
            correctness = preset.correctness + preset.efficiency - efficiency_points
            weights = replace(preset, correctness=correctness, efficiency=efficiency_points)
            settings = RewardSettings(weights=weights)
        rewards = np.empty_like(self.scores_PWR)
        for w in range(len(self.workflows)):
            values, places = np.unique(self.scores_PWR[:, w], return_inverse=True)
            worth = [self._reward(w, float(value), settings) for value in values]
            rewards[:, w] = np.array(worth)[places].reshape(rewards[:, w].shape)
        return rewards

    def _reward(self, w: int, score: float, settings: RewardSettings) -> float:
        problem = Problem("recorded", self.dataset.lower(), _DOMAINS[self.dataset], "", "")
        calls = self.calls_W[w]
        usage = Usage(calls=calls, cost_usd=float(self.usd_W[w]))
        ran = Execution(Status.OK, "", source=_SOURCE, calls=(_CALL,) * calls, usage=usage)
        judged = Score(score, correct=score >= 1)
        return compute_reward(problem, _TEXT, ran, judged, settings).total


def choice_world(recorded: Recorded, *, loop_calls: int) -> ChoiceWorld:
    """A dataset's recorded runs.

    Args:
        recorded: As read.
        loop_calls: How often an operator call inside a loop counts.
    """
    table = recorded.table
    calls = tuple(
        sum(loop_calls if call.endswith("*") else 1 for call in recorded.operators[name])
        for name in table.workflows
    )
    return ChoiceWorld(
        table.dataset,
        table.problems,
        recorded.questions,
        table.workflows,
        table.scores_PWR,
        table.usd_W,
        calls,
    )


def shuffled(world: ChoiceWorld, seed: int) -> ChoiceWorld:
    """The same world with its texts dealt to other problems: nothing can be won by reading."""
    rng = np.random.default_rng(derive_seed("shuffled texts", world.dataset, seed))
    order = rng.permutation(len(world.problems))
    return replace(world, questions=tuple(world.questions[i] for i in order))


@dataclass(frozen=True)
class Fit:
    """What one model is fitted on and whom it chooses for; masks over problems."""

    outer: int
    inner: int | None
    """None: fitted on all of the outer training problems, to choose for the outer fold."""
    train_P: NDArray[np.bool_]
    held_P: NDArray[np.bool_]


def folds(problems: int, *, outer: int, inner: int, seed: int) -> tuple[Fit, ...]:
    """Nested folds: per outer fold one fit, then `inner` ones inside its training problems."""
    rng = np.random.default_rng(derive_seed("folds", seed))
    outer_P = rng.permutation(problems) % outer
    fits = []
    for number in range(outer):
        train_P = outer_P != number
        fits.append(Fit(number, None, train_P, ~train_P))
        inner_P = np.full(problems, -1)
        inner_P[train_P] = rng.permutation(int(train_P.sum())) % inner
        for part in range(inner):
            held_P = inner_P == part
            fits.append(Fit(number, part, train_P & ~held_P, held_P))
    return tuple(fits)


def text_columns(
    questions: Sequence[str], train_P: NDArray[np.bool_], dimensions: int
) -> NDArray[np.float64]:
    """Features of all questions, from what the training questions hold.

    Log length and log number count of the whole text, then the leading directions of the TF-IDF
    words of the question (without its passage), largest first; each with mean 0 and deviation 1
    over the training problems. A direction that these do not have is 0.

    Returns:
        (P, SURFACE + dimensions).
    """
    surface = np.array([text_features(question) for question in questions])
    asked = [question_part(question) for question in questions]
    known = [text for text, train in zip(asked, train_P, strict=True) if train]
    words = TfidfVectorizer(min_df=2, sublinear_tf=True).fit(known)
    size = min(dimensions, len(words.vocabulary_), len(known))
    directions = TruncatedSVD(size, random_state=0).fit(words.transform(known))
    columns = np.zeros((len(questions), SURFACE + dimensions))
    columns[:, :SURFACE] = surface
    columns[:, SURFACE : SURFACE + size] = directions.transform(words.transform(asked))
    means, deviations = columns[train_P].mean(0), columns[train_P].std(0)
    scaled: NDArray[np.float64] = (columns - means) / np.where(deviations > 1e-9, deviations, 1.0)
    return scaled
