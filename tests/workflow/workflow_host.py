"""An operator host for the tests: answers every call by the contract, and keeps a record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits, Outcome

__all__ = ["Host", "run", "run_all"]


@dataclass
class Host:
    """Answers call i of operator x with the texts ``x#i`` and the given boolean."""

    verdict: bool = True
    calls: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    async def __call__(
        self, index: int, attribute: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        self.calls.append((index, attribute, dict(arguments)))
        returns = TEN_OPERATORS.by_attribute[attribute].returns
        text = f"{attribute}#{index}"
        return {key.name: self.verdict if key.type == "bool" else text for key in returns}

    def cost(self) -> float:
        """One cent a call."""
        return round(0.01 * len(self.calls), 2)


def run(
    code: str,
    host: Any = None,
    *,
    prompts: Mapping[str, str] | None = None,
    limits: InterpreterLimits | None = None,
    problem: str = "2+3?",
) -> Outcome:
    """Runs one workflow in an interpreter of its own."""
    (outcome,) = run_all([code], host, prompts=prompts, limits=limits, problem=problem)
    return outcome


def run_all(
    codes: list[str],
    host: Any = None,
    *,
    prompts: Mapping[str, str] | None = None,
    limits: InterpreterLimits | None = None,
    problem: str = "2+3?",
) -> list[Outcome]:
    """Runs workflows one after the other in one interpreter."""
    operators = Host() if host is None else host

    async def main() -> list[Outcome]:
        async with Interpreter(workers=2, limits=limits) as interpreter:
            return [
                await interpreter.run(
                    WorkflowSource(code, dict(prompts or {})),
                    problem=problem,
                    entry_point="solve",
                    call_operator=operators,
                    get_cost=getattr(operators, "cost", lambda: 0.0),
                )
                for code in codes
            ]

    return asyncio.run(main())
