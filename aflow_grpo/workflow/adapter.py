"""Rewrites what `pydantic-monty` lacks into what it has, and keeps track of the lines.

Covered: AFlow's import lines and typing (`rewrite_names`); builtins, methods, lazy generator
expressions, tasks, `del`, `async with` and simple generators (`rewrite_code`); inheritance, method
decorators and exceptions of one's own (`rewrite_classes`, `rewrite_errors`); and modules that the
interpreter lacks, as far as workflows use them (`inside`).

Differences that remain: a task does not start before it is awaited, `wait_for` never times out (the
workflow's budgets do), and `map`, `zip` and generator functions compute everything at once.
Everything else reaches the interpreter as written, and what it does not take is reported with its
line.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from aflow_grpo.workflow.inside import parts_code
from aflow_grpo.workflow.rewrite_classes import ClassRewriter
from aflow_grpo.workflow.rewrite_code import CodeRewriter
from aflow_grpo.workflow.rewrite_errors import ErrorRewriter
from aflow_grpo.workflow.syntax import quiet

__all__ = ["Adapted", "adapt", "as_text"]


class Adapted:
    """A graph code as the interpreter takes it.

    Args:
        code: The rewritten code.
        parts: What it needs beside the prelude, in the interpreter's language.
        tree: Its syntax tree, whose nodes still have their positions in the original.
        rewritten: Whether the code differs from the original.
    """

    def __init__(self, code: str, parts: str, tree: ast.Module, *, rewritten: bool) -> None:
        self.code = code
        self.parts = parts
        self.tree = tree
        self._rewritten = rewritten

    def line(self, line: int, column: int) -> int:
        """The original line of a place in the code; both counted from 1."""
        if not self._rewritten:
            return line
        places, lines = self._places
        found = bisect_right(places, (line, column - 1)) - 1
        return lines[found] if found >= 0 else line

    @cached_property
    def _places(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Places of the nodes in the code, in order, and the original line of each."""
        with quiet():
            written = ast.parse(self.code)
        found: dict[tuple[int, int], int] = {}
        for new, old in _pairs(written, self.tree):
            if isinstance(new, (ast.stmt, ast.expr)) and isinstance(old, (ast.stmt, ast.expr)):
                found.setdefault((new.lineno, new.col_offset), old.lineno)
        places = sorted(found)
        return places, [found[place] for place in places]


def adapt(code: str) -> Adapted:
    """Rewrites a graph code.

    Args:
        code: Graph code that parses; line ends are ``\\n``.
    """
    with quiet():
        tree = ast.parse(code)
    classes = ClassRewriter(tree)
    classes.apply()
    if classes.errors:
        tree = ErrorRewriter(classes.descendants).visit(tree)
    rewriter = CodeRewriter(tree, classes)
    tree = rewriter.visit(tree)
    needed = frozenset(rewriter.needed | classes.needed)
    if not needed and not rewriter.changed and not classes.changed:
        return Adapted(code, "", tree, rewritten=False)
    ast.fix_missing_locations(tree)
    return Adapted(as_text(tree), parts_code(needed), tree, rewritten=True)


def as_text(tree: ast.Module) -> str:
    """The module's source; f-strings whose quotes cannot be nested become `str.format` calls."""
    try:
        return ast.unparse(tree) + "\n"
    except ValueError:  # an f-string that only Python 3.12 can nest quotes in
        return ast.unparse(ast.fix_missing_locations(_PlainFormat().visit(tree))) + "\n"


class _PlainFormat(ast.NodeTransformer):
    """Turns f-strings into `str.format` calls."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        template, values = _template(node)
        arguments = [self.visit(value) for value in values]
        function = ast.Attribute(ast.Constant(template), "format", ast.Load())
        return ast.copy_location(ast.Call(function, arguments, []), node)


def _template(node: ast.JoinedStr) -> tuple[str, list[ast.expr]]:
    text, values = "", list[ast.expr]()
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value).replace("{", "{{").replace("}", "}}")
        elif isinstance(part, ast.FormattedValue):
            spec, inner = "", list[ast.expr]()
            if isinstance(part.format_spec, ast.JoinedStr):
                spec, inner = _template(part.format_spec)
            conversion = f"!{chr(part.conversion)}" if part.conversion > 0 else ""
            text += "{" + conversion + (f":{spec}" if spec else "") + "}"
            values += [part.value, *inner]
    return text, values


def _pairs(new: ast.AST, old: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Nodes of two trees that correspond; where the trees differ, only what is above."""
    if type(new) is not type(old):
        return
    yield new, old
    children_new, children_old = list(ast.iter_child_nodes(new)), list(ast.iter_child_nodes(old))
    if len(children_new) == len(children_old):
        for pair in zip(children_new, children_old, strict=True):
            yield from _pairs(*pair)
