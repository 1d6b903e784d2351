"""What the readers of code datasets share: parsing tests, public tests by name, signatures.

Code is parsed here, never run.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

from aflow_grpo.data.rows import Row, read_rows

__all__ = ["defined", "names_in", "parsed", "read_public_tests", "renamed", "signature"]

_ALIAS = "candidate"


class _Renamed(ast.NodeTransformer):
    """One name for another, but not in strings and attributes."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._new, node.ctx) if node.id == self._old else node


def parsed(row: Row, name: str, code: str) -> ast.Module:
    """The code of a row's field as a tree.

    Raises:
        DataError: It is not Python 3.
    """
    try:
        with warnings.catch_warnings():
            # Published solutions hold invalid escapes in regular expressions; that is their affair.
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
            compile(tree, "<row>", "exec", dont_inherit=True)  # finds `return` outside a function
            ast.unparse(tree)  # so deep that it cannot be written again
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise row.fail(name, f"code that does not parse ({why})", "Python 3") from None


def renamed(node: ast.stmt, old: str, new: str) -> str:
    """The statement's text with the name `old` replaced by `new`."""
    return ast.unparse(_Renamed(old, new).visit(node))


def names_in(node: ast.AST) -> set[str]:
    """Every plain name that `node` reads or binds."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def defined(code: ast.Module) -> dict[str, ast.FunctionDef]:
    """The functions at the top level of `code`; of several with one name the last."""
    return {node.name: node for node in code.body if isinstance(node, ast.FunctionDef)}


def signature(function: ast.FunctionDef) -> str:
    """Name and parameters as written: ``add(a, b=1)``."""
    return f"{function.name}({ast.unparse(function.args)})"


def read_public_tests(path: str | Path) -> dict[str, list[str]]:
    """AFlow's public tests by `problem_id`, where rows have one, else by `entry_point`.

    `candidate` is replaced by the entry point's name.

    Raises:
        DataError: A row is malformed or a test is not Python.
    """
    public: dict[str, list[str]] = {}
    for row in read_rows(path):
        name = row.text("entry_point")
        key = row.text("problem_id") if "problem_id" in row.fields else name
        tests = [
            renamed(statement, _ALIAS, name)
            for test in row.texts("test")
            for statement in parsed(row, "test", test.strip()).body
        ]
        public.setdefault(key, []).extend(tests)
    return public
