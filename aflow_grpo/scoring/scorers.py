"""One entrance for all domains: `ScorerSet.score(problem, answer)`.

Whatever a workflow answers ends as a `Score`; only a problem without gold data and a user's broken
scorer are errors. Not covered: what a score is worth (`rewards`).
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.code_aflow import AFLOW_TIMEOUT_S, score_code_aflow
from aflow_grpo.scoring.code_scorer import score_code
from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_aflow import score_gsm8k_aflow, score_math_aflow
from aflow_grpo.scoring.math_scorer import score_math
from aflow_grpo.scoring.own_scorers import ask_own_scorer, load_scorers
from aflow_grpo.scoring.qa_aflow import score_qa_aflow
from aflow_grpo.scoring.qa_scorer import score_qa
from aflow_grpo.scoring.settings import ScoringSettings

__all__ = ["ScorerSet"]


class ScorerSet:
    """Scores answers by the problem's dataset and domain; close it, or use it with `async with`.

    Args:
        sandbox: Runs candidate programs against the hidden tests.
        settings: The profile, a user's own scorers, the clocks.

    Raises:
        ConfigError: An own scorer cannot be loaded (see `load_scorers`).
    """

    def __init__(self, sandbox: Sandbox, settings: ScoringSettings = ScoringSettings()) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self._own = load_scorers(settings.scorers)
        self._equivalence = Equivalence(timeout_s=settings.math_timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the process that compares formulas, if one was needed; the sandbox stays open."""
        await self._equivalence.aclose()

    async def score(self, problem: Problem, answer: str | None) -> Score:
        """Whether `answer` is right; None (no answer) is wrong.

        Raises:
            DataError: The problem has no gold answer (math, qa) or no hidden tests (code).
            ConfigError: The user's scorer of this dataset raised or gave no value in [0, 1].
        """
        dataset = problem.dataset.lower()
        own = self._own.get(dataset)
        if own is None:
            _check_gold(problem)
        if answer is None:
            return Score(0.0, False, "no answer")
        if own is not None:
            return await ask_own_scorer(own, problem, answer)
        if self._settings.profile == "aflow":
            return await self._aflow(problem, dataset, answer)
        return await self._strict(problem, dataset, answer)

    async def _strict(self, problem: Problem, dataset: str, answer: str) -> Score:
        if problem.domain == "code":
            timeout_s = self._settings.code_timeout_s
            return await score_code(problem, answer, self._sandbox, timeout_s=timeout_s)
        if problem.domain == "math":
            return await score_math(answer, problem.answer, self._equivalence)
        return score_qa(
            answer, _golds(problem, dataset), drop=dataset == "drop", question=problem.question
        )

    async def _aflow(self, problem: Problem, dataset: str, answer: str) -> Score:
        if problem.domain == "code":
            timeout_s = self._settings.code_timeout_s or AFLOW_TIMEOUT_S
            return await score_code_aflow(problem, answer, self._sandbox, timeout_s=timeout_s)
        if problem.domain == "math":
            if dataset == "gsm8k":
                return await score_gsm8k_aflow(answer, problem.answer)
            return await score_math_aflow(answer, problem.answer, self._equivalence)
        golds = _golds(problem, dataset)
        return score_qa_aflow(answer, golds, alternatives=dataset != "hotpotqa")


def _golds(problem: Problem, dataset: str) -> tuple[str, ...]:
    """Every accepted answer; DROP's may come joined by bars, as its rows have them."""
    golds = (problem.answer, *problem.alternatives)
    if dataset == "drop":
        return tuple(part.strip() for gold in golds for part in gold.split("|") if part.strip())
    return golds


def _check_gold(problem: Problem) -> None:
    has_gold = bool(problem.hidden_tests if problem.domain == "code" else problem.answer.strip())
    if not has_gold:
        missing = "hidden_tests" if problem.domain == "code" else "answer"
        raise DataError(
            f"problem {problem.id!r} ({problem.domain}) has no {missing}: nothing to score by; "
            "mend or drop the row"
        )
