"""The parts of a workflow's syntax tree that the checks share: class, methods, operators, aliases.

Pure data about the tree; what is wrong with it is decided in `validate` and the modules it calls.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from aflow_grpo.records import Finding
from aflow_grpo.workflow.contract import CALL_SIGNATURE, TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = [
    "Function",
    "WorkflowClass",
    "created_operator",
    "dataset_of",
    "find_classes",
    "find_workflow",
    "imports_all_prompts",
    "self_attribute",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef
N = TypeVar("N", bound=ast.AST)

_SHARED = (ast.Load, ast.Store, ast.Del)
"""Node classes of which the parser makes one instance for all uses."""

_OPERATOR_FILES = ("operator", "operators")
_PROMPT_FILES = ("prompt", "prompt_custom")


def _is_call_method(node: ast.stmt) -> bool:
    """Whether a class-body statement is the async `__call__`."""
    return isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__"


def find_classes(tree: ast.Module) -> list[ast.ClassDef]:
    """The module's workflow classes: those with an async `__call__`, at module level."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [node for node in classes if any(_is_call_method(stmt) for stmt in node.body)]


def self_attribute(node: ast.AST) -> str | None:
    """`x` for the expression `self.x`, else None."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "self" else None
    return None


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
    offered: OperatorSet
    """The operators that exist; `operators` are those that this class has."""

    @classmethod
    def of(cls, tree: ast.Module, node: ast.ClassDef, offered: OperatorSet) -> WorkflowClass:
        """Takes `node`, a class of `tree`, apart."""
        nodes: list[ast.AST] = [tree]
        parents: dict[ast.AST, ast.AST] = {}
        owners: dict[ast.AST, Function | None] = {tree: None}
        for current in nodes:  # grows while it is walked
            is_function = isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef))
            owner = cast(Function, current) if is_function else owners[current]
            for name in current._fields:
                value = getattr(current, name, None)
                for child in value if type(value) is list else (value,):
                    if isinstance(child, ast.AST) and type(child) not in _SHARED:
                        nodes.append(child)
                        parents[child] = current
                        owners[child] = owner
        return cls(tree, node, tuple(nodes), parents, owners, offered)

    @cached_property
    def _by_type(self) -> dict[type[ast.AST], list[ast.AST]]:
        found_nodes: dict[type[ast.AST], list[ast.AST]] = {}
        for node in self.nodes:
            found_nodes.setdefault(type(node), []).append(node)
        return found_nodes

    def every(self, kind: type[N]) -> list[N]:
        """All nodes of exactly this class, parents before children."""
        return cast("list[N]", self._by_type.get(kind, []))

    def of_call(self, kind: type[N]) -> list[N]:
        """The nodes of this class in `__call__`, without those of functions nested in it."""
        call = self.call
        return [node for node in self.every(kind) if self.owners[node] is call]

    @cached_property
    def methods(self) -> dict[str, Function]:
        """Name -> definition; the last of two of one name, as in Python."""
        return {
            stmt.name: stmt
            for stmt in self.node.body
            if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    @cached_property
    def lineage(self) -> list[ast.ClassDef]:
        """The class and those of its bases that the module defines, the class itself first."""
        classes = {node.name: node for node in self.every(ast.ClassDef)}
        found_classes = [self.node]
        for node in found_classes:  # grows while it is walked
            bases = [classes.get(b.id) for b in node.bases if isinstance(b, ast.Name)]
            found_classes += [b for b in bases if b is not None and b not in found_classes]
        return found_classes

    @cached_property
    def inherited_methods(self) -> dict[str, Function]:
        """Name -> definition, over the whole lineage."""
        return {
            stmt.name: stmt
            for node in reversed(self.lineage)
            for stmt in node.body
            if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    @cached_property
    def call(self) -> ast.AsyncFunctionDef:
        """The async `__call__`."""
        found = [s for s in self.node.body if isinstance(s, ast.AsyncFunctionDef)]
        return next(stmt for stmt in reversed(found) if stmt.name == "__call__")

    @cached_property
    def problem_parameter(self) -> str:
        """The parameter of `__call__` that takes the problem: the first one, whatever its name.

        Where a `problem` is read that nothing binds, no other name will do.
        """
        names = [argument.arg for argument in self.call.args.args][1:2]
        if names in ([], ["entry_point"]) or (
            "problem" not in self.bound_names and self.reads("problem")
        ):
            return "problem"
        return names[0]

    @cached_property
    def operators(self) -> dict[str, OperatorSpec]:
        """Attribute on `self` -> operator.

        A class with an `__init__` has the operators that it creates there, under the names that it
        gives them; a class without one has all of them under the contract's names.
        """
        init = self.inherited_methods.get("__init__")
        if init is None:
            return dict(self.offered.by_attribute)
        found: dict[str, OperatorSpec] = {}
        for node in ast.walk(init):
            for target, value in _assignments(node):
                name, spec = self_attribute(target), created_operator(value, self.offered)
                if name and spec:
                    found[name] = spec
        return found

    @cached_property
    def assigned_attributes(self) -> set[str]:
        """Attributes that any function of the module assigns on `self`."""
        stored = (n for n in self.every(ast.Attribute) if isinstance(n.ctx, ast.Store))
        names = {self_attribute(node) for node in stored}
        for call in self.every(ast.Call):
            by_name = isinstance(call.func, ast.Name) and call.func.id == "setattr"
            if by_name and len(call.args) == 3 and isinstance(call.args[1], ast.Constant):
                names.add(str(call.args[1].value))
        return {name for name in names if name is not None}

    @cached_property
    def known_attributes(self) -> set[str]:
        """Attributes on `self` that exist besides operators: methods, variables, assigned ones."""
        variables = {
            target.id
            for node in self.lineage
            for stmt in node.body
            for target, _ in _assignments(stmt)
            if isinstance(target, ast.Name)
        }
        return (
            {"llm", "prompts"} | set(self.inherited_methods) | variables | self.assigned_attributes
        )

    def reads(self, name: str) -> list[ast.Name]:
        """Where a name is read, in any scope."""
        return [n for n in self.every(ast.Name) if n.id == name and isinstance(n.ctx, ast.Load)]

    def in_annotation(self, node: ast.AST) -> bool:
        """Whether a node is part of an annotation, which the interpreter never evaluates."""
        child, parent = node, self.parents.get(node)
        while parent is not None and not isinstance(child, ast.stmt):
            if child in (getattr(parent, "annotation", None), getattr(parent, "returns", None)):
                return True
            child, parent = parent, self.parents.get(parent)
        return False

    @cached_property
    def imports_all_prompts(self) -> bool:
        """Whether there is a `from ...prompt import *`."""
        return imports_all_prompts(self.tree)

    @cached_property
    def shared_names(self) -> frozenset[str]:
        """Names that some function declares `global` or `nonlocal`."""
        declared: list[ast.Global | ast.Nonlocal] = [
            *self.every(ast.Global),
            *self.every(ast.Nonlocal),
        ]
        return frozenset(name for node in declared for name in node.names)

    @cached_property
    def imported_modules(self) -> frozenset[str]:
        """Names bound by `import name`, without an alias, and by nothing else."""
        aliases = (alias for node in self.every(ast.Import) for alias in node.names)
        names = {alias.name for alias in aliases if alias.asname is None}
        return frozenset(names - self.bound_names)

    @cached_property
    def bound_names(self) -> frozenset[str]:
        """Names that an assignment, a loop or a parameter binds, in any scope."""
        stored = {n.id for n in self.every(ast.Name) if not isinstance(n.ctx, ast.Load)}
        return frozenset(stored | {argument.arg for argument in self.every(ast.arg)})

    @cached_property
    def defined_names(self) -> frozenset[str]:
        """Names of all functions, methods and classes of the module."""
        defined: list[Function | ast.ClassDef] = [
            *self.every(ast.FunctionDef),
            *self.every(ast.AsyncFunctionDef),
            *self.every(ast.ClassDef),
        ]
        return frozenset(node.name for node in defined)

    @cached_property
    def operator_modules(self) -> frozenset[str]:
        """Names that stand for AFlow's operator module: `operator`, and its import aliases."""
        return frozenset({"operator"}) | self._imported(_OPERATOR_FILES)

    @cached_property
    def prompt_modules(self) -> frozenset[str]:
        """Names that stand for the prompt file: `prompt_custom`, and its import aliases."""
        return frozenset({"prompt_custom"}) | self._imported(_PROMPT_FILES)

    def _imported(self, lasts: Collection[str]) -> frozenset[str]:
        """Names bound by an import to a module whose path ends in one of `lasts`."""
        imports: list[ast.Import | ast.ImportFrom] = [
            *self.every(ast.Import),
            *self.every(ast.ImportFrom),
        ]
        return frozenset(
            alias.asname or alias.name
            for node in imports
            for alias in node.names
            if alias.name.split(".")[-1] in lasts and (alias.asname or "." not in alias.name)
        )


def dataset_of(tree: ast.Module) -> str | None:
    """The dataset in the path of AFlow's import lines (`workspace.GSM8K.workflows...`)."""
    for node in tree.body:
        paths = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        paths += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for parts in (path.split(".") for path in paths):
            if "workflows" in parts[1:]:
                return parts[parts.index("workflows", 1) - 1]
    return None


def imports_all_prompts(tree: ast.Module) -> bool:
    """Whether there is a `from ...prompt import *`, which Python allows at the top level only."""
    return any(
        node.names[0].name == "*" and (node.module or "").split(".")[-1] in _PROMPT_FILES
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
    )


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value


def created_operator(value: ast.expr, operators: OperatorSet) -> OperatorSpec | None:
    """The operator of `operators` that `operator.Custom(...)` or `Custom(...)` creates."""
    if not isinstance(value, ast.Call):
        return None
    function = value.func
    if isinstance(function, ast.Attribute):
        return operators.by_class.get(function.attr)
    if isinstance(function, ast.Name):
        return operators.by_class.get(function.id)
    return None


def find_workflow(
    tree: ast.Module, operators: OperatorSet = TEN_OPERATORS
) -> WorkflowClass | Finding:
    """The module's one workflow class, or why there is none: a `BAD_STRUCTURE` finding."""
    candidates = find_classes(tree)
    if len(candidates) > 1:
        candidates = [node for node in candidates if node.name == "Workflow"] or candidates
    if len(candidates) == 1:
        return WorkflowClass.of(tree, candidates[0], operators)
    if candidates:
        names = ", ".join(node.name for node in candidates)
        message = f"{len(candidates)} classes have an async __call__ ({names}); expected one"
        return found("several-workflow-classes", message, candidates[1])
    return _no_class(tree)


def _no_class(tree: ast.Module) -> Finding:
    expected = f"expected one `class Workflow` with `{CALL_SIGNATURE}`"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in classes:
        for stmt in node.body:
            if isinstance(stmt, ast.FunctionDef) and stmt.name == "__call__":
                message = f"class {node.name} has a `__call__` that is not async; {expected}"
                return found("call-not-async", message, stmt)
    if classes:
        message = f"class {classes[0].name} has no async `__call__`; {expected}"
        return found("no-workflow-class", message, classes[0])
    return found("no-workflow-class", f"no class at module level; {expected}", _first_line(tree))


def _first_line(tree: ast.Module) -> int:
    return tree.body[0].lineno if tree.body else 1
