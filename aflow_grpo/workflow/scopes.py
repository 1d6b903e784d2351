"""Names that nothing defines, by Python's own scope rules (`symtable`).

A name is known when its scope, an enclosing function, the module, the interpreter's builtins or
the prelude defines it somewhere. Whether the definition comes before the use is not decided here.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import symtable
from collections.abc import Iterator

from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.anatomy import OPERATORS_BY_CLASS
from aflow_grpo.workflow.grammar import FORBIDDEN_NAMES
from aflow_grpo.workflow.syntax import quiet

__all__ = ["BUILTINS", "PRELUDE_NAMES", "check_names"]

_BUILTINS = """
    ArithmeticError AssertionError AttributeError BaseException Ellipsis Exception False
    FileExistsError FileNotFoundError ImportError IndexError IsADirectoryError KeyError
    KeyboardInterrupt LookupError MemoryError ModuleNotFoundError NameError None
    NotADirectoryError NotImplemented NotImplementedError OSError OverflowError PermissionError
    RecursionError RuntimeError StopIteration SyntaxError SystemExit TimeoutError True TypeError
    UnboundLocalError UnicodeDecodeError UnicodeEncodeError ValueError ZeroDivisionError
    __debug__ __doc__ __name__ abs all any bin bool bytes chr complex dict divmod enumerate filter
    float format frozenset getattr hasattr hash hex id int isinstance iter len list map max min
    next object oct ord pow print range repr reversed round set setattr slice sorted str sum tuple
    type zip
"""
BUILTINS = frozenset(_BUILTINS.split())
"""Builtins that `pydantic-monty` 1.4.0 has, counted by running each name."""

PRELUDE_NAMES = frozenset({"operator", "prompt_custom", "create_llm_instance", "DatasetType"})
"""Names that the interpreter's prelude defines in AFlow's stead, operator classes aside."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def check_names(code: str, tree: ast.Module) -> Iterator[Finding]:
    """Findings for names that are read and never defined.

    Args:
        code: The graph code; it has passed the compiler's checks.
        tree: Its syntax tree.
    """
    with quiet():
        module = symtable.symtable(code, "<workflow>", "exec")
    assigned_globals = _declared_globals(module)
    known = (
        {symbol.get_name() for symbol in module.get_symbols() if _is_defined(symbol)}
        | assigned_globals
        | BUILTINS
        | PRELUDE_NAMES
        | set(OPERATORS_BY_CLASS)
        | set(FORBIDDEN_NAMES)
    )
    for table in _tables(module):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            reads_global = symbol.is_referenced() and (
                symbol.is_global() or table.get_type() == "module"
            )
            if reads_global and name not in known and not _annotation_only(tree, name):
                yield Finding(
                    FaultKind.UNDEFINED_NAME, _message(name, known), _line(tree, table, name)
                )


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


def _annotation_only(tree: ast.Module, name: str) -> bool:
    """Whether `name` stands only in annotations, which the interpreter never evaluates."""
    in_annotations = {
        id(node)
        for annotation in _annotations(tree)
        for node in ast.walk(annotation)
        if isinstance(node, ast.Name)
    }
    reads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
    ]
    return bool(reads) and all(id(node) in in_annotations for node in reads)


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns:
            yield node.returns


def _line(tree: ast.Module, table: symtable.SymbolTable, name: str) -> int | None:
    """First line that reads `name` inside the scope of `table`."""
    scopes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _SCOPES) and node.lineno == table.get_lineno()
    ]
    for root in (*scopes, tree):
        lines = [
            node.lineno
            for node in ast.walk(root)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        ]
        if lines:
            return min(lines)
    return None


def _message(name: str, known: set[str]) -> str:
    if hasattr(builtins, name):
        return f"`{name}` does not exist in the workflow interpreter"
    near = difflib.get_close_matches(name, sorted(known - BUILTINS), n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return f"`{name}` is read but never defined{hint}"
