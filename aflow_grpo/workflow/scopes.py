"""Names that nothing defines, by Python's own scope rules (`symtable`).

A name is known when its scope, an enclosing function, the module, the interpreter's builtins or
the prelude defines it somewhere. Whether the definition comes before the use is `flow`'s question.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import symtable
import sys
from collections.abc import Collection, Iterator

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.features import (
    BUILTINS,
    FORBIDDEN_NAMES,
    PRELUDE_NAMES,
    STANDARD_MODULES,
    STDIN_NAMES,
)
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.syntax import quiet

__all__ = ["check_names"]

_SCOPES: tuple[type[ast.AST], ...] = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
)


def check_names(code: str, workflow: WorkflowClass, prompts: Collection[str]) -> Iterator[Finding]:
    """Findings for names that are read and never defined, or that the language does not have.

    Args:
        code: The graph code; it has passed the compiler's checks.
        workflow: Its class, with the operators whose names the prelude defines.
        prompts: Names that `from ...prompt import *` would bring.
    """
    with quiet():
        module = symtable.symtable(code, "<workflow>", "exec")
    known = (
        {symbol.get_name() for symbol in module.get_symbols() if _is_defined(symbol)}
        | _declared_globals(module)
        | BUILTINS
        | PRELUDE_NAMES
        | set(workflow.offered.by_class)
    )
    if workflow.imports_all_prompts:
        known |= set(prompts)
    for table in _tables(module):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if name in known or not symbol.is_referenced():
                continue
            if symbol.is_global() or table.get_type() == "module":
                yield _unknown(name, known, _read(workflow, table, name), workflow)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _is_defined(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _declared_globals(module: symtable.SymbolTable) -> set[str]:
    return {
        symbol.get_name()
        for table in _tables(module)
        for symbol in table.get_symbols()
        if symbol.is_declared_global() and symbol.is_assigned()
    }


def _read(workflow: WorkflowClass, table: symtable.SymbolTable, name: str) -> ast.Name | None:
    """The first place inside the scope of `table` that reads `name`, outside annotations if any."""
    reads = workflow.reads(name)
    candidates = [node for kind in _SCOPES for node in workflow.every(kind)]
    line = table.get_lineno()
    scopes = [node for node in candidates if getattr(node, "lineno", 0) == line]
    inside = {id(n) for scope in scopes for n in ast.walk(scope)} if scopes else set()
    here = [node for node in reads if id(node) in inside] or reads
    evaluated = [node for node in here if not workflow.in_annotation(node)] or here
    return min(evaluated, key=lambda node: (node.lineno, node.col_offset), default=None)


def _unknown(name: str, known: set[str], at: ast.Name | None, workflow: WorkflowClass) -> Finding:
    if at is not None and workflow.in_annotation(at):
        return found("undefined-annotation", f"`{name}` is never defined", at)
    if name in STDIN_NAMES:
        message = f"`{name}` reads the standard input; there is none"
        return found("reads-stdin", message, at)
    call = workflow.parents.get(at) if at is not None else None
    if name == "open" and isinstance(call, ast.Call) and _is_zero(call.args[:1]):
        return found("reads-stdin", "`open(0)` reads the standard input; there is none", at)
    if name in FORBIDDEN_NAMES:
        message = f"`{name}` is outside the language"
        return found("forbidden-name", message, at, FORBIDDEN_NAMES[name])
    if hasattr(builtins, name):
        return found("missing-builtin", f"`{name}` does not exist here", at)
    if at is not None and _in_handler(at, workflow):
        return found("differs-inside", f"`{name}` is never defined; other errors pass it", at)
    message = f"`{name}` is read but never defined"
    if name == "asyncio":
        return found("missing-import", message, at)
    if name in STANDARD_MODULES:
        return found("undefined-name", message, at, f"Add `import {name}`.")
    if name in sys.stdlib_module_names:
        return found("undefined-name", message, at)
    near = difflib.get_close_matches(name, sorted(known - BUILTINS), n=1)
    return found("undefined-name", message, at, f"Did you mean `{near[0]}`?" if near else "")


def _is_zero(arguments: list[ast.expr]) -> bool:
    return bool(arguments) and isinstance(arguments[0], ast.Constant) and arguments[0].value == 0


def _in_handler(at: ast.Name, workflow: WorkflowClass) -> bool:
    """Whether a name stands in `except NAME`, which is read only when something was raised."""
    parent = workflow.parents.get(at)
    if isinstance(parent, ast.Tuple):
        parent = workflow.parents.get(parent)
    return isinstance(parent, ast.ExceptHandler)
