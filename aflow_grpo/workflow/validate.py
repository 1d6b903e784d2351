"""Is this workflow sound, before anything runs? Static checks only, one finding per defect.

Nothing is executed and nothing raises: whatever is wrong is in the findings, each with what was
written, what is expected and the line. The checks err on the side of accepting: a defect that only
a run can show (an alias chosen at run time, a key computed) is left to the run.

Kinds that cover more than their name says: a result key that the operator does not return is
`UNDEFINED_NAME` (a name that nothing defines); an operator that a class with an `__init__` never
creates there is `UNKNOWN_OPERATOR`; Python that the interpreter does not take is `BAD_STRUCTURE`
when it is about classes and `FORBIDDEN_SYNTAX` otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from aflow_grpo.records import Domain, FaultKind, Finding, WorkflowSource
from aflow_grpo.workflow.anatomy import find_workflow
from aflow_grpo.workflow.attributes import check_attributes
from aflow_grpo.workflow.calls import check_calls
from aflow_grpo.workflow.grammar import check_grammar
from aflow_grpo.workflow.returns import check_returns
from aflow_grpo.workflow.scopes import check_names
from aflow_grpo.workflow.syntax import SourceError, parse_source

__all__ = ["MAX_FINDINGS", "SEVERITY", "primary_fault", "validate"]

SEVERITY: tuple[FaultKind, ...] = (
    FaultKind.NO_WORKFLOW,
    FaultKind.SYNTAX_ERROR,
    FaultKind.BAD_STRUCTURE,
    FaultKind.FORBIDDEN_SYNTAX,
    FaultKind.BAD_SIGNATURE,
    FaultKind.UNKNOWN_OPERATOR,
    FaultKind.BAD_ARGUMENTS,
    FaultKind.NOT_AWAITED,
    FaultKind.UNDEFINED_NAME,
    FaultKind.UNKNOWN_PROMPT,
    FaultKind.BAD_RETURN,
    FaultKind.FORBIDDEN_OPERATOR,
)
"""Kinds that validation finds, worst first; a forbidden operator is the mildest, because the
workflow would run."""

MAX_FINDINGS = 50
"""Most findings that are kept of one workflow."""
_MAX_MESSAGE_CHARS = 400


def validate(
    source: WorkflowSource, domain: Domain, *, enabled: Collection[str] | None = None
) -> tuple[Finding, ...]:
    """What is wrong with a workflow, by line; empty when it is valid.

    Args:
        source: The workflow as parsed.
        domain: Decides which operators it may await.
        enabled: Attribute names of the operators on offer; None for all of the domain's.
    """
    try:
        tree = parse_source(source.graph_code)
    except SourceError as error:
        kind = FaultKind.BAD_STRUCTURE if error.too_deep else FaultKind.SYNTAX_ERROR
        return (Finding(kind, error.message, error.line),)
    workflow = find_workflow(tree)
    if isinstance(workflow, Finding):
        return (workflow,)
    findings = [
        *check_grammar(workflow),
        *_check_signature(workflow.call),
        *check_names(source.graph_code, tree),
        *check_attributes(workflow, source.prompts),
        *check_calls(workflow, domain, enabled),
        *check_returns(workflow),
    ]
    return _bounded(findings)


def _bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst `MAX_FINDINGS`, without duplicates, in order of lines, with messages cut short."""
    worst = sorted(dict.fromkeys(findings), key=_severity)[:MAX_FINDINGS]
    cut = (
        Finding(finding.kind, finding.message[:_MAX_MESSAGE_CHARS], finding.line)
        for finding in worst
    )
    return tuple(sorted(cut, key=lambda finding: finding.line or 0))


def _severity(finding: Finding) -> int:
    return SEVERITY.index(finding.kind) if finding.kind in SEVERITY else -1


def primary_fault(findings: Sequence[Finding]) -> Finding:
    """The worst finding by `SEVERITY`, the first of its kind by position.

    A forbidden operator is primary only when nothing else is wrong.

    Raises:
        ValueError: When there are no findings.
    """
    if not findings:
        raise ValueError("primary_fault needs at least one finding; an empty list means valid")
    return min(findings, key=_severity)


def _check_signature(call: ast.AsyncFunctionDef) -> list[Finding]:
    arguments = call.args
    names = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
    starred = [f"*{a.arg}" for a in (arguments.vararg,) if a]
    starred += [f"**{a.arg}" for a in (arguments.kwarg,) if a]
    keyword_only = [arg.arg for arg in arguments.kwonlyargs]
    accepted = names in (["self", "problem"], ["self", "problem", "entry_point"])
    if accepted and not starred and not keyword_only and not call.decorator_list:
        return []
    if call.decorator_list:
        given = "a decorated __call__"
    else:
        given = f"({', '.join([*names, *starred, *keyword_only])})"
    message = f"`__call__` is {given}; expected (self, problem) or (self, problem, entry_point)"
    return [Finding(FaultKind.BAD_SIGNATURE, message, call.lineno)]
