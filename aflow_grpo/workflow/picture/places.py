"""Which places of the code matter to a picture: operator calls, and helpers that make some.

Everything else is plain computation, and most of that is only plumbing (`strip`, `append`, a
subscript), which a picture leaves out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import cast

from aflow_grpo.workflow.anatomy import Function, WorkflowClass, created_operator, self_attribute
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.uses import Names

__all__ = ["GATHERERS", "Places"]

GATHERERS = frozenset({"gather", "wait", "as_completed"})
"""asyncio's functions that run what they are given at once."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LEAVES = (ast.Return, ast.Break, ast.Continue, ast.Raise)
_PLUMBING = frozenset(
    {
        "add", "append", "as_completed", "bool", "capitalize", "casefold", "copy",
        "create_task", "debug", "decode", "dict", "encode", "endswith", "ensure_future",
        "enumerate", "error", "exception", "extend", "float", "format", "gather", "get",
        "get_usage_summary", "getattr", "hasattr", "info", "insert", "int", "isinstance",
        "items", "join", "keys", "len", "list", "lower", "lstrip", "pop", "print",
        "range", "replace", "repr", "result", "reversed", "rstrip", "shield", "sleep",
        "split", "splitlines", "startswith", "str", "strip", "title", "tuple", "update",
        "upper", "values", "wait", "wait_for", "warning", "zip",
    }
)  # fmt: skip
"""Functions and methods that only carry values along."""


class Places:
    """The places of one workflow that matter.

    Args:
        workflow: The class.
        names: What its local names are bound to.
    """

    def __init__(self, workflow: WorkflowClass, names: Names) -> None:
        self._workflow = workflow
        self._names = names
        methods = {id(function) for function in workflow.inherited_methods.values()}
        functions: list[Function] = [
            *workflow.every(ast.FunctionDef),
            *workflow.every(ast.AsyncFunctionDef),
        ]
        self._functions = {f.name: f for f in functions if id(f) not in methods}
        self._calling: set[int] = set()
        """Functions that call operators, themselves or through others."""
        self._marked: set[int] = set()
        self._mark()

    def operator(self, call: ast.Call) -> OperatorSpec | None:
        """The operator that a call surely is."""
        return self._names.operator(call.func) or created_operator(
            call.func, self._workflow.offered
        )

    def helper(self, call: ast.Call) -> Function | None:
        """The workflow's own function that is called, if it calls operators."""
        function = self._defined(call)
        return function if function is not None and id(function) in self._calling else None

    def missing(self, call: ast.Call) -> str | None:
        """`x` of an awaited `self.x(...)` that there is not."""
        name = self_attribute(call.func)
        awaited = isinstance(self._workflow.parents.get(call), ast.Await)
        return name if name and awaited and name not in self._workflow.known_attributes else None

    def calls_in(self, top: ast.expr) -> list[tuple[ast.expr, str]]:
        """The outermost operator calls of an expression, awaited or not, with their names."""
        found: list[tuple[ast.expr, str]] = []
        pending: list[ast.AST] = [top] if self.matters(top) else []
        while pending:
            node = pending.pop()
            inner = node.value if isinstance(node, ast.Await) else node
            if isinstance(inner, ast.Call) and self._is_one(inner):
                name = str(getattr(inner.func, "attr", "") or getattr(inner.func, "id", ""))
                found.append((cast(ast.expr, node), name))
            # Before Python 3.12 the positions inside an f-string are not those of the file.
            elif not isinstance(node, ast.JoinedStr):
                pending.extend(ast.iter_child_nodes(node))
        return found

    def matters(self, node: ast.AST) -> bool:
        """Whether an operator is called somewhere in a piece of the code, or through it."""
        return id(node) in self._marked

    def decides(self, statement: ast.stmt) -> bool:
        """Whether a statement calls operators or may leave its loop or function."""
        return self.matters(statement) or any(isinstance(n, _LEAVES) for n in _own(statement))

    def computes(self, node: ast.AST) -> bool:
        """Whether a piece of the code does more with values than carry them along."""
        for part in _own(node):
            if isinstance(part, ast.Call):
                function = part.func
                name = function.attr if isinstance(function, ast.Attribute) else ""
                name = function.id if isinstance(function, ast.Name) else name
                if name not in _PLUMBING:
                    return True
            elif isinstance(part, ast.Compare) or (
                isinstance(part, ast.comprehension) and part.ifs
            ):
                return True
        return False

    def waits(self, call: ast.AST, top: ast.AST) -> bool:
        """Whether a call is awaited where it stands, within `top`."""
        parent = self._workflow.parents.get(call)
        while parent is not None and isinstance(parent, (ast.expr, ast.keyword)):
            if isinstance(parent, ast.Await):
                return True
            if parent is top:
                return False
            parent = self._workflow.parents.get(parent)
        return False

    def starts_only(self, top: ast.AST) -> bool:
        """Whether every operator call in a piece of the code is started there and awaited later."""
        calls = [node for node in _own(top) if isinstance(node, ast.Call) and self._is_one(node)]
        return bool(calls) and not any(self.waits(call, top) for call in calls)

    def _defined(self, call: ast.Call) -> Function | None:
        if isinstance(call.func, ast.Name):
            return self._functions.get(call.func.id)
        return self._workflow.inherited_methods.get(self_attribute(call.func) or "")

    def _is_one(self, call: ast.Call) -> bool:
        if self.operator(call) is not None or self.missing(call) is not None:
            return True
        function = self._defined(call)
        return function is not None and id(function) in self._calling

    def _mark(self) -> None:
        """Marks what contains an operator call; a call of a marked function is one, too."""
        calls = self._workflow.every(ast.Call)
        found = [call for call in calls if self._is_one(call)]
        while found:
            for call in found:
                self._mark_around(call)
            calls = [call for call in calls if id(call) not in self._marked]
            found = [call for call in calls if self._is_one(call)]

    def _mark_around(self, node: ast.AST) -> None:
        current: ast.AST | None = node
        while current is not None and id(current) not in self._marked:
            if isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self._calling.add(id(current))
                return
            self._marked.add(id(current))
            current = self._workflow.parents.get(current)


def _own(top: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a piece of code, without those of functions nested in it."""
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        if node is top or not isinstance(node, _SCOPES):
            pending.extend(ast.iter_child_nodes(node))
