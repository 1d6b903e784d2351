"""One entrance for all domains: `ScorerSet.score(problem, answer)`.

Whatever a workflow answers ends as a `Score`; only a problem without gold data is an error, since
that is a fault of the data file. Not covered: what a score is worth (`rewards`).
"""

from __future__ import annotations

from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.code_scorer import score_code
from aflow_grpo.scoring.math_scorer import score_math
from aflow_grpo.scoring.qa_scorer import score_qa

__all__ = ["ScorerSet"]


class ScorerSet:
    """Scores answers by the problem's domain.

    Args:
        sandbox: Runs candidate programs against the hidden tests.
        code_timeout_s: Most processor seconds for all hidden tests of one candidate; None: the
            sandbox's.
    """

    def __init__(self, sandbox: Sandbox, *, code_timeout_s: float | None = None) -> None:
        self._sandbox = sandbox
        self._code_timeout_s = code_timeout_s

    async def score(self, problem: Problem, answer: str | None) -> Score:
        """Whether `answer` is right; None (no answer) is wrong.

        Raises:
            DataError: The problem has no gold answer (math, qa) or no hidden tests (code).
        """
        _check_gold(problem)
        if answer is None:
            return Score(0.0, False, "no answer")
        if problem.domain == "code":
            return await score_code(problem, answer, self._sandbox, timeout_s=self._code_timeout_s)
        if problem.domain == "math":
            return score_math(answer, problem.answer)
        return score_qa(answer, (problem.answer, *problem.alternatives))


def _check_gold(problem: Problem) -> None:
    has_gold = bool(problem.hidden_tests if problem.domain == "code" else problem.answer.strip())
    if not has_gold:
        missing = "hidden_tests" if problem.domain == "code" else "answer"
        raise DataError(
            f"problem {problem.id!r} ({problem.domain}) has no {missing}: nothing to score by; "
            "mend or drop the row"
        )
