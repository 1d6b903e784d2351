"""The contracts of the operators in the file, and the start of its workflow."""

from __future__ import annotations

from typing import Any

from aflow_grpo.workbench.exporting.standalone.found import (
    PROMPTS,
    OperatorHandle,
    executor_usage,
)
from aflow_grpo.workflow.contract import OPERATORS
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["CONTRACTS", "contract", "start_workflow"]

CONTRACTS: dict[str, OperatorSpec] = {spec.attribute: spec for spec in OPERATORS}


def contract(attribute: str) -> OperatorSpec:
    """The contract of an operator, by the name that workflows know it by."""
    return CONTRACTS[attribute]


async def start_workflow(problem: str, entry_point: str) -> Any:
    """Makes the workflow and awaits it; the exporter writes one for the workflow at hand."""
    workflow = OperatorHandle(problem)
    return await workflow(executor_usage, PROMPTS, entry_point)
