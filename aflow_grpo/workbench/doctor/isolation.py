"""Whether untrusted code can be run safely here: shown by running some, not by asking for versions.

One job in the sandbox that a run would take, one workflow in the interpreter. Starting the jail
also proves that its locks hold (`sandbox.jail`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aflow_grpo.errors import AFlowError
from aflow_grpo.sandbox.pool import Sandbox, sandbox_report
from aflow_grpo.workbench.doctor.check import Check

__all__ = ["interpreter_check", "sandbox_checks", "warnings_of"]

_WORKFLOW = """class Workflow:
    def __init__(self, config, problem):
        self.custom = operator.Custom(config)

    async def __call__(self, problem, entry_point=None):
        reply = await self.custom(input=problem, instruction="Double it.")
        return reply["response"], 0.0
"""


@contextmanager
def warnings_of(logger: str) -> Iterator[list[str]]:
    """What the package would log there, kept from the terminal: it is shown as a line instead."""
    told: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        told.append(record.getMessage())
        return False

    place = logging.getLogger(logger)
    place.addFilter(keep)
    try:
        yield told
    finally:
        place.removeFilter(keep)


def sandbox_checks() -> Iterator[Check]:
    """The parts that the kernel offers, and one real job."""
    report = sandbox_report()
    parts = ", ".join(f"{name} {value}" for name, value in report.items() if name != "platform")
    yield Check("sandbox_parts", "isolation", "ok", f"{report['platform']}: {parts}")
    started = time.monotonic()
    try:
        with warnings_of("aflow_grpo.sandbox.pool") as told:
            mode, value = asyncio.run(_run_job())
    except AFlowError as error:
        fix = "Use Linux 5.13 or newer, or pip install 'pydantic-monty>=1.4,<1.5'."
        yield Check("sandbox", "isolation", "failure", str(error), fix)
        return
    seconds = time.monotonic() - started
    if value != 42:
        found = f"{mode}: a program that computes 42 gave {value!r}"
        fix = "Please report this line with your platform."
        yield Check("sandbox", "isolation", "failure", found, fix)
        return
    found = f"{mode}: its locks hold, one program ran ({seconds:.2f} s with the start)"
    if mode == "monty":
        reason = f" {told[0]}" if told else ""
        found = f"monty: a Python subset, no kernel lock around it.{reason}"
        fix = (
            "Linux 5.13 or newer with landlock and seccomp gives the jail. Without it runs work, "
            "but code operators know less of Python (docs/security.md)."
        )
        yield Check("sandbox", "isolation", "warning", found, fix)
        return
    if mode == "jail" and report.get("bubblewrap", "").startswith("/"):
        found += "; bubblewrap is installed, but may make no namespaces here"
    yield Check("sandbox", "isolation", "ok", found)


async def _run_job() -> tuple[str, Any]:
    async with Sandbox(workers=1, timeout_s=2.0, memory_mb=256) as sandbox:
        result = await sandbox.evaluate("def f(x):\n    return x * 2\n", ["f(21)"])
        value = result.values[0] if result.values else None
        return sandbox.mode, value.value if value else result.error


def interpreter_check() -> Iterator[Check]:
    """One workflow with one operator call, answered here."""
    started = time.monotonic()
    try:
        answer, fault = asyncio.run(_run_workflow())
    except ImportError as error:
        fix = "pip install 'pydantic-monty>=1.4,<1.5'"
        yield Check("interpreter", "isolation", "failure", f"cannot be imported: {error}", fix)
        return
    if answer != "42":
        fix = "pip install --force-reinstall 'pydantic-monty>=1.4,<1.5'"
        found = f"a workflow that answers 42 gave {answer!r} ({fault})"
        yield Check("interpreter", "isolation", "failure", found, fix)
        return
    seconds = time.monotonic() - started
    found = f"pydantic-monty: one workflow ran ({seconds:.2f} s with the start)"
    yield Check("interpreter", "isolation", "ok", found)


async def _run_workflow() -> tuple[str | None, str]:
    from aflow_grpo.records import WorkflowSource
    from aflow_grpo.workflow.interpreter import Interpreter

    async def call(index: int, attribute: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        return {"response": str(2 * int(arguments["input"]))}

    async with Interpreter(workers=1) as interpreter:
        outcome = await interpreter.run(
            WorkflowSource(_WORKFLOW), problem="21", entry_point="", call_operator=call
        )
    return outcome.answer, outcome.fault.message if outcome.fault else ""
