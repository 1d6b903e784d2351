"""What a workflow finds: operators, prompts, `self.llm`, and what AFlow's import lines would bring.

One `Run` is one problem on its way; it is kept in a context variable, so that several workflows can
run at once in one process.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Protocol

__all__ = [
    "OPERATOR_NAMES",
    "PROMPTS",
    "CostManager",
    "CurrentRun",
    "DatasetType",
    "ExecutorUsage",
    "OperatorHandle",
    "create_llm_instance",
    "current_run",
    "executor_usage",
    "operator",
    "prompt_custom",
]

PROMPTS: dict[str, str] = {}
"""The workflow's own: operator -> instruction, and those that its code names."""
OPERATOR_NAMES: dict[str, str] = {}
"""Class name -> name on `self`."""


class CurrentRun(Protocol):
    """The run of one problem, as the workflow's code meets it."""

    @property
    def cost_usd(self) -> float:
        """At list price."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Of all calls."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Of all calls."""
        ...

    async def call(
        self, attribute: str, positional: Sequence[Any], keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One operator call."""
        ...


current_run: ContextVar[CurrentRun] = ContextVar("current_run")


class OperatorHandle:
    """What `self.custom` and its like are: awaiting a call of it runs the operator."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    async def __call__(self, *positional: Any, **keywords: Any) -> dict[str, Any]:
        return await current_run.get().call(self.attribute, positional, keywords)


class ExecutorUsage:
    """What `self.llm` is: it tells what the executor's calls have cost so far."""

    @property
    def total_cost(self) -> float:
        """USD, at list price."""
        return current_run.get().cost_usd

    @property
    def cost_manager(self) -> ExecutorUsage:
        """The same, under AFlow's older name."""
        return self

    def get_usage_summary(self) -> dict[str, float]:
        """AFlow's names."""
        run = current_run.get()
        return {
            "total_cost": run.cost_usd,
            "total_input_tokens": run.prompt_tokens,
            "total_output_tokens": run.completion_tokens,
        }


executor_usage = ExecutorUsage()
CostManager = ExecutorUsage
DatasetType = None
prompt_custom = SimpleNamespace(**PROMPTS)


def create_llm_instance(*_: Any, **__: Any) -> ExecutorUsage:
    """AFlow's name for what `self.llm` is."""
    return executor_usage


class _Operators:
    """`operator.Custom(llm)` and its like make operators; the rest is Python's own module."""

    def __getattr__(self, name: str) -> Any:
        attribute = OPERATOR_NAMES.get(name)
        if attribute is None:
            return getattr(python_operator, name)
        return lambda *_, **__: OperatorHandle(attribute)


operator = _Operators()
