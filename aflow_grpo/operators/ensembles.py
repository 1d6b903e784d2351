"""The operators that choose among solutions: ScEnsemble, MdEnsemble.

Candidates are told apart by position, never by text, so duplicates keep their letters. Where all
candidates are the same there is nothing to choose, and nothing is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.operators.base import LLM, Arguments, Operator, Result, contract
from aflow_grpo.operators.prompts import LETTERS, choice_prompt
from aflow_grpo.operators.replies import Choice, Vote
from aflow_grpo.records import FaultKind

__all__ = ["MdEnsemble", "ScEnsemble"]

_VOTES = 5


class ScEnsemble(Operator):
    """Universal self-consistency (arXiv 2311.17311): one call picks the most consistent one.

    A reply that names no candidate is asked again once; then the first candidate is taken.
    """

    spec = contract("sc_ensemble")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        solutions = _candidates(self, given)
        if len(set(solutions)) == 1:
            return {"response": solutions[0]}
        prompt = choice_prompt(
            "sc_ensemble", given.text("problem"), solutions, given.text("instruction")
        )
        choice = await llm.call_with_format(
            prompt.user, Choice(len(solutions)), system=prompt.system, form=prompt.form
        )
        return {"response": solutions[choice]}


class MdEnsemble(Operator):
    """Five votes on shuffled candidates, after MedPrompt (arXiv 2311.16452); the majority wins.

    The shuffles hang on the candidates alone, so the same call asks the same questions. Votes
    that name no candidate are dropped, equal texts share their votes, ties go to the earliest.
    """

    spec = contract("md_ensemble")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        solutions = _candidates(self, given)
        if len(set(solutions)) == 1:
            return {"solution": solutions[0]}
        votes = await asyncio.gather(
            *(_vote(llm, given, solutions, _shuffled(solutions, vote)) for vote in range(_VOTES)),
            return_exceptions=True,
        )
        for vote in votes:
            if isinstance(vote, BaseException):
                raise vote
        counts = Counter(vote for vote in votes if isinstance(vote, str))
        return {"solution": max(solutions, key=lambda solution: counts[solution])}


async def _vote(
    llm: LLM, given: Arguments, solutions: Sequence[str], order: Sequence[int]
) -> str | None:
    """The solution that one vote is for; None when the reply names none."""
    shuffled = [solutions[index] for index in order]
    prompt = choice_prompt(
        "md_ensemble", given.text("problem"), shuffled, given.text("instruction")
    )
    choice = await llm.call_with_format(
        prompt.user, Vote(len(shuffled)), system=prompt.system, form=prompt.form
    )
    return None if choice is None else shuffled[choice]


def _shuffled(solutions: Sequence[str], vote: int) -> list[int]:
    """The candidates' positions in the order in which this vote shows them."""
    content = hashlib.sha256("\0".join(solutions).encode(errors="replace")).hexdigest()

    def place(index: int) -> str:
        return hashlib.sha256(f"{content}/{vote}/{index}".encode()).hexdigest()

    return sorted(range(len(solutions)), key=place)


def _candidates(operator: Operator, given: Arguments) -> list[str]:
    solutions = given.texts("solutions")
    name = operator.spec.attribute
    if not solutions:
        raise WorkflowFault(
            FaultKind.EXCEPTION, f"{name}: solutions is empty; pass at least one candidate"
        )
    if len(solutions) > len(LETTERS):
        raise WorkflowFault(
            FaultKind.EXCEPTION,
            f"{name}: {len(solutions)} solutions; it takes at most {len(LETTERS)}",
        )
    return solutions
