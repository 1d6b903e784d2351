"""A problem, whole and as a workflow may see it.

Gold answers and hidden tests decide what a rollout is worth, so nothing that helps to find an
answer may know them. The barrier is a type: policies, operators, the interpreter and whatever
builds a prompt take a `VisibleProblem`, which has no field for them, and `require_visible` stands
at each of their entrances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DOMAINS", "Domain", "Problem", "VisibleProblem", "problem_text", "require_visible"]

Domain = Literal["math", "code", "qa"]
DOMAINS: tuple[Domain, ...] = ("math", "code", "qa")


@dataclass(frozen=True)
class Problem:
    """One task to be solved by a workflow."""

    id: str
    """Unique over all datasets, e.g. ``gsm8k/train/17``."""
    dataset: str
    """Where it comes from, e.g. ``sample``, ``gsm8k``; the one-call cost is looked up by it."""
    domain: Domain
    """Decides the allowed operators, the scorer and the fallback workflow."""
    question: str
    """The question alone, without its context."""
    answer: str
    """Gold answer: a value (math), a short answer (qa), a reference solution or "" (code)."""
    alternatives: tuple[str, ...] = ()
    """Further accepted answers (qa)."""
    context: str = ""
    """The passages that the question is about (qa)."""
    entry_point: str = ""
    """Name of the function to write (code)."""
    test_setup: str = ""
    """Code that runs before the tests, e.g. imports (code)."""
    public_tests: tuple[str, ...] = ()
    """`assert` statements that a workflow's Test operator may run (code)."""
    hidden_tests: tuple[str, ...] = ()
    """`assert` statements that decide correctness, never shown to policy or executor (code). Where
    the public ones are part of the dataset's own tests (MBPP), they decide too."""
    difficulty: int = 0
    """1 easy, 2 middle, 3 hard; 0 when nobody knows."""

    @property
    def text(self) -> str:
        """What a workflow receives as `problem`: the context, if any, then the question."""
        return problem_text(self.question, self.context)

    @property
    def visible(self) -> VisibleProblem:
        """This problem without its gold answer and its hidden tests."""
        return VisibleProblem(
            id=self.id,
            dataset=self.dataset,
            domain=self.domain,
            question=self.question,
            context=self.context,
            entry_point=self.entry_point,
            test_setup=self.test_setup,
            public_tests=self.public_tests,
        )


@dataclass(frozen=True)
class VisibleProblem:
    """What policy, workflow, operators and executor may know of a `Problem`: nothing that scores.

    The fields mean what they mean there.
    """

    id: str
    dataset: str
    domain: Domain
    question: str
    context: str = ""
    entry_point: str = ""
    test_setup: str = ""
    public_tests: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What a workflow receives as `problem`: the context, if any, then the question."""
        return problem_text(self.question, self.context)


def problem_text(question: str, context: str) -> str:
    """A question after its context, if it has any."""
    return f"Context: {context}\n\nQuestion: {question}" if context else question


def require_visible(problem: VisibleProblem) -> VisibleProblem:
    """`problem`, after making sure at run time that it cannot hold gold data.

    Raises:
        TypeError: It is something else, such as a whole `Problem`; a bug of ours.
    """
    if type(problem) is not VisibleProblem:
        raise TypeError(
            f"{type(problem).__name__} given where only a VisibleProblem may be seen: gold answers "
            "and hidden tests must not reach a prompt, an operator or the interpreter. Pass "
            "`problem.visible`."
        )
    return problem
