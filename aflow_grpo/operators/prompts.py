"""Every prompt that the executor sees, in one place.

A request has two messages. The system message opens with the contract's marker, by which a server
recognises the operator, and states the role. The user message holds tagged sections and closes
with the output format; `custom` alone sends the workflow's own words as they are. Where a reply has
short parts only, a `form` asks for the same as a JSON object, for endpoints that can be held to it;
code and rewritten solutions never go through JSON. `replies` reads what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aflow_grpo.llm.structured import Part, ReplyForm
from aflow_grpo.operators.base import contract

__all__ = [
    "LETTERS",
    "Prompt",
    "answer_prompt",
    "choice_prompt",
    "code_prompt",
    "custom_prompt",
    "format_prompt",
    "mend_prompt",
    "program_prompt",
    "review_prompt",
    "revise_prompt",
]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Labels of the candidates in an ensemble, in order; so many are the most it takes."""

_ROLES = {
    "custom": "You carry out the instruction you are given.",
    "answer_generate": "You solve problems step by step and commit to one concise answer.",
    "custom_code_generate": "You write correct, complete Python functions.",
    "sc_ensemble": "You pick the candidate that agrees best with the others.",
    "md_ensemble": "You pick the best of several candidates.",
    "programmer": "You turn a problem into a small Python program that computes its answer.",
    "test": "You mend Python code that fails its tests.",
    "format": "You extract the final answer from a solution.",
    "review": "You judge whether a solution is right.",
    "revise": "You rewrite a solution so that it meets the feedback.",
}


@dataclass(frozen=True)
class Prompt:
    """One request to the executor."""

    system: str
    user: str
    form: ReplyForm | None = None
    """How to ask for a JSON object instead; None where the reply has no short parts."""


def custom_prompt(text: str, instruction: str) -> Prompt:
    """The workflow's own words, unchanged."""
    return _prompt("custom", f"{instruction}\n\n{text}" if instruction else text)


def answer_prompt(problem: str, instruction: str) -> Prompt:
    """Asks for reasoning and a concise answer."""
    return _tagged(
        "answer_generate",
        [("problem", problem), ("instruction", instruction)],
        "Reason step by step inside <thought>...</thought>, then give only the final answer, as "
        "short as possible and without explanation, inside <answer>...</answer>.",
        "Reply with a JSON object: reason step by step in `thought`, then give only the final "
        "answer, as short as possible and without explanation, in `answer`.",
        (Part("thought", "the reasoning, step by step"), Part("answer", "the final answer alone")),
    )


def code_prompt(problem: str, entry_point: str, instruction: str) -> Prompt:
    """Asks for a function, or for a program when no entry point is known."""
    wanted = f"Define `{entry_point}` and all that it needs" if entry_point else "Write the program"
    return _tagged(
        "custom_code_generate",
        [("problem", problem), ("entry_point", entry_point), ("instruction", instruction)],
        f"{wanted} in one ```python block; write no tests.",
    )


def choice_prompt(
    operator: str, problem: str, solutions: Sequence[str], instruction: str
) -> Prompt:
    """Asks for the letter of one candidate; `operator` is `sc_ensemble` or `md_ensemble`."""
    candidates = "\n".join(
        f'<candidate letter="{letter}">\n{solution}\n</candidate>'
        for letter, solution in zip(LETTERS, solutions, strict=False)
    )
    aim = {
        "sc_ensemble": "Compare the final answers and choose the one reached most often.",
        "md_ensemble": "Weigh the candidates against the problem and choose the best one.",
    }[operator]
    return _tagged(
        operator,
        [("problem", problem), ("instruction", instruction), ("solutions", candidates)],
        f"{aim} Reply with its letter alone, like this: <choice>A</choice>",
        f"{aim} Reply with a JSON object: its letter in `choice`.",
        (Part("choice", "the candidate's letter", tuple(LETTERS[: len(solutions)])),),
    )


def program_prompt(
    problem: str, analysis: str, instruction: str, *, solution: str = "", failure: str = ""
) -> Prompt:
    """Asks for a program; on a retry with the last program and what went wrong with it."""
    return _tagged(
        "programmer",
        [
            ("problem", problem),
            ("instruction", instruction),
            ("analysis", analysis),
            ("solution", solution),
            ("failure", failure),
        ],
        "Write one ```python block that defines `solve()`: it takes no arguments and returns the "
        "answer. Use the standard library only; read no input and print nothing.",
    )


def mend_prompt(
    problem: str, entry_point: str, solution: str, failure: str, instruction: str
) -> Prompt:
    """Asks for mended code."""
    return _tagged(
        "test",
        [
            ("problem", problem),
            ("instruction", instruction),
            ("entry_point", entry_point),
            ("solution", solution),
            ("failure", failure),
        ],
        "Find the cause of the failure, then give the whole mended code in one ```python block.",
    )


def format_prompt(problem: str, solution: str, instruction: str) -> Prompt:
    """Asks for the short answer that a solution comes to."""
    return _tagged(
        "format",
        [("problem", problem), ("instruction", instruction), ("solution", solution)],
        "Give only the final answer that the solution comes to, as a number, a name or a few "
        "words, inside <answer>...</answer>.",
        "Reply with a JSON object: only the final answer that the solution comes to, as a number, "
        "a name or a few words, in `answer`.",
        (Part("answer", "the final answer alone"),),
    )


def review_prompt(problem: str, solution: str, instruction: str) -> Prompt:
    """Asks for a verdict on a solution."""
    return _tagged(
        "review",
        [("problem", problem), ("instruction", instruction), ("solution", solution)],
        "Check every step. Reply <verdict>right</verdict>, or <verdict>wrong</verdict> when you "
        "are sure of a mistake, then say what to mend inside <feedback>...</feedback>.",
        "Check every step. Reply with a JSON object: `verdict` is right, or wrong when you are "
        "sure of a mistake; `feedback` says what to mend.",
        (
            Part("verdict", "whether the solution is right", ("right", "wrong")),
            Part("feedback", "what to mend"),
        ),
    )


def revise_prompt(problem: str, solution: str, feedback: str, instruction: str) -> Prompt:
    """Asks for a better solution."""
    return _tagged(
        "revise",
        [
            ("problem", problem),
            ("instruction", instruction),
            ("solution", solution),
            ("feedback", feedback),
        ],
        "Give the whole rewritten solution, in the same form, inside <solution>...</solution>.",
    )


def _tagged(
    operator: str,
    sections: Sequence[tuple[str, str]],
    output_format: str,
    json_format: str = "",
    parts: tuple[Part, ...] = (),
) -> Prompt:
    """Sections in order, the empty ones left out, then what to reply: as text, or as JSON."""
    shown = [f"<{tag}>\n{text}\n</{tag}>" for tag, text in sections if text]
    prompt = _prompt(operator, "\n".join([*shown, output_format]))
    if not parts:
        return prompt
    return replace(prompt, form=ReplyForm(operator, parts, "\n".join([*shown, json_format])))


def _prompt(operator: str, user: str) -> Prompt:
    return Prompt(f"{contract(operator).marker} {_ROLES[operator]}", user)
