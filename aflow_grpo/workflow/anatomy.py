"""The parts of a workflow's syntax tree that the checks share: class, methods, operators, aliases.

Pure data about the tree; what is wrong with it is decided in `validate` and the modules it calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aflow_grpo.records import FaultKind, Finding, OperatorSpec
from aflow_grpo.workflow.contract import CALL_SIGNATURE, OPERATORS, OPERATORS_BY_ATTRIBUTE

__all__ = [
    "OPERATORS_BY_CLASS",
    "Function",
    "WorkflowClass",
    "created_operator",
    "find_classes",
    "find_workflow",
    "is_call_method",
    "own_nodes",
    "parent_map",
    "self_attribute",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef

OPERATORS_BY_CLASS: dict[str, OperatorSpec] = {spec.name: spec for spec in OPERATORS}


def is_call_method(node: ast.stmt) -> bool:
    """Whether a class-body statement is the async `__call__`."""
    return isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__"


def find_classes(tree: ast.Module) -> list[ast.ClassDef]:
    """The module's workflow classes: those with an async `__call__`, at module level."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [node for node in classes if any(is_call_method(stmt) for stmt in node.body)]


def self_attribute(node: ast.AST) -> str | None:
    """`x` for the expression `self.x`, else None."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "self" else None
    return None


def parent_map(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Each node's parent."""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions and lambdas nested in it."""
    pending: list[ast.AST] = list(reversed(function.body))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(node))


@dataclass(frozen=True)
class WorkflowClass:
    """A workflow class, taken apart once."""

    tree: ast.Module
    node: ast.ClassDef
    parents: Mapping[ast.AST, ast.AST]

    @classmethod
    def of(cls, tree: ast.Module, node: ast.ClassDef) -> WorkflowClass:
        """Takes `node`, a class of `tree`, apart."""
        return cls(tree, node, parent_map(tree))

    @property
    def methods(self) -> dict[str, Function]:
        """Name -> definition; the last of two of one name, as in Python."""
        return {
            stmt.name: stmt
            for stmt in self.node.body
            if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    @property
    def call(self) -> ast.AsyncFunctionDef:
        """The async `__call__`."""
        found = [s for s in self.node.body if isinstance(s, ast.AsyncFunctionDef)]
        return next(stmt for stmt in reversed(found) if stmt.name == "__call__")

    def operators(self) -> dict[str, OperatorSpec]:
        """Attribute on `self` -> operator.

        A class with an `__init__` has the operators that it creates there, under the names that it
        gives them; a class without one has all ten under the contract's names.
        """
        init = self.methods.get("__init__")
        if init is None:
            return dict(OPERATORS_BY_ATTRIBUTE)
        found: dict[str, OperatorSpec] = {}
        for node in ast.walk(init):
            for target, value in _assignments(node):
                name, spec = self_attribute(target), created_operator(value)
                if name and spec:
                    found[name] = spec
        return found

    def known_attributes(self) -> set[str]:
        """Attributes on `self` that exist besides operators: methods, variables, assigned ones."""
        names = {"llm", "prompts"} | set(self.methods)
        for stmt in self.node.body:
            for target, _ in _assignments(stmt):
                if isinstance(target, ast.Name):
                    names.add(target.id)
        for node in ast.walk(self.node):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = self_attribute(node)
                if name:
                    names.add(name)
        return names


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value


def created_operator(value: ast.expr) -> OperatorSpec | None:
    """The operator that `operator.Custom(...)` or `Custom(...)` creates, else None."""
    if not isinstance(value, ast.Call):
        return None
    function = value.func
    if isinstance(function, ast.Attribute):
        return OPERATORS_BY_CLASS.get(function.attr)
    if isinstance(function, ast.Name):
        return OPERATORS_BY_CLASS.get(function.id)
    return None


def find_workflow(tree: ast.Module) -> WorkflowClass | Finding:
    """The module's one workflow class, or why there is none: a `BAD_STRUCTURE` finding."""
    candidates = find_classes(tree)
    if len(candidates) > 1:
        candidates = [node for node in candidates if node.name == "Workflow"] or candidates
    if len(candidates) == 1:
        return WorkflowClass.of(tree, candidates[0])
    if candidates:
        names = ", ".join(node.name for node in candidates)
        return Finding(
            FaultKind.BAD_STRUCTURE,
            f"{len(candidates)} classes have an async __call__ ({names}); expected exactly one",
            candidates[1].lineno,
        )
    return _no_class(tree)


def _no_class(tree: ast.Module) -> Finding:
    expected = f"expected one `class Workflow` with `{CALL_SIGNATURE}`"
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            call = next(
                (
                    stmt
                    for stmt in node.body
                    if isinstance(stmt, ast.FunctionDef) and stmt.name == "__call__"
                ),
                None,
            )
            problem = "`__call__` is not async" if call else "no async `__call__`"
            line = call.lineno if call else node.lineno
            return Finding(
                FaultKind.BAD_STRUCTURE, f"class {node.name} has {problem}; {expected}", line
            )
    return Finding(FaultKind.BAD_STRUCTURE, f"no class at module level; {expected}")
