"""Fixed workflows per domain, in the language that the policy writes: fallbacks and baselines.

They run by the same path as the policy's own. The first of a domain is its cheapest (one operator
call), and `fallback_workflow` names the one that answers when the policy's does not run. The
cascades decide at run time whether to spend more.
"""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.records import DOMAINS, Domain, WorkflowSource
from aflow_grpo.workflow.library_bodies import BODIES

__all__ = ["FIXED", "Fixed", "fallback_workflow", "library", "library_page"]

_COST = 'self.llm.get_usage_summary()["total_cost"]'
_HEADER = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"

_FALLBACK: dict[Domain, str] = {"math": "direct", "code": "code_test", "qa": "answer_format"}


@dataclass(frozen=True)
class Fixed:
    """What is to be known of a fixed workflow besides its code."""

    idea: str
    calls: dict[Domain, tuple[int, int]]
    """Fewest and most operator calls, in the domains that it is for."""


def _fixed(idea: str, **calls: tuple[int, int]) -> Fixed:
    everywhere = calls.get("any")
    return Fixed(
        idea,
        {domain: calls.get(domain) or everywhere or (0, 0) for domain in DOMAINS
         if domain in calls or everywhere},
    )  # fmt: skip


FIXED: dict[str, Fixed] = {
    "direct": _fixed("One call of the domain's plainest operator.", any=(1, 1)),
    "custom": _fixed("One call under an instruction.", math=(1, 1), qa=(1, 1)),
    "programmer": _fixed("A program computes the answer.", math=(1, 1)),
    "review_revise": _fixed(
        "Answer, review, revise only what the review rejects.",
        math=(2, 3), code=(2, 3), qa=(2, 4),
    ),
    "sc3": _fixed("Three answers in turn, the most consistent one.", math=(4, 4), qa=(4, 4)),
    "cascade": _fixed(
        "Two cheap answers; a third and a vote only where they differ.", math=(2, 4), qa=(2, 4)
    ),
    "analyse_program": _fixed("A plan in words, then a program that follows it.", math=(2, 2)),
    "code_test": _fixed("Code, run on the public tests and mended.", code=(2, 2)),
    "plan_code": _fixed("A plan in words, then code that follows it.", code=(2, 2)),
    "sc3_test": _fixed("Three programs, the most consistent one, tested.", code=(5, 5)),
    "test_revise": _fixed("Code and test; new code only after a failed test.", code=(2, 4)),
    "answer_format": _fixed("An answer, cut down to its short form.", qa=(2, 2)),
    "sc3_format": _fixed("Three answers, the most consistent one, in short form.", qa=(5, 5)),
    "io": _fixed("Input to output: one call, nothing asked but the answer.", any=(1, 1)),
    "chain_of_thought": _fixed(
        "Reasoning before the answer.", math=(1, 1), code=(1, 1), qa=(2, 2)
    ),
    "self_consistency_3": _fixed("Three at once, the most consistent one.", any=(4, 4)),
    "self_consistency_5": _fixed("Five at once, the most consistent one.", any=(6, 6)),
    "self_refine": _fixed(
        "Up to two rounds of review and revision.", math=(2, 7), code=(2, 5), qa=(2, 7)
    ),
    "program_of_thought": _fixed(
        "A program computes the answer; words only where it fails.", math=(1, 2)
    ),
    "generate_test_fix": _fixed(
        "Code and test; review, revision and another test after a failed one.", code=(2, 5)
    ),
    "extract_format": _fixed(
        "What bears on the question, then the short answer from it.", math=(2, 2), qa=(2, 2)
    ),
    "medprompt": _fixed("Three at once, then five shuffled votes.", any=(4, 4)),
    "cascade_agreement": _fixed(
        "Two cheap answers; three more and a vote only where they differ.",
        math=(2, 6), qa=(2, 6),
    ),
    "cascade_review": _fixed(
        "An answer and its review; two more and a vote only when it is rejected.",
        math=(2, 5), qa=(2, 5),
    ),
    "cascade_test": _fixed(
        "Code and test; two more, a vote and a test only when the test fails.", code=(2, 6)
    ),
}  # fmt: skip
"""All fixed workflows by name."""


def _source(body: str) -> WorkflowSource:
    lines = body.strip().replace("COST", _COST).splitlines()
    imports = "import asyncio\n\n" if "asyncio." in body else ""
    code = imports + _HEADER + "".join(f"        {line}\n" for line in lines)
    return WorkflowSource(graph_code=code, prompts={}, hybrid=True)


def library(domain: Domain) -> dict[str, WorkflowSource]:
    """The fixed workflows of a domain by name, the cheapest first."""
    return {name: _source(body) for name, body in BODIES[domain].items()}


def fallback_workflow(domain: Domain) -> WorkflowSource:
    """The fixed workflow that answers when the policy's own does not run."""
    return _source(BODIES[domain][_FALLBACK[domain]])


def library_page() -> str:
    """The docs page: all fixed workflows, in the order of the table."""
    lines = [
        "# Fixed workflows",
        "",
        "Rendered from `aflow_grpo/workflow/library.py`; do not edit it by hand.",
        "",
        "They are written in the language of the policy and run by the same path. When the"
        " policy's own workflow does not run, the fallback of the problem's domain answers for the"
        " user: " + ", ".join(f"`{_FALLBACK[d]}` ({d})" for d in DOMAINS) + ".",
        "",
        "| name | domains | operator calls | idea |",
        "|---|---|---|---|",
    ]
    for name, fixed in FIXED.items():
        spans = {span: _span(span) for span in fixed.calls.values()}
        calls = ", ".join(
            text if len(spans) == 1 else f"{text} ({', '.join(_domains(fixed, span))})"
            for span, text in spans.items()
        )
        lines.append(f"| `{name}` | {', '.join(fixed.calls)} | {calls} | {fixed.idea} |")
    return "\n".join(lines) + "\n"


def _span(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]} to {span[1]}"


def _domains(fixed: Fixed, span: tuple[int, int]) -> list[Domain]:
    return [domain for domain, calls in fixed.calls.items() if calls == span]
