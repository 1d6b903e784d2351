"""Class features that the interpreter lacks: inheritance, method decorators, one's own exceptions.

A subclass gets copies of what it inherits; `super().f()` calls such a copy. Static and class
methods become callable class variables, properties plain methods that reads of the attribute call.
Small enumerations, named tuples and typed dictionaries become what they come down to. Metaclasses,
subclasses of builtin types and statements in class bodies stay what they are: not taken.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import cast

from aflow_grpo.workflow.rewrite_errors import ERROR_BASES, error_members, expression

__all__ = ["ClassRewriter"]

_ENUMS = frozenset({"Enum", "IntEnum", "StrEnum"})
_DROPPED_DECORATORS = frozenset(
    {"abstractmethod", "override", "final", "lru_cache", "cache", "overload", "typechecked"}
)
_GETTERS = frozenset({"property", "cached_property"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _members(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement


class ClassRewriter:
    """Rewrites the classes at module level.

    Args:
        tree: The module; changed in place.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._bases = {
            name: [base for item in node.bases if (base := _last_name(item)) and base != name]
            for name, node in self._classes.items()
        }
        self.changed = any(
            node.bases or any(getattr(member, "decorator_list", ()) for member in node.body)
            for node in self._classes.values()
        )
        """Whether any class has something to rewrite."""
        self.needed: set[str] = set()
        """Parts that the rewritten classes use."""
        self.errors: dict[str, str] = {}
        """Exception classes of the workflow's own -> the builtin that carries each."""
        self.getters: set[str] = set()
        """Names of properties."""
        self.setters: set[str] = set()
        """Names of properties that can be assigned."""
        self.descendants: dict[str, list[str]] = {}
        """Class -> the classes that inherit from it, directly or not."""

    def apply(self) -> None:
        """Rewrites all classes of the module."""
        body: list[ast.stmt] = []
        for statement in self._tree.body:
            if not isinstance(statement, ast.ClassDef):
                body.append(statement)
                continue
            replaced = self._small_class(statement)
            if replaced is not None:
                body.append(ast.copy_location(replaced, statement))
                del self._classes[statement.name]
                continue
            self._flatten(statement)
            body += [statement, *self._decorated(statement)]
        self._tree.body = body

    def _small_class(self, node: ast.ClassDef) -> ast.stmt | None:
        """The assignment that stands for an enumeration, named tuple or typed dictionary."""
        bases = set(self._bases[node.name])
        fields = [s for s in node.body if not _is_docstring(s)]
        target: list[ast.expr] = [ast.Name(node.name, ast.Store())]
        if bases & _ENUMS and all(isinstance(s, ast.Assign) for s in fields):
            self.needed.add("_Enum")
            pairs: list[ast.expr] = []
            for number, (name, statement) in enumerate(_members(fields), 1):
                value = cast(ast.Assign, statement).value
                if _last_name(value) == "auto":
                    value = ast.Constant(number)
                pairs.append(ast.Tuple([ast.Constant(name), value], ast.Load()))
            arguments = [ast.Constant(node.name), ast.List(pairs, ast.Load())]
            return ast.Assign(target, ast.Call(_name("_Enum"), arguments, []))
        if "TypedDict" in bases:
            return ast.Assign(target, _name("dict"))
        if "NamedTuple" in bases and all(isinstance(s, ast.AnnAssign) for s in fields):
            names = [ast.Constant(name) for name, _ in _members(fields)]
            values = [s.value for s in fields if isinstance(s, ast.AnnAssign) and s.value]
            call = expression("_namedtuple(0, 0, defaults=0)")
            assert isinstance(call, ast.Call)
            call.args = [ast.Constant(node.name), ast.List([*names], ast.Load())]
            call.keywords[0].value = ast.List([*values], ast.Load())
            self.needed.add("_namedtuple")
            return ast.Assign(target, call)
        return None

    def _flatten(self, node: ast.ClassDef) -> None:
        """Copies what the class inherits into it, and drops its bases."""
        bases = self._bases[node.name]
        if not bases:
            return
        carrier = next((self.errors.get(b) or (b if b in ERROR_BASES else "") for b in bases), "")
        inherited: dict[str, tuple[str, ast.stmt]] = {}
        for base in reversed(bases):
            if base in self._classes and base != node.name:
                self._inherit(base, node.name)
                for name, member in _members(self._classes[base].body):
                    inherited[name] = (base, member)
        if carrier:
            self.errors[node.name] = carrier
            self.needed |= {"_raisable", "_original", "_matches", "_own_text", "_own_repr"}
        own = dict(_members(node.body))
        calls = _SuperCalls(inherited, bool(carrier))
        for statement in list(node.body):
            calls.visit(statement)
        for name, (base, member) in inherited.items():
            if name not in own:
                node.body.append(copy.deepcopy(member))
            elif name in calls.used:
                kept = copy.deepcopy(member)
                assert isinstance(kept, (ast.FunctionDef, ast.AsyncFunctionDef))
                kept.name = f"_super_{base}_{name}"
                node.body.append(kept)
        if carrier:
            known = {name for name, _ in _members(node.body)}
            members = error_members(carrier)
            node.body += [m for name, m in _members(members) if name not in known]
            if not known and _is_pass(node.body[0]):
                node.body.pop(0)
        if not _has_builtin_base(bases):
            node.bases, node.keywords = [], []

    def _inherit(self, base: str, name: str) -> None:
        for ancestor, heirs in list(self.descendants.items()):
            if base in heirs:
                heirs.append(name)
                self.descendants[ancestor] = heirs
        self.descendants.setdefault(base, []).append(name)

    def _decorated(self, node: ast.ClassDef) -> list[ast.stmt]:
        """Takes method decorators off; the statements that do their work after the class."""
        after: list[ast.stmt] = []
        for method in node.body:
            if not isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            decorators, method.decorator_list = method.decorator_list, []
            for decorator in reversed(decorators):
                call = self._decoration(node, method, decorator)
                if call is None:
                    continue
                target = ast.Attribute(_name(node.name), method.name, ast.Store())
                after.append(ast.copy_location(ast.Assign([target], call), decorator))
        return after

    def _decoration(
        self, node: ast.ClassDef, method: Function, decorator: ast.expr
    ) -> ast.expr | None:
        name = _last_name(decorator)
        function = ast.Attribute(_name(node.name), method.name, ast.Load())
        if name == "staticmethod":
            self.needed.add("_Static")
            return ast.Call(_name("_Static"), [function], [])
        if name == "classmethod":
            self.needed.add("_ClassMethod")
            return ast.Call(_name("_ClassMethod"), [function, _name(node.name)], [])
        if name in _GETTERS:
            self.needed.add("_read")
            self.getters.add(method.name)
            method.name = f"_property_{method.name}"
            return None
        if name == "setter" and isinstance(decorator, ast.Attribute):
            self.needed.add("_write")
            self.setters.add(method.name)
            method.name = f"_setter_{method.name}"
            return None
        if name in _DROPPED_DECORATORS:
            return None
        return ast.Call(decorator, [function], [])


class _SuperCalls(ast.NodeTransformer):
    """Replaces `super().f(...)`; `used` collects the methods that are called so.

    Args:
        inherited: Name -> (base that has it, member).
        is_error: Whether the class is an exception.
    """

    def __init__(self, inherited: dict[str, tuple[str, ast.stmt]], is_error: bool) -> None:
        self.used: set[str] = set()
        self._inherited = inherited
        self._is_error = is_error

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if not isinstance(function, ast.Attribute) or not _is_super(function.value):
            return node
        name = function.attr
        if name in self._inherited:
            self.used.add(name)
            base = self._inherited[name][0]
            node.func = ast.Attribute(_name("self"), f"_super_{base}_{name}", ast.Load())
            return node
        if self._is_error and name == "__init__":
            node.func = ast.Attribute(_name("self"), "_set_args", ast.Load())
            return node
        if self._is_error and name == "__str__":
            return ast.Call(_name("_own_text"), [_name("self")], [])
        return ast.Constant(None) if name.startswith("__init") else node


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_pass(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass)


def _has_builtin_base(bases: list[str]) -> bool:
    return bool({"dict", "list", "str", "int", "float", "tuple", "set"} & set(bases))


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())
