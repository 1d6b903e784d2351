"""Problems of all domains and prompts after the wire convention, for the simulator's tests."""

from __future__ import annotations

from aflow_grpo.records import Domain, Problem
from aflow_grpo.workflow.contract import OPERATORS

MARKERS = {spec.attribute: spec.marker for spec in OPERATORS}


def math_problem(number: int, difficulty: int) -> Problem:
    start, daily = number + 3, number % 7 + 2
    question = (
        f"Runner {number} has {start} medals and wins {daily} more each day for a week.\n"
        "How many medals are there now, all in all?"
    )
    return Problem(
        id=f"math/{difficulty}/{number}",
        dataset="made",
        domain="math",
        question=question,
        answer=str(start + 7 * daily),
        difficulty=difficulty,
    )


def qa_problem(number: int, difficulty: int) -> Problem:
    return Problem(
        id=f"qa/{difficulty}/{number}",
        dataset="made",
        domain="qa",
        question="Which town lies closest to the sea?",
        answer="Old Harbour",
        alternatives=("Harbour",),
        context=f"Case {number}. Old Harbour is by the sea. New Castle and Green Hill lie inland.",
        difficulty=difficulty,
    )


def code_problem(number: int, difficulty: int) -> Problem:
    name = f"total_{number}"
    reference = (
        f"def {name}(values):\n    total = {number}\n    for value in values:\n"
        "        if value > 100:\n            continue\n        total += value\n    return total"
    )
    return Problem(
        id=f"code/{difficulty}/{number}",
        dataset="made",
        domain="code",
        question=f"Write {name}(values): {number} plus the sum of the values up to 100.",
        answer=reference,
        entry_point=name,
        public_tests=(f"assert {name}([1, 2]) == {number + 3}",),
        hidden_tests=(f"assert {name}([100, 101]) == {number + 100}",),
        difficulty=difficulty,
    )


_MAKERS = {"math": math_problem, "qa": qa_problem, "code": code_problem}


def problems(domain: Domain, count: int, difficulty: int = 0) -> list[Problem]:
    return [_MAKERS[domain](number, difficulty) for number in range(count)]


def system(operator: str) -> str:
    return f"{MARKERS[operator]} You are an expert."


def sections(**contents: str) -> str:
    tagged = [f"<{tag}>\n{content}\n</{tag}>" for tag, content in contents.items()]
    return "\n".join([*tagged, "Reply inside <answer>...</answer> and nothing else."])


def ballot(*solutions: str) -> str:
    letters = "ABCDEFGH"
    return "\n".join(
        f'<candidate letter="{letters[i]}">\n{text}\n</candidate>'
        for i, text in enumerate(solutions)
    )
