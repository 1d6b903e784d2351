"""The parts of a workflow's syntax tree that the checks share: class, methods, operators, aliases.

Pure data about the tree; what is wrong with it is decided in `validate` and the modules it calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

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
    "self_attribute",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef

_SHARED = (ast.Load, ast.Store, ast.Del)
"""Node classes of which the parser makes one instance for all uses."""

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
    """A workflow class and the module around it, taken apart once."""

    tree: ast.Module
    node: ast.ClassDef
    nodes: tuple[ast.AST, ...]
    """All nodes of the module, parents before children."""
    parents: Mapping[ast.AST, ast.AST]
    owners: Mapping[ast.AST, Function | None]
    """Each node's nearest function; a function's own name and decorators belong to it too."""

    @classmethod
    def of(cls, tree: ast.Module, node: ast.ClassDef) -> WorkflowClass:
        """Takes `node`, a class of `tree`, apart."""
        nodes: list[ast.AST] = [tree]
        parents: dict[ast.AST, ast.AST] = {}
        owners: dict[ast.AST, Function | None] = {tree: None}
        for current in nodes:  # grows while it is walked
            is_function = isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef))
            owner = current if is_function else owners[current]
            for child in ast.iter_child_nodes(current):
                if type(child) in _SHARED:
                    continue
                nodes.append(child)
                parents[child] = current
                owners[child] = cast(Function | None, owner)
        return cls(tree, node, tuple(nodes), parents, owners)

    @cached_property
    def methods(self) -> dict[str, Function]:
        """Name -> definition; the last of two of one name, as in Python."""
        return {
            stmt.name: stmt
            for stmt in self.node.body
            if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    @cached_property
    def call(self) -> ast.AsyncFunctionDef:
        """The async `__call__`."""
        found = [s for s in self.node.body if isinstance(s, ast.AsyncFunctionDef)]
        return next(stmt for stmt in reversed(found) if stmt.name == "__call__")

    @cached_property
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

    @cached_property
    def assigned_attributes(self) -> set[str]:
        """Attributes that any function of the module assigns on `self`."""
        stored = (n for n in self.nodes if isinstance(n, ast.Attribute))
        names = (self_attribute(n) for n in stored if isinstance(n.ctx, ast.Store))
        return {name for name in names if name is not None}

    @cached_property
    def known_attributes(self) -> set[str]:
        """Attributes on `self` that exist besides operators: methods, variables, assigned ones."""
        variables = {
            target.id
            for stmt in self.node.body
            for target, _ in _assignments(stmt)
            if isinstance(target, ast.Name)
        }
        return {"llm", "prompts"} | set(self.methods) | variables | self.assigned_attributes


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
