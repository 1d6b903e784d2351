"""Which names of its module a piece of Python uses, and where.

Scopes are Python's: parameters and what a function assigns are its own, a class body's names are
nobody else's. Not covered: `global` and `nonlocal`, and names inside of texts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Use", "bound_in", "uses_of"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Use:
    """One place where a name of the module stands."""

    name: str
    line: int
    """From 1."""
    column: int
    """In bytes, from 0."""
    eager: bool
    """Whether the name must mean something when the module is imported."""
    attribute: str = ""
    """What is read of it, for `name.attribute`."""


def uses_of(text: str) -> list[Use]:
    """The names that are read, and those that statements at the outermost level bind."""
    finder = _Finder(text)
    for node in ast.parse(text).body:
        finder.visit(node)
    return finder.uses


def bound_in(body: Sequence[ast.AST]) -> set[str]:
    """The names that statements bind in their own scope, those of nested functions left out."""
    names: set[str] = set()
    for node in _own_scope(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            names.add(node.name)
    return names


def _own_scope(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, *_COMPREHENSIONS)):
            waiting += ast.iter_child_nodes(node)


class _Finder(ast.NodeVisitor):
    def __init__(self, text: str) -> None:
        self.uses: list[Use] = []
        self._lines = text.splitlines()
        self._scopes: list[set[str]] = []
        self._functions = 0
        self._class_bodies = 0
        self._annotation = False

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self._note(node.value, node.attr)
        else:
            self.visit(node.value)

    def _note(self, node: ast.Name, attribute: str = "") -> None:
        local = any(node.id in scope for scope in self._scopes)
        in_class = self._class_bodies and isinstance(node.ctx, ast.Store)
        if local or in_class:
            return
        eager = not self._functions and not self._annotation
        self.uses.append(Use(node.id, node.lineno, node.col_offset, eager, attribute))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node, node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, [node.body])

    def _function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        body: Sequence[ast.AST],
    ) -> None:
        arguments = node.args
        if not isinstance(node, ast.Lambda):
            self._own_name(node)
            for decorator in node.decorator_list:
                self.visit(decorator)
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.visit(default)
        given = [part for part in ast.walk(arguments) if isinstance(part, ast.arg)]
        returns = getattr(node, "returns", None)
        for annotation in [*(part.annotation for part in given), returns]:
            if annotation is not None:
                self._annotated(annotation)
        inside, self._class_bodies = self._class_bodies, 0
        self._scopes.append({part.arg for part in given} | bound_in(body))
        self._functions += 1
        for statement in body:
            self.visit(statement)
        self._functions -= 1
        self._scopes.pop()
        self._class_bodies = inside

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._own_name(node)
        for part in (*node.decorator_list, *node.bases, *(k.value for k in node.keywords)):
            self.visit(part)
        outside, self._class_bodies = self._class_bodies, 1
        for statement in node.body:
            self.visit(statement)
        self._class_bodies = outside

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self._annotated(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        targets = [part for each in node.generators for part in ast.walk(each.target)]
        self.visit(node.generators[0].iter)
        self._scopes.append({part.id for part in targets if isinstance(part, ast.Name)})
        self.generic_visit(node)
        self._scopes.pop()

    def _annotated(self, annotation: ast.expr) -> None:
        before, self._annotation = self._annotation, True
        self.visit(annotation)
        self._annotation = before

    def _own_name(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """A definition's name, where the module has it."""
        if self._scopes or self._class_bodies:
            return
        line = self._lines[node.lineno - 1].encode()
        column = line.index(b" " + node.name.encode()) + 1
        self.uses.append(Use(node.name, node.lineno, column, True))
