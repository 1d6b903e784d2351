"""Is this workflow sound, before anything runs? Static checks only, one finding per defect.

Nothing is executed and nothing raises: whatever is wrong is in the findings, each with its rule
(`rules`), severity, line, column, the line as written, and what to do. Only findings of severity
`reject` make a workflow invalid. The checks err on the side of accepting: a defect that only a run
can show (an alias chosen at run time, a key computed) is left to the run.

Kinds that cover more than their name says: a result key that the operator does not return is
`UNDEFINED_NAME` (a name that nothing defines); an operator that a class with an `__init__` never
creates there is `UNKNOWN_OPERATOR`; Python that the interpreter does not take is `BAD_STRUCTURE`
when it is about classes and `FORBIDDEN_SYNTAX` otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from aflow_grpo.records import Domain, FaultKind, Finding, WorkflowSource
from aflow_grpo.workflow.anatomy import WorkflowClass, find_workflow
from aflow_grpo.workflow.attributes import check_attributes
from aflow_grpo.workflow.awaits import check_awaits
from aflow_grpo.workflow.calls import check_calls, check_domain
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.flow import check_flow
from aflow_grpo.workflow.grammar import check_grammar
from aflow_grpo.workflow.limits import InterpreterLimits
from aflow_grpo.workflow.loops import check_loops
from aflow_grpo.workflow.prompts import check_prompts
from aflow_grpo.workflow.results import check_results
from aflow_grpo.workflow.returns import check_returns
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.scopes import check_names
from aflow_grpo.workflow.syntax import SourceError, parse_source
from aflow_grpo.workflow.uses import Names, operator_uses

__all__ = ["MAX_FINDINGS", "SEVERITY", "is_valid", "primary_fault", "rejections", "validate"]

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
    FaultKind.UNBOUNDED,
    FaultKind.FORBIDDEN_OPERATOR,
)
"""Kinds that validation finds, worst first; a forbidden operator is the mildest, because the
workflow would run."""

MAX_FINDINGS = 50
"""Most findings that are kept of one workflow."""
_MAX_MESSAGE_CHARS = 400
_RAISES: dict[str, frozenset[str]] = {
    "undefined-name": frozenset({"NameError"}),
    "missing-builtin": frozenset({"NameError"}),
    "unknown-key": frozenset({"KeyError", "LookupError"}),
    "result-attribute": frozenset({"AttributeError"}),
    "result-as-text": frozenset({"TypeError"}),
    "unknown-argument": frozenset({"TypeError"}),
    "missing-argument": frozenset({"TypeError"}),
    "repeated-argument": frozenset({"TypeError"}),
    "argument-type": frozenset({"TypeError"}),
    "format-fields": frozenset({"KeyError", "IndexError", "LookupError", "ValueError"}),
}
"""Rule -> what its line raises, which a workflow may catch and go on."""
_MAX_SOURCE_CHARS = 120


def validate(
    source: WorkflowSource,
    domain: Domain | None,
    *,
    enabled: Collection[str] | None = None,
    operators: OperatorSet = TEN_OPERATORS,
    call_budget: int = InterpreterLimits.max_operator_calls,
) -> tuple[Finding, ...]:
    """What is wrong with a workflow, by line; it is valid when no finding is a rejection.

    Args:
        source: The workflow as parsed.
        domain: Decides which operators a policy may await; None for a workflow of ours, which no
            domain's rules bind.
        enabled: Attribute names of the operators on offer; None for all of the domain's.
        operators: The operators that exist.
        call_budget: Most operator calls of one run.
    """
    try:
        tree = parse_source(source.graph_code)
    except SourceError as error:
        return _located([_unreadable(error, source.graph_code)], source.graph_code)
    workflow = find_workflow(tree, operators)
    if isinstance(workflow, Finding):
        return _located([workflow], source.graph_code)
    names = Names(workflow)
    uses = operator_uses(workflow, names)
    findings = [
        *check_grammar(workflow),
        *_check_signatures(workflow),
        *check_names(source.graph_code, workflow, source.prompts),
        *check_flow(workflow),
        *check_attributes(workflow),
        *check_prompts(workflow, names, source.prompts),
        *check_calls(uses),
        *check_awaits(workflow, uses),
        *check_results(workflow, names, uses),
        *check_loops(workflow, uses, call_budget),
        *check_returns(workflow, names),
    ]
    if domain is not None:
        findings += check_domain(workflow, uses, domain, enabled)
    if not findings:
        return ()
    return _located(_bounded(_caught(findings, workflow)), source.graph_code)


def rejections(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that make a workflow invalid."""
    return tuple(finding for finding in findings if finding.severity == "reject")


def is_valid(findings: Sequence[Finding]) -> bool:
    """Whether no finding is a rejection."""
    return not rejections(findings)


def primary_fault(findings: Sequence[Finding]) -> Finding:
    """The worst rejection by `SEVERITY`, the first of its kind by position.

    A forbidden operator is primary only when nothing else is wrong.

    Raises:
        ValueError: When no finding is a rejection.
    """
    rejected = rejections(findings)
    if not rejected:
        raise ValueError("primary_fault needs at least one rejection; without one it is valid")
    return min(rejected, key=_rank)


def _unreadable(error: SourceError, code: str) -> Finding:
    if not error.too_deep:
        finding = found("syntax-error", error.message, error.line)
        return replace(finding, column=error.column)
    rule = "too-long" if error.line is None and len(code) > 10_000 else "too-deep"
    return found(rule, error.message, error.line)


def _caught(findings: Sequence[Finding], workflow: WorkflowClass) -> list[Finding]:
    """The findings, as warnings where the workflow itself catches what the line would raise."""
    guarded: list[tuple[int, int, set[str]]] = []
    for node in workflow.every(ast.Try):
        kinds = {
            part.id if isinstance(part, ast.Name) else getattr(part, "attr", "")
            for handler in node.handlers
            for part in ast.walk(handler.type or ast.Name("Exception", ast.Load()))
        }
        guarded.append((node.body[0].lineno, node.body[-1].end_lineno or 0, kinds))
    if not guarded:
        return list(findings)
    kept = []
    for finding in findings:
        raised = _RAISES.get(finding.rule, frozenset()) | {"Exception", "BaseException"}
        caught = finding.rule in _RAISES and any(
            first <= (finding.line or 0) <= last and kinds & raised
            for first, last, kinds in guarded
        )
        kept.append(replace(finding, severity="warn") if caught else finding)
    return kept


def _bounded(findings: Sequence[Finding]) -> list[Finding]:
    """The worst `MAX_FINDINGS`, without duplicates, in order of lines."""
    unique = {(f.rule, f.line, f.message): f for f in reversed(findings)}
    worst = sorted(unique.values(), key=lambda f: (f.severity == "warn", _rank(f)))[:MAX_FINDINGS]
    return sorted(worst, key=lambda f: (f.line or 0, f.column or 0))


def _located(findings: Sequence[Finding], code: str) -> tuple[Finding, ...]:
    """The findings with their source line, columns in characters, and messages cut short."""
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return tuple(_on_line(finding, lines) for finding in findings)


def _on_line(finding: Finding, lines: Sequence[str]) -> Finding:
    number = finding.line
    if number is None or not 1 <= number <= len(lines):
        number = min(max(number, 1), len(lines)) if number is not None else None
        text, column = (lines[number - 1] if number is not None else ""), None
    else:
        text, column = lines[number - 1], finding.column
        if column is not None and finding.rule != "syntax-error" and not text.isascii():
            encoded = text.encode("utf-8", "replace")[: column - 1]
            column = len(encoded.decode("utf-8", "ignore")) + 1
    return replace(
        finding,
        message=finding.message[:_MAX_MESSAGE_CHARS],
        line=number,
        column=column,
        source=text.strip()[:_MAX_SOURCE_CHARS],
    )


def _rank(finding: Finding) -> int:
    return SEVERITY.index(finding.kind) if finding.kind in SEVERITY else -1


def _check_signatures(workflow: WorkflowClass) -> Iterator[Finding]:
    """Can the workflow be created and called with `problem` and perhaps `entry_point`?"""
    call, arguments = workflow.call, workflow.call.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = names[: len(names) - len(arguments.defaults)]
    required += [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    fits = names[:1] == ["self"] and workflow.problem_parameter in names
    fits = fits and not arguments.posonlyargs
    known = {"self", workflow.problem_parameter, "entry_point"}
    if call.decorator_list or not fits or set(required) - known:
        given = "decorated" if call.decorator_list else f"({ast.unparse(arguments):.80})"
        message = f"`__call__` is {given}; expected (self, problem) or (self, problem, entry_point)"
        yield found("bad-signature", message, call)
    init = workflow.methods.get("__init__")
    if init is not None and not init.args.args and init.args.vararg is None:
        yield found("bad-init", "`__init__` takes no `self`", init)
