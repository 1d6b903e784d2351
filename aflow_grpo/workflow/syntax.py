"""Source text to syntax tree, safely: sizes and depths are bounded before anything recurses.

Parsing and the compiler's checks are CPython's own; no code object is ever executed. Warnings that
the parser prints about the text (`"\\d"`) are silenced: they are the policy's, not ours.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MAX_DEPTH", "MAX_SOURCE_CHARS", "SourceError", "parse_source", "quiet"]

MAX_SOURCE_CHARS = 100_000
"""Longest text that is read at all, in characters."""
MAX_DEPTH = 120
"""Deepest nesting of the syntax tree, leaves not counted; real workflows measure below 40."""

_WARNINGS_LOCK = threading.Lock()


class SourceError(Exception):
    """The text is no Python, or too long or too deep; caught inside this room.

    Args:
        message: What is wrong, in one line.
        line: 1-based line, where one can be named.
        column: 1-based column in characters, likewise.
        too_deep: True when it is the nesting or the length that is wrong.
    """

    def __init__(
        self,
        message: str,
        line: int | None = None,
        column: int | None = None,
        *,
        too_deep: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.too_deep = too_deep


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings that CPython's parser raises about the text it reads."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse_source(code: str, *, compiled: bool = True) -> ast.Module:
    """The syntax tree of `code`.

    Args:
        code: Any text.
        compiled: Whether the compiler's checks are made as well (`return` outside a function).

    Raises:
        SourceError: For a syntax error, more than `MAX_SOURCE_CHARS` characters, or a tree
            deeper than `MAX_DEPTH`; never anything else.
    """
    if len(code) > MAX_SOURCE_CHARS:
        raise SourceError(
            f"{len(code)} characters of code; at most {MAX_SOURCE_CHARS} are read", too_deep=True
        )
    try:
        with quiet():
            tree = ast.parse(code)
            _check_depth(tree)
            if compiled:
                # The code object is dropped: nothing runs.
                compile(tree, "<workflow>", "exec", dont_inherit=True)
    except SyntaxError as error:
        column = error.offset if error.offset and error.offset > 0 else None
        raise SourceError(error.msg or "invalid syntax", error.lineno, column) from None
    except (MemoryError, RecursionError):
        raise SourceError("nested too deeply for the parser", too_deep=True) from None
    except ValueError as error:
        raise SourceError(str(error)) from None
    return tree


_LEAVES = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del})


def _check_depth(tree: ast.Module) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        below: list[ast.AST] = []
        for node in level:
            for name in node._fields:
                value = getattr(node, name, None)
                for child in value if type(value) is list else (value,):
                    if isinstance(child, ast.AST) and type(child) not in _LEAVES:
                        below.append(child)
        if not below:
            return
        level = below
    line = next((node.lineno for node in level if isinstance(node, (ast.expr, ast.stmt))), None)
    raise SourceError(f"nested deeper than {MAX_DEPTH} levels", line, too_deep=True)
