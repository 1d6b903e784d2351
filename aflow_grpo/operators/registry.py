"""The entrance: which operators there are, all of them for one problem, one call as a record.

`OperatorKit` holds the classes, the ten and a user's own; its contract is what the prompt, the
validator and the interpreter get. Not covered: call budgets and deadlines (`execution`).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aflow_grpo.errors import ConfigError, RolloutFault, WorkflowFault
from aflow_grpo.importing import import_named
from aflow_grpo.operators.base import BranchingLLM, Operator, Result, Surroundings
from aflow_grpo.operators.ensembles import MdEnsemble, ScEnsemble
from aflow_grpo.operators.generation import AnswerGenerate, Custom, CustomCodeGenerate
from aflow_grpo.operators.programs import Programmer, Test
from aflow_grpo.operators.refinement import Format, Review, Revise
from aflow_grpo.problem import require_visible
from aflow_grpo.records import FaultKind, OperatorCall, VisibleProblem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.contract import OperatorSet
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["TEN_CLASSES", "OperatorKit", "load_operators", "run_operator"]

TEN_CLASSES: tuple[type[Operator], ...] = (
    Custom,
    AnswerGenerate,
    CustomCodeGenerate,
    ScEnsemble,
    Programmer,
    Test,
    Format,
    Review,
    Revise,
    MdEnsemble,
)


@dataclass(frozen=True)
class OperatorKit:
    """The operators of a run.

    Args:
        classes: The ten, and a user's own after them.

    Raises:
        ConfigError: Two operators cannot be told apart (see `OperatorSet`).
    """

    classes: tuple[type[Operator], ...] = TEN_CLASSES

    def __post_init__(self) -> None:
        _ = self.contract

    @cached_property
    def contract(self) -> OperatorSet:
        """What the classes state about themselves."""
        return OperatorSet(tuple(operator.spec for operator in self.classes))

    def build(self, *, sandbox: Sandbox, problem: VisibleProblem) -> dict[str, Operator]:
        """The operators for one execution, by the names that workflows know them by.

        Args:
            sandbox: Runs the code that models write.
            problem: Its public tests are what Test runs.
        """
        surroundings = Surroundings(sandbox, require_visible(problem))
        return {operator.spec.attribute: operator.build(surroundings) for operator in self.classes}


def load_operators(paths: Sequence[str]) -> OperatorKit:
    """The ten operators, and those that `rollout.operators` names.

    Args:
        paths: Import paths of `Operator` subclasses, e.g. ``my_package.my_module.Summarise``.

    Raises:
        ConfigError: A path leads to no operator, or the operator collides with another one.
    """
    return OperatorKit((*TEN_CLASSES, *(_load(path) for path in paths)))


def _load(path: str) -> type[Operator]:
    key = f"rollout.operators: {path!r}"
    found = import_named(key, path, "module.Class")
    module_name, _, name = path.rpartition(".")
    if not (inspect.isclass(found) and issubclass(found, Operator)):
        raise ConfigError(f"{key}: {module_name} has no subclass of Operator called {name!r}")
    if inspect.isabstract(found) or not isinstance(getattr(found, "spec", None), OperatorSpec):
        raise ConfigError(
            f"{key} is incomplete: it needs `spec = OperatorSpec(...)` and `async def run(...)`"
        )
    return found


async def run_operator(
    index: int,
    attribute: str,
    arguments: Mapping[str, Any],
    session: BranchingLLM,
    operators: Mapping[str, Operator],
) -> OperatorCall:
    """One operator call of a workflow, with what it consumed; a failed one carries its fault.

    Args:
        index: The call's number in its execution: decides the branch, and so the seeds.
        attribute: The operator's name in the workflow, e.g. `answer_generate`.
        arguments: What the workflow passed, by parameter name.
        session: The execution's executor session.
        operators: From `OperatorKit.build`.
    """
    branch = session.branch(index, attribute)
    started_s, start = time.time(), time.perf_counter()
    result: Result = {}
    fault: RolloutFault | None = None
    try:
        result = await _operator(attribute, operators)(branch, **arguments)
    except RolloutFault as caught:
        fault = caught
    return OperatorCall(
        attribute,
        dict(arguments),
        result,
        branch.usage,
        time.perf_counter() - start,
        branch.tiers_used,
        fault_kind=fault.kind if fault else None,
        message=fault.message if fault else "",
        started_s=started_s,
        llm_calls=branch.calls,
    )


def _operator(attribute: str, operators: Mapping[str, Operator]) -> Operator:
    operator = operators.get(attribute)
    if operator is None:
        known = ", ".join(sorted(operators))
        raise WorkflowFault(
            FaultKind.EXCEPTION, f"there is no operator {attribute!r}; there are {known}"
        )
    return operator
