"""What the policy is asked: a full chat prompt for instruct models, a short string for a tiny one.

Both are rendered from the contract, so that a changed operator changes the prompt. The full form
holds the problem, its domain, the API of the allowed operators, the hard rules, the recommended
operators, a good and a bad example, and the output format. The compact form holds only the domain
and the problem: the tiny policy learns the rest in its warm start. Neither contains a gold answer
or a hidden test.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from aflow_grpo.records import Domain, Problem, WorkflowSource
from aflow_grpo.workflow.contract import CALL_SIGNATURE, TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.validate import is_valid, validate

__all__ = ["bad_example", "compact_prompt", "full_prompt", "good_example", "render_operator"]

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


def full_prompt(
    problem: Problem,
    *,
    enabled: Collection[str] | None = None,
    max_context_chars: int | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> list[dict[str, str]]:
    """The chat messages (system, user) for an instruct model.

    Args:
        problem: The problem to write a workflow for.
        enabled: Attribute names of the operators on offer; None for all of the domain's.
        max_context_chars: Longest context in characters; a longer one is cut in its middle.
        operators: The operators that exist.
    """
    domain = problem.domain
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
        f"# Problem ({domain})\n{_shortened(problem, max_context_chars)}",
    ]
    if problem.entry_point:
        sections.append(f"# Entry point\n{problem.entry_point}")
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "\n\n".join(sections)},
    ]


def compact_prompt(problem: Problem, max_chars: int = 600) -> str:
    """The prompt of the tiny policy, e.g. ``<math>\\nWhat is 2+3?\\n<workflow>\\n``.

    Args:
        problem: The problem to write a workflow for.
        max_chars: Longest prompt in characters. Only the context is shortened, in its middle; a
            question that is longer than this alone stays whole.
    """
    frame = f"<{problem.domain}>\n", "\n<workflow>\n"
    room = max_chars - len(frame[0]) - len(frame[1])
    over = len(problem.text) - room
    text = problem.text
    if over > 0 and problem.context:
        text = _shortened(problem, max(0, len(problem.context) - over))
    return frame[0] + text + frame[1]


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


def _shortened(problem: Problem, max_context_chars: int | None) -> str:
    """The problem's text with its context cut in the middle to at most `max_context_chars`."""
    context = problem.context
    if max_context_chars is None or len(context) <= max_context_chars:
        return problem.text
    mark = " ... "
    kept = max(0, max_context_chars - len(mark))
    if kept == 0:
        return problem.question
    head = (kept + 1) // 2
    tail = context[len(context) - (kept - head) :] if kept > head else ""
    return f"Context: {context[:head]}{mark}{tail}\n\nQuestion: {problem.question}"
