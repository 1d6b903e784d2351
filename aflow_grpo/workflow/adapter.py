"""Rewrites what `pydantic-monty` lacks into what it has, in place, so that line numbers stay.

Covered: AFlow's import lines (dropped, their names bound to the prelude's), typing imports and
aliases, the workflow class's base, `del`, `gather(return_exceptions=)`, `create_task`, `wait_for`,
`asyncio.TimeoutError`, and `__name__`. Differences that remain: a task does not start before it is
awaited, and `wait_for` never times out (the workflow's budgets do). Everything else reaches the
interpreter as written, and what that does not take is reported with its line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from aflow_grpo.workflow.anatomy import find_classes
from aflow_grpo.workflow.grammar import is_standard_import

__all__ = ["adapt"]

_RENAMED = {
    "create_task": "_task",
    "ensure_future": "_task",
    "wait_for": "_wait_for",
}
"""asyncio functions -> the prelude's stand-ins."""


@dataclass(frozen=True)
class _Edit:
    """Replaces bytes `start` to `end` of the source by `text`."""

    start: int
    end: int
    text: str
    statement: bool
    """Whole statements are padded with newlines, expressions with continued lines."""


class _Source:
    """Source bytes with the offsets of tree nodes."""

    def __init__(self, code: str) -> None:
        self.data = code.encode()
        self._starts = [0]
        for line in self.data.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """First byte of `node` and the byte after its last."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        """The source of `node` on one line."""
        return " ".join(ast.unparse(node).splitlines())

    def replace(self, node: ast.expr | ast.stmt, text: str) -> _Edit:
        """An edit that puts `text` in the place of `node`."""
        return _Edit(*self.span(node), text, isinstance(node, ast.stmt))


def adapt(code: str, tree: ast.Module) -> str:
    """The graph code as the interpreter takes it; every line keeps its number.

    Args:
        code: Graph code that parses; line ends are ``\\n``.
        tree: Its syntax tree.
    """
    source = _Source(code)
    edits = sorted(_edits(source, tree), key=lambda edit: (edit.start, -edit.end))
    out: list[bytes] = []
    position = 0
    for edit in edits:
        if edit.start < position:
            continue  # inside a replaced statement
        removed = source.data[edit.start : edit.end].count(b"\n")
        padding = ("\n" if edit.statement else " \\\n") * removed
        out += [source.data[position : edit.start], (edit.text + padding).encode()]
        position = edit.end
    out.append(source.data[position:])
    return b"".join(out).decode()


def _edits(source: _Source, tree: ast.Module) -> Iterator[_Edit]:
    typing_names = _typing_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _import_edits(source, node)
        elif isinstance(node, ast.Assign) and _is_typing(node.value, typing_names):
            yield source.replace(node.value, "None")
        elif isinstance(node, ast.Delete):
            yield source.replace(node, "; ".join(_deleted(source, t) for t in node.targets))
        elif isinstance(node, ast.Call):
            yield from _call_edits(source, node)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "asyncio":
                yield from _asyncio_edits(source, node)
        elif isinstance(node, ast.Name) and node.id == "__name__":
            yield source.replace(node, '"workflow"')
    for node in find_classes(tree):
        if node.bases:
            start, end = source.span(node.bases[0])[0], source.span(node.bases[-1])[1]
            rest = source.data[end:].lstrip()
            if rest.startswith(b","):
                end = len(source.data) - len(rest) + 1
            yield _Edit(start, end, "", statement=False)


def _typing_names(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "typing"
        for alias in node.names
    }


def _is_typing(value: ast.expr, names: set[str]) -> bool:
    """Whether `value` is a type such as ``Literal["a"]`` or ``typing.Dict[str, int]``."""
    root = value.value if isinstance(value, ast.Subscript) else value
    if isinstance(root, ast.Attribute) and isinstance(root.value, ast.Name):
        return root.value.id == "typing"
    return isinstance(root, ast.Name) and root.id in names


def _import_edits(source: _Source, node: ast.Import | ast.ImportFrom) -> Iterator[_Edit]:
    if isinstance(node, ast.ImportFrom) and node.module == "typing":
        yield source.replace(node, "pass")
    elif not is_standard_import(node):
        bound = [text for alias in node.names if (text := _stand_in(node, alias))]
        yield source.replace(node, "; ".join(bound) or "pass")


def _stand_in(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The assignment that gives an imported AFlow name its meaning, or an empty string."""
    name = alias.asname or alias.name
    path = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    origin = path.split(".")[-1]
    last = alias.name.split(".")[-1]
    if "." in name or name == "*":
        return ""
    if last in ("operator", "operators"):
        return "" if name == "operator" else f"{name} = operator"
    if last in ("prompt", "prompt_custom"):
        return "" if name == "prompt_custom" else f"{name} = prompt_custom"
    if origin in ("operator", "operators"):
        return f"{name} = operator.{alias.name}"
    if origin in ("prompt", "prompt_custom"):
        return f"{name} = prompt_custom.{alias.name}"
    return ""


def _deleted(source: _Source, target: ast.expr) -> str:
    if isinstance(target, ast.Subscript):
        return f"{source.text(target.value)}.pop({source.text(target.slice)})"
    return f"{source.text(target)} = None"


def _call_edits(source: _Source, node: ast.Call) -> Iterator[_Edit]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    name = node.func.id if isinstance(node.func, ast.Name) else name
    if name == "gather" and any(k.arg == "return_exceptions" for k in node.keywords):
        yield source.replace(node.func, "_gather")


def _asyncio_edits(source: _Source, node: ast.Attribute) -> Iterator[_Edit]:
    if node.attr in _RENAMED:
        yield source.replace(node, _RENAMED[node.attr])
    elif node.attr == "TimeoutError":
        yield source.replace(node, "TimeoutError")
