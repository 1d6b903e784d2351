"""Which Python a workflow may use: imports, statements and names outside the language.

The language is what `pydantic-monty` runs behind the adapter, without its file, process and
introspection corners. Names that AFlow's own import lines bring are accepted: the adapter drops
those lines and the prelude defines what they name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.anatomy import WorkflowClass

__all__ = [
    "AFLOW_ROOTS",
    "FORBIDDEN_NAMES",
    "STANDARD_MODULES",
    "check_grammar",
    "is_standard_import",
]

STANDARD_MODULES = frozenset(
    {
        "asyncio",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "functools",
        "itertools",
        "json",
        "math",
        "random",
        "re",
        "time",
        "typing",
        "__future__",
    }
)
"""Modules of the standard library that a workflow may import."""

AFLOW_ROOTS = frozenset({"workspace", "scripts", "metagpt", "operator", "operators", "prompt"})
"""First parts of the module paths in AFlow's graph files; their imports are dropped."""

FORBIDDEN_NAMES = {
    "input": "a workflow cannot read from a keyboard; use the parameter `problem`",
    "open": "a workflow has no files",
    "eval": "text is never run as code; use the programmer operator",
    "exec": "text is never run as code; use the programmer operator",
    "compile": "text is never run as code; use the programmer operator",
    "__import__": "imports are statements here",
    "globals": "there is no introspection",
    "locals": "there is no introspection",
    "vars": "there is no introspection",
    "breakpoint": "there is no debugger",
    "exit": "return the answer instead",
    "quit": "return the answer instead",
}
"""Builtins outside the language -> what to do instead."""

_PLAIN_DUNDERS = frozenset({"__name__", "__init__", "__call__", "__doc__"})

_FORBIDDEN_NODES: dict[type[ast.AST], str] = {
    ast.Yield: "`yield`",
    ast.YieldFrom: "`yield from`",
    ast.AsyncWith: "`async with`",
    ast.AsyncFor: "`async for`",
    ast.With: "`with`",
    ast.TryStar: "`except*`",
}


def is_standard_import(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether an import statement names allowed modules of the standard library only."""
    return all(name.split(".")[0] in STANDARD_MODULES for name in _modules(node))


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def check_grammar(workflow: WorkflowClass) -> Iterator[Finding]:
    """Findings for constructs and imports outside the workflow language."""
    for node in workflow.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _check_import(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _check_function(node, workflow)
        elif isinstance(node, ast.ClassDef):
            yield from _check_class(node, workflow)
        elif isinstance(node, ast.Name):
            yield from _check_name(node)
        elif isinstance(node, ast.Attribute):
            yield from _check_dunder(node)
        elif isinstance(node, ast.Delete):
            yield from _check_delete(node)
        elif isinstance(node, ast.comprehension) and node.is_async:
            line = node.target.lineno
            yield Finding(FaultKind.FORBIDDEN_SYNTAX, "`async for` is outside the language", line)
        elif type(node) in _FORBIDDEN_NODES:
            yield Finding(
                FaultKind.FORBIDDEN_SYNTAX,
                f"{_FORBIDDEN_NODES[type(node)]} is outside the workflow language",
                getattr(node, "lineno", None),
            )


def _check_import(node: ast.Import | ast.ImportFrom) -> Iterator[Finding]:
    for module in _modules(node):
        root = module.lstrip(".").split(".")[0]
        from_aflow = root in AFLOW_ROOTS or module.startswith(".")
        if root not in STANDARD_MODULES and not from_aflow:
            allowed = ", ".join(sorted(STANDARD_MODULES - {"__future__"}))
            yield Finding(
                FaultKind.FORBIDDEN_SYNTAX,
                f"`import {module}` is outside the language; allowed: {allowed}",
                node.lineno,
            )


def _check_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, workflow: WorkflowClass
) -> Iterator[Finding]:
    in_class = isinstance(workflow.parents.get(node), ast.ClassDef)
    if isinstance(node, ast.Lambda) or not in_class:
        return
    for decorator in node.decorator_list:
        yield Finding(
            FaultKind.FORBIDDEN_SYNTAX,
            f"`@{ast.unparse(decorator):.40}` on method {node.name}; methods take no decorator",
            decorator.lineno,
        )


def _check_class(node: ast.ClassDef, workflow: WorkflowClass) -> Iterator[Finding]:
    if not isinstance(workflow.parents.get(node), ast.Module):
        yield Finding(
            FaultKind.BAD_STRUCTURE,
            f"class {node.name} is nested; classes stand at module level",
            node.lineno,
        )
    if node is not workflow.node and (node.bases or node.keywords):
        yield Finding(
            FaultKind.BAD_STRUCTURE,
            f"class {node.name} has a base class; the interpreter has no inheritance",
            node.lineno,
        )
    if node is workflow.node and (node.decorator_list or node.keywords):
        yield Finding(
            FaultKind.BAD_STRUCTURE,
            f"class {node.name} has a decorator or metaclass; the workflow class takes none",
            node.lineno,
        )


def _check_name(node: ast.Name) -> Iterator[Finding]:
    if isinstance(node.ctx, ast.Load) and node.id in FORBIDDEN_NAMES:
        yield Finding(
            FaultKind.FORBIDDEN_SYNTAX,
            f"`{node.id}` is outside the language: {FORBIDDEN_NAMES[node.id]}",
            node.lineno,
        )


def _check_dunder(node: ast.Attribute) -> Iterator[Finding]:
    hidden = node.attr.startswith("__") and node.attr.endswith("__")
    if hidden and node.attr not in _PLAIN_DUNDERS:
        yield Finding(
            FaultKind.FORBIDDEN_SYNTAX,
            f"`.{node.attr}` is outside the language: there is no introspection",
            node.lineno,
        )


def _check_delete(node: ast.Delete) -> Iterator[Finding]:
    for target in node.targets:
        sliced = isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice)
        if sliced or not isinstance(target, (ast.Name, ast.Subscript)):
            yield Finding(
                FaultKind.FORBIDDEN_SYNTAX,
                f"`del {ast.unparse(target):.40}` is outside the language; delete names or items",
                node.lineno,
            )
