"""The entrance: all ten operators for one problem, and one call of one of them as a record.

`build_operators` is cheap, since it is called for every execution; the sandbox and the executor
session come from outside. Not covered: call budgets and deadlines (`execution`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.operators.base import BranchingLLM, Operator
from aflow_grpo.operators.ensembles import MdEnsemble, ScEnsemble
from aflow_grpo.operators.generation import AnswerGenerate, Custom, CustomCodeGenerate
from aflow_grpo.operators.programs import Programmer, Test
from aflow_grpo.operators.refinement import Format, Review, Revise
from aflow_grpo.records import FaultKind, OperatorCall, Problem
from aflow_grpo.sandbox.pool import Sandbox

__all__ = ["build_operators", "run_operator"]


def build_operators(*, sandbox: Sandbox, problem: Problem) -> dict[str, Operator]:
    """All ten operators by the attribute that workflows know them by.

    Args:
        sandbox: Runs the code of Programmer and Test.
        problem: Its public tests are what Test runs.
    """
    operators: tuple[Operator, ...] = (
        Custom(),
        AnswerGenerate(),
        CustomCodeGenerate(),
        ScEnsemble(),
        Programmer(sandbox),
        Test(sandbox, problem),
        Format(),
        Review(),
        Revise(),
        MdEnsemble(),
    )
    return {operator.spec.attribute: operator for operator in operators}


async def run_operator(
    index: int,
    attribute: str,
    arguments: Mapping[str, Any],
    session: BranchingLLM,
    operators: Mapping[str, Operator],
) -> OperatorCall:
    """One operator call of a workflow, with what it consumed.

    Args:
        index: The call's number in its execution: decides the branch, and so the seeds.
        attribute: The operator's name in the workflow, e.g. `answer_generate`.
        arguments: What the workflow passed, by parameter name.
        session: The execution's executor session; also counts what a failing call consumed.
        operators: From `build_operators`.

    Raises:
        WorkflowFault: The operator is unknown or an argument has the wrong shape.
        Unavailable: The executor did not answer.
    """
    operator = operators.get(attribute)
    if operator is None:
        known = ", ".join(sorted(operators))
        raise WorkflowFault(
            FaultKind.EXCEPTION, f"there is no operator {attribute!r}; there are {known}"
        )
    branch = session.branch(index)
    start = time.perf_counter()
    result = await operator(branch, **arguments)
    seconds = time.perf_counter() - start
    return OperatorCall(
        attribute, dict(arguments), result, branch.usage, seconds, branch.tiers_used
    )
