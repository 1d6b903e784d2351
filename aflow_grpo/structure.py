"""Four measures of how a workflow is written, apart from whether its answer is right.

The source documents' goal of training is structural correctness, the choice of operators, matching
arguments and keeping to the constraints, not the executor's answers; so these are logged beside
accuracy, and the reward's stage `structure` pays them alone. Pure functions of what is stored
(completion, execution, domain): nothing is run, and a rollout from a file gives the same numbers.
Each measure is in [0, 1] and is 0 where no workflow can be read. They read the text as written, so
code that never runs counts as much as code that does.

Not covered: whether the workflow solves anything (`scoring`), what the measures earn (`rewards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

from aflow_grpo.records import Completion, Domain, Execution, FaultKind, Finding, Status
from aflow_grpo.workflow.anatomy import WorkflowClass, find_workflow
from aflow_grpo.workflow.calls import check_calls, check_domain
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.syntax import SourceError, parse_source
from aflow_grpo.workflow.uses import Names, OperatorUse, operator_uses

__all__ = ["MEASURES", "StructureMeasures", "structure_measures"]

STRUCTURAL_KINDS = frozenset(
    {
        FaultKind.BAD_STRUCTURE,
        FaultKind.FORBIDDEN_SYNTAX,
        FaultKind.BAD_SIGNATURE,
        FaultKind.NOT_AWAITED,
        FaultKind.UNDEFINED_NAME,
        FaultKind.UNKNOWN_PROMPT,
        FaultKind.BAD_RETURN,
    }
)
"""Kinds of flaw that are about the code around the operator calls."""
_UNREADABLE = frozenset({FaultKind.NO_WORKFLOW, FaultKind.SYNTAX_ERROR, FaultKind.LENGTH_LIMIT})
_DISCOURAGED_WORTH = 0.5


@dataclass(frozen=True)
class StructureMeasures:
    """The four measures of one rollout, each in [0, 1]."""

    validity: float
    """Structural validity: 1 - k / 8, where k counts the kinds of structural flaw that validation
    found (of the seven in `STRUCTURAL_KINDS`), and a text that had to be repaired as one more."""
    operator_choice: float
    """Mean worth of the operators called, each distinct one once: 1 when the domain offers it, 0.5
    when it only discourages it, 0 when it forbids it or there is no such operator. 0 without any
    call."""
    argument_match: float
    """Share of the operator calls, as written, whose arguments fit the contract: names, number and
    the types that a literal shows. 0 without any call."""
    constraint_adherence: float
    """0 when a forbidden operator is used, else the share of the domain's other rules that are
    kept: calls stay within the budget; no discouraged operator; for code, the code is tested.
    0 without any call of an operator that exists."""

    @property
    def mean(self) -> float:
        """Of the four, in [0, 1]."""
        total = self.validity + self.operator_choice + self.argument_match
        return (total + self.constraint_adherence) / len(MEASURES)


MEASURES: tuple[str, ...] = tuple(f.name for f in fields(StructureMeasures))
"""Names of the four measures."""
_NOTHING = StructureMeasures(0.0, 0.0, 0.0, 0.0)


def structure_measures(
    completion: Completion,
    execution: Execution,
    domain: Domain,
    operators: OperatorSet = TEN_OPERATORS,
) -> StructureMeasures:
    """The four measures of one rollout.

    Args:
        completion: What the policy wrote; one that was cut holds no whole workflow.
        execution: Its source and findings; how the run ended does not matter.
        domain: Decides which operators are offered, discouraged and forbidden.
        operators: The operators that exist.

    Returns:
        All zeros when the text was cut or holds no class that can be read as a workflow.
    """
    source = execution.source
    kinds = frozenset(f.kind for f in execution.findings if f.severity == "reject")
    if execution.status is Status.INVALID and execution.fault_kind is not None:
        kinds |= {execution.fault_kind}
    cut = not completion.finished or execution.status is Status.CUT
    if source is None or cut or kinds & _UNREADABLE:
        return _NOTHING
    calls = _calls_of(source.graph_code, domain, operators)
    if calls is None:
        return _NOTHING
    flaws = len(kinds & STRUCTURAL_KINDS) + source.repaired
    unknown = sum(f.kind is FaultKind.UNKNOWN_OPERATOR for f in _distinct(execution.findings))
    return StructureMeasures(
        validity=1.0 - flaws / (len(STRUCTURAL_KINDS) + 1),
        operator_choice=_share(calls.worths, unknown),
        argument_match=_share(calls.matches, 0),
        constraint_adherence=_adherence(calls, domain, FaultKind.UNBOUNDED in kinds),
    )


@dataclass(frozen=True)
class _Calls:
    """What the text's operator calls come to."""

    worths: tuple[float, ...]
    """Of each distinct operator."""
    matches: tuple[float, ...]
    """Of each call: 1 when its arguments fit."""
    rules: frozenset[str]
    """Broken rules of the domain, by id."""


@lru_cache(maxsize=1024)
def _calls_of(code: str, domain: Domain, operators: OperatorSet) -> _Calls | None:
    """The operator calls of graph code; None when it has no workflow class.

    Kept, because the reward and the metrics of a rollout both ask.
    """
    try:
        tree = parse_source(code)
    except SourceError:
        return None
    workflow = find_workflow(tree, operators)
    if isinstance(workflow, Finding):
        return None
    uses = operator_uses(workflow, Names(workflow))
    return _Calls(
        worths=_worths(uses, domain),
        matches=tuple(float(not _misfit(use)) for use in uses),
        rules=_broken_rules(workflow, uses, domain),
    )


def _worths(uses: Sequence[OperatorUse], domain: Domain) -> tuple[float, ...]:
    worth = {}
    for use in uses:
        spec = use.spec
        discouraged = _DISCOURAGED_WORTH if domain in spec.discouraged else 1.0
        worth[spec.attribute] = discouraged if domain in spec.domains else 0.0
    return tuple(worth.values())


def _misfit(use: OperatorUse) -> bool:
    return any(finding.severity == "reject" for finding in check_calls([use]))


def _broken_rules(
    workflow: WorkflowClass, uses: Sequence[OperatorUse], domain: Domain
) -> frozenset[str]:
    return frozenset(finding.rule for finding in check_domain(workflow, uses, domain, None))


def _adherence(calls: _Calls, domain: Domain, unbounded: bool) -> float:
    if not calls.matches or "forbidden-operator" in calls.rules:
        return 0.0
    kept = [not unbounded, "not-recommended" not in calls.rules]
    if domain == "code":
        kept.append("untested-code" not in calls.rules)
    return sum(kept) / len(kept)


def _distinct(findings: Sequence[Finding]) -> Sequence[Finding]:
    """One finding per message: the same unknown operator called twice is one operator."""
    return list({(f.kind, f.message): f for f in findings if f.severity == "reject"}.values())


def _share(values: Sequence[float], zeros: int) -> float:
    """Mean of the values and so many zeros; 0 of nothing."""
    count = len(values) + zeros
    return sum(values) / count if count else 0.0
