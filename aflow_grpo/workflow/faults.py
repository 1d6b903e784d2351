"""Turns what the interpreter raised into a fault: kind, message, line in the graph code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic_monty import (
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.syntax import SourceError

__all__ = ["GRAPH_FILE", "fault_of", "source_fault"]

GRAPH_FILE = "<python-input-1>"
"""How the interpreter names the graph code: its session's second input, after the prelude."""

_MAX_MESSAGE_CHARS = 300
_NOT_TAKEN = "The monty syntax parser does not yet support "
_LIMITS: tuple[tuple[str, FaultKind, str], ...] = (
    ("TimeoutError: feed time limit", FaultKind.TIME_LIMIT, "it computed longer than allowed"),
    ("RuntimeError: suspension limit", FaultKind.TIME_LIMIT, "it turned to the host too often"),
    ("RecursionError: ", FaultKind.RECURSION_LIMIT, "it called itself deeper than allowed"),
    ("MemoryError: memory limit", FaultKind.MEMORY_LIMIT, "it used more memory than allowed"),
    ("MemoryError: the worker", FaultKind.MEMORY_LIMIT, "it used more memory than allowed"),
)
"""Opening of the interpreter's message -> kind, message of ours."""


def source_fault(error: SourceError) -> Finding:
    """The fault of graph code that does not parse, or is too long or too deep."""
    kind = FaultKind.BAD_STRUCTURE if error.too_deep else FaultKind.SYNTAX_ERROR
    return Finding(kind, error.message, error.line)


def fault_of(
    error: MontyError,
    operator_faults: Mapping[str, FaultKind],
    original_line: Callable[[int, int], int],
) -> Finding:
    """The fault that ended a run.

    Args:
        error: What the interpreter raised.
        operator_faults: Message -> kind of the faults that operators raised inside the workflow.
        original_line: Line and column in the code that was run -> line in the graph code.

    Raises:
        MontyConversionError: An operator's result is no plain data, which is a bug of ours.
    """
    if isinstance(error, MontyConversionError):
        raise error
    if isinstance(error, MontyCrashedError):
        return _crash(error)
    text = str(error)
    line = _line(error, original_line)
    for opening, kind, message in _LIMITS:
        if text.startswith(opening):
            return Finding(kind, message, line)
    if isinstance(error, MontySyntaxError) or _NOT_TAKEN in text:
        what = text.rpartition(_NOT_TAKEN)[2]
        return Finding(
            FaultKind.BAD_STRUCTURE, f"the interpreter does not take this: {_cut(what)}", line
        )
    raised = text.partition(": ")[2]
    return Finding(operator_faults.get(raised, FaultKind.EXCEPTION), _cut(text), line)


def _crash(error: MontyCrashedError) -> Finding:
    if error.timed_out:
        return Finding(FaultKind.TIME_LIMIT, "it computed longer than allowed")
    return Finding(FaultKind.MEMORY_LIMIT, "it crashed its worker process")


def _line(error: MontyError, original_line: Callable[[int, int], int]) -> int | None:
    """The innermost line of the graph code in the error's traceback."""
    if not isinstance(error, (MontyRuntimeError, MontySyntaxError)):
        return None
    frames = [frame for frame in error.traceback() if frame.filename == GRAPH_FILE]
    return original_line(frames[-1].line, frames[-1].column) if frames else None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else f"{text[:_MAX_MESSAGE_CHARS]}..."
