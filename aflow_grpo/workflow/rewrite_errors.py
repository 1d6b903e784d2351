"""Exceptions of the workflow's own: how they are raised, matched and handed to their handlers.

The interpreter raises builtin exceptions only. `raise X` raises a carrier in the instance's place,
and every `try` of the module looks at the instance behind what it caught.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

__all__ = ["ERROR_BASES", "ErrorRewriter", "error_members", "expression", "parsed", "with_heirs"]

ERROR_BASES = frozenset(
    {
        "BaseException", "Exception", "ValueError", "TypeError", "KeyError", "IndexError",
        "RuntimeError", "AttributeError", "NotImplementedError", "OSError", "TimeoutError",
        "ArithmeticError", "LookupError", "AssertionError", "ZeroDivisionError", "NameError",
        "StopIteration", "PermissionError", "FileNotFoundError", "ImportError",
    }
)  # fmt: skip


def error_members(carrier: str) -> list[ast.stmt]:
    """What an exception class gets that does not define it: arguments, text, its carrier."""
    text = (
        f"_carrier = {carrier}\n"
        "args = ()\n"
        "def __init__(self, *args):\n    self.args = args\n"
        "def _set_args(self, *args):\n    self.args = args\n"
        "def __str__(self):\n    return _own_text(self)\n"
        "def __repr__(self):\n    return _own_repr(self)\n"
    )
    return parsed(text)


def parsed(text: str) -> list[ast.stmt]:
    """Statements without positions: they get those of what they are put into."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            if hasattr(node, name):
                delattr(node, name)
    return tree.body


def expression(text: str) -> ast.expr:
    """An expression without positions."""
    (statement,) = parsed(text)
    assert isinstance(statement, ast.Expr)
    return statement.value


def with_heirs(kinds: ast.expr, descendants: Mapping[str, Sequence[str]]) -> ast.expr:
    """A class, or a tuple of classes, with the subclasses of those that have some."""
    if isinstance(kinds, ast.Tuple):
        return ast.Tuple([with_heirs(kind, descendants) for kind in kinds.elts], ast.Load())
    heirs = descendants.get(kinds.id, ()) if isinstance(kinds, ast.Name) else ()
    names: list[ast.expr] = [ast.Name(name, ast.Load()) for name in heirs]
    return ast.Tuple([kinds, *names], ast.Load()) if names else kinds


class ErrorRewriter(ast.NodeTransformer):
    """Rewrites `raise` and `try` of a module that has exceptions of its own.

    Args:
        descendants: Class -> the classes that inherit from it.
    """

    def __init__(self, descendants: Mapping[str, Sequence[str]]) -> None:
        self._descendants = descendants
        self._fresh = 0

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        self.generic_visit(node)
        if node.exc is not None:
            node.exc = ast.Call(ast.Name("_raisable", ast.Load()), [node.exc], [])
            node.cause = None
        return node

    def visit_Try(self, node: ast.Try) -> ast.stmt:
        self.generic_visit(node)
        if not node.handlers:
            return node
        self._fresh += 1
        raised, original = f"_raised{self._fresh}", f"_caught{self._fresh}"
        first, *_ = parsed(f"{original} = _original({raised})")
        chain: list[ast.stmt] = [ast.Raise()]
        for handler in reversed(node.handlers):
            body = list(handler.body)
            if handler.name is not None:
                body[0:0] = parsed(f"{handler.name} = {original}")
            if handler.type is None:
                chain = body
                continue
            arguments: list[ast.expr] = [
                ast.Name(raised, ast.Load()),
                ast.Name(original, ast.Load()),
                with_heirs(handler.type, self._descendants),
            ]
            test = ast.Call(ast.Name("_matches", ast.Load()), arguments, [])
            chain = [ast.copy_location(ast.If(test, body, chain), handler)]
        caught = ast.ExceptHandler(ast.Name("BaseException", ast.Load()), raised, [first, *chain])
        node.handlers = [ast.copy_location(caught, node.handlers[0])]
        return node
