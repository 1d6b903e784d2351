"""What the policy is asked: a full chat prompt for instruct models, a short string for a tiny one.

Both are rendered from the contract, so that a changed operator changes the prompt. The full form
holds the problem, its domain, the API of the allowed operators, the hard rules, the recommended
operators, a good and a bad example, and the output format. The compact form holds only the domain
and the problem: the tiny policy learns the rest in its warm start. Neither contains a gold answer
or a hidden test. Where a prompt must be short, the context gives way, never the question or the
rules; how much must go is decided where tokens are counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache

from aflow_grpo.problem import require_visible
from aflow_grpo.records import Domain, VisibleProblem, WorkflowSource
from aflow_grpo.workflow.contract import CALL_SIGNATURE, TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.validate import is_valid, validate

__all__ = [
    "bad_example",
    "compact_prompt",
    "full_prompt",
    "good_example",
    "render_operator",
    "shortened_context",
]

_GOOD: dict[Domain, tuple[str, str]] = {
    "math": ("review_revise", "answer_generate"),
    "code": ("code_test", "custom_code_generate"),
    "qa": ("answer_format", "answer_generate"),
}
_INSTRUCTIONS: dict[Domain, str] = {
    "math": "Work in small steps and check each result before the next.",
    "code": "Write one function, handle empty input, import what you use.",
    "qa": "Use only the context and answer with a few words.",
}

_BAD_EXAMPLE = """\
class Workflow:
    async def __call__(self, problem, code, entry_point, test):
        result = self.answer_generater(problem)
        return result["answer"]
"""
_BAD_BECAUSE = (
    "the signature has other parameters, the operator does not exist, its call is not awaited,"
    " and no cost is returned"
)

_RULES = f"""\
1. Write exactly one `class Workflow` with `{CALL_SIGNATURE}`; no other parameters.
2. Await every operator call: `result = await self.name(...)`. It returns a dictionary.
3. Call operators with exactly the parameters listed, read exactly the keys listed.
4. Use only the operators listed for this domain.
5. Every path ends with `return answer, self.llm.get_usage_summary()["total_cost"]`.
6. No input(), files, network, or imports other than asyncio, re, json, math, collections.
7. Every call costs money: use no more of them than the problem needs."""

_SYSTEM = """\
You write a workflow that solves one problem by calling operators, each of them backed by a \
language model. You do not solve the problem yourself."""

_MARK = "..."
"""Stands where something of the context was left out."""
_LONGEST_WORD = 30
"""In characters; what goes on longer without a space is cut anywhere."""


def full_prompt(
    problem: VisibleProblem,
    *,
    enabled: Collection[str] | None = None,
    max_context_chars: int | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> list[dict[str, str]]:
    """The chat messages (system, user) for an instruct model.

    Args:
        problem: The problem to write a workflow for.
        enabled: Attribute names of the operators on offer; None for all of the domain's.
        max_context_chars: About how many characters of the context to keep; None for all.
        operators: The operators that exist.
    """
    domain = problem.domain
    frame = _frame(domain, None if enabled is None else frozenset(enabled), operators)
    sections = [frame, f"# Problem ({domain})\n{_text(problem, max_context_chars)}"]
    if problem.entry_point:
        sections.append(f"# Entry point\n{problem.entry_point}")
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "\n\n".join(sections)},
    ]


def compact_prompt(problem: VisibleProblem, *, max_context_chars: int | None = None) -> str:
    """The prompt of the tiny policy, e.g. ``<math>\\nWhat is 2+3?\\n<workflow>\\n``.

    Args:
        problem: The problem to write a workflow for.
        max_context_chars: About how many characters of the context to keep; None for all.
    """
    return f"<{problem.domain}>\n{_text(problem, max_context_chars)}\n<workflow>\n"


def shortened_context(context: str, max_chars: int) -> str:
    """The context with about `max_chars` characters of it kept, and a mark where words are missing.

    Each line (a paragraph, or a title) keeps its beginning: all of them the same number of
    characters, short ones themselves, whole words only. So a reader still sees what every
    paragraph is about.
    """
    if len(context) <= max_chars:
        return context
    lines = [line.strip() for line in context.splitlines()]
    kept: list[str] = []
    marked = False
    for line, room in zip(lines, _fair_shares(list(map(len, lines)), max_chars), strict=True):
        beginning = _whole_words(line, room)
        if not line:
            kept += [""] if kept and kept[-1] else []
        elif beginning or not marked:
            kept.append(line if beginning == line else f"{beginning} {_MARK}".lstrip())
            marked = not beginning
    return "\n".join(kept).rstrip()


def render_operator(spec: OperatorSpec) -> str:
    """One operator's API in two lines, from its contract."""
    parameters = ", ".join(
        f"{p.name}: {p.type}" if p.required else f"{p.name}: {p.type} = {p.default!r}"
        for p in spec.shown_parameters
    )
    returns = ", ".join(f'"{key.name}": {key.type}' for key in spec.main_returns)
    return f"- await self.{spec.attribute}({parameters}) -> {{{returns}}}\n  {spec.summary}"


def good_example(
    domain: Domain,
    *,
    enabled: Collection[str] | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> WorkflowSource:
    """A valid workflow of the domain in the hybrid form, using only enabled operators.

    Raises:
        ValueError: When no workflow of the library runs on the enabled operators alone.
    """
    preferred, instructed = _GOOD[domain]
    sources = library(domain)
    for name in (preferred, *sources):
        if is_valid(validate(sources[name], domain, enabled=enabled, operators=operators)):
            code = sources[name].graph_code
            used = f"self.{instructed}(" in code
            prompts = {instructed: _INSTRUCTIONS[domain]} if used else {}
            return WorkflowSource(code, prompts, hybrid=True)
    raise ValueError(
        f"operators.enabled={sorted(enabled or ())} leaves no example workflow for {domain};"
        " enable at least custom"
    )


def bad_example() -> WorkflowSource:
    """The workflow that the prompt shows as a warning; the validator rejects it."""
    return WorkflowSource(_BAD_EXAMPLE, {}, hybrid=False)


@lru_cache
def _frame(domain: Domain, enabled: frozenset[str] | None, operators: OperatorSet) -> str:
    """Everything of the user's message that all problems of a domain share."""
    offered = [s for s in operators.offered(domain) if enabled is None or s.attribute in enabled]
    recommended = [s.attribute for s in offered if domain in s.recommended]
    good = good_example(domain, enabled=enabled, operators=operators)
    output = json.dumps({"prompts": dict(good.prompts), "graph_code": good.graph_code})
    sections = [
        "# Operators\n" + "\n".join(render_operator(spec) for spec in offered),
        f"# Rules\n{_RULES}",
        f"# Recommended for {domain}\n{', '.join(recommended) or 'any of the above'}",
        "# Output\nOne JSON object and nothing else: `prompts` maps an operator's name to an"
        " instruction for it (may be empty), `graph_code` is the Python source as a string.",
        f"# Good example\n{output}",
        f"# Bad example: {_BAD_BECAUSE}\n{_BAD_EXAMPLE.rstrip()}",
    ]
    return "\n\n".join(sections)


def _text(problem: VisibleProblem, max_context_chars: int | None) -> str:
    """The problem's text with about `max_context_chars` characters of its context."""
    require_visible(problem)
    if max_context_chars is None or len(problem.context) <= max_context_chars:
        return problem.text
    return replace(problem, context=shortened_context(problem.context, max_context_chars)).text


def _fair_shares(wanted: Sequence[int], total: int) -> list[int]:
    """How much of `total` each gets: what it wants, or else as much as every other unsated one.

    E.g. wants of 10, 3, 10 and a total of 14 give 6, 3, 5.
    """
    shares = list(wanted)
    left = total
    waiting = sorted(range(len(wanted)), key=lambda at: (wanted[at], -at))
    for served, at in enumerate(waiting):
        shares[at] = min(wanted[at], left // (len(waiting) - served))
        left -= shares[at]
    return shares


def _whole_words(line: str, room: int) -> str:
    """The beginning of `line` of at most `room` characters that ends where a word does."""
    if len(line) <= room:
        return line
    end = line.rfind(" ", 0, room + 1)
    # Not every script puts spaces between words.
    return line[: room if end < room - _LONGEST_WORD else max(end, 0)].rstrip()
