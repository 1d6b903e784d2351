"""Coroutines that are used as if they were results, and `await` on what is none.

A coroutine is what a call of an operator, of an async function of the module or of `gather` gives.
Passing one on (`gather`, a list, another function) is not judged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import Function, WorkflowClass, self_attribute
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.uses import OperatorUse

__all__ = ["check_awaits"]

_NAMES = "str int float bool len list dict set tuple sum repr round abs min max sorted any all"
_VALUE_FUNCTIONS = frozenset(_NAMES.split())


def check_awaits(workflow: WorkflowClass, uses: Sequence[OperatorUse]) -> Iterator[Finding]:
    """Findings for operator and other async calls that are not awaited where they must be."""
    operators = {use.call for use in uses}
    judge = _Judge(workflow)
    for call in workflow.every(ast.Call):
        name = judge.coroutine(call) if call not in operators else ast.unparse(call.func)
        if name:
            how = judge.misused(call)
            if how:
                yield found("missing-await", f"`{name:.60}(...)` is not awaited: {how}", call)
    for node in workflow.every(ast.Await):
        what = judge.no_coroutine(node.value)
        if what:
            yield found("awaits-no-coroutine", f"`await` on {what}, which is no coroutine", node)


class _Judge:
    """Knows the module's functions.

    Args:
        workflow: The class.
    """

    def __init__(self, workflow: WorkflowClass) -> None:
        self._workflow = workflow
        plain, async_ = workflow.every(ast.FunctionDef), workflow.every(ast.AsyncFunctionDef)
        functions: list[Function] = [*plain, *async_]
        self._named: dict[str, list[Function]] = {}
        for function in functions:
            if not isinstance(workflow.parents[function], ast.ClassDef):
                self._named.setdefault(function.name, []).append(function)
        stored = {n.id for n in workflow.every(ast.Name) if isinstance(n.ctx, ast.Store)}
        self._shadowed = stored | {argument.arg for argument in workflow.every(ast.arg)}

    def _function(self, called: ast.expr) -> Function | None:
        """The one undecorated function of the module that a called expression surely is."""
        found_one: Function | None = None
        attribute = self_attribute(called)
        if attribute is not None and attribute not in self._workflow.assigned_attributes:
            found_one = self._workflow.methods.get(attribute)
        elif isinstance(called, ast.Name) and called.id not in self._shadowed:
            candidates = self._named.get(called.id, [])
            found_one = candidates[0] if len(candidates) == 1 else None
        return None if found_one is None or found_one.decorator_list else found_one

    def coroutine(self, call: ast.Call) -> str:
        """The name of the async function that a call calls, or an empty string."""
        function = self._function(call.func)
        if isinstance(function, ast.AsyncFunctionDef):
            return ast.unparse(call.func)
        match call.func:
            case ast.Attribute(
                value=ast.Name(id="asyncio"), attr=("gather" | "sleep" | "wait_for") as name
            ):
                return f"asyncio.{name}"
        return ""

    def misused(self, call: ast.Call) -> str:
        """How the coroutine that a call gives is used as a value, or an empty string."""
        parent = self._workflow.parents[call]
        match parent:
            case ast.Expr():
                return "its result is dropped"
            case ast.Subscript(value=value) if value is call:
                return 'write `(await ...)["key"]`, in brackets'
            case ast.Attribute():
                return "write `(await ...)` in brackets"
            case ast.FormattedValue() | ast.BinOp() | ast.Compare() | ast.UnaryOp():
                return "its result is used as a value"
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if test is call:
                return "its result is used as a condition"
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated) if iterated is call:
                return "its result is iterated over"
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
                return self._bound(parent, call)
        if self._passed_to_operator(call):
            return "its result is passed to another operator"
        return "a coroutine would be returned" if self._answer(call) else ""

    def _passed_to_operator(self, call: ast.Call) -> bool:
        parent: ast.AST | None = self._workflow.parents[call]
        if isinstance(parent, ast.keyword):
            parent = self._workflow.parents[parent]
        if not isinstance(parent, ast.Call):
            return False
        if isinstance(parent.func, ast.Name):
            return parent.func.id in _VALUE_FUNCTIONS - {"list"} - self._shadowed
        return self_attribute(parent.func) in self._workflow.operators

    def _answer(self, call: ast.Call) -> bool:
        parent = self._workflow.parents[call]
        if self._workflow.owners[call] is not self._workflow.call:
            return False
        if isinstance(parent, ast.Tuple):
            parent = self._workflow.parents[parent]
        return isinstance(parent, ast.Return)

    def _bound(self, parent: ast.Assign | ast.AnnAssign | ast.NamedExpr, call: ast.Call) -> str:
        """Why a coroutine bound to a name is surely never awaited, or an empty string."""
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        if any(isinstance(target, (ast.Tuple, ast.List)) for target in targets):
            return "a coroutine cannot be unpacked"
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        function = self._workflow.owners[call]
        if len(names) != len(targets) or function is None:
            return ""
        reads = [n for name in names for n in self._workflow.reads(name)]
        if not reads:
            return "its result is never used"
        values = (ast.Subscript, ast.Attribute, ast.FormattedValue, ast.BinOp, ast.Compare)
        as_values = all(isinstance(self._workflow.parents[node], values) for node in reads)
        if as_values and not self._rebound(names, parent):
            return f"`{reads[0].id}` is read as a value"
        return ""

    def _rebound(self, names: set[str], parent: ast.AST) -> bool:
        """Whether another statement binds one of the names."""
        return any(
            isinstance(node.ctx, ast.Store)
            and node.id in names
            and self._workflow.parents[node] is not parent
            for node in self._workflow.every(ast.Name)
        )

    def no_coroutine(self, value: ast.expr) -> str:
        """What an awaited expression is when it is surely no coroutine, or an empty string."""
        match value:
            case ast.Constant() | ast.JoinedStr() | ast.List() | ast.Dict() | ast.ListComp():
                return "a value"
            case ast.Tuple() | ast.DictComp() | ast.Compare() | ast.BinOp():
                return "a value"
            case ast.Subscript(slice=ast.Constant(value=str()), value=ast.Call(func=function)):
                on_operator = self_attribute(function) in self._workflow.operators
                return "an item" if on_operator else ""
            case ast.Call(func=ast.Name(id=name)) if name in _VALUE_FUNCTIONS - self._shadowed:
                if name not in self._named:
                    return f"the result of `{name}`"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="__class__")):
                return ""
            case ast.Call(func=called):
                function_node = self._function(called)
                if isinstance(function_node, ast.FunctionDef) and self._plain(function_node):
                    return f"the result of the plain function `{function_node.name}`"
        return ""

    def _plain(self, function: ast.FunctionDef) -> bool:
        """Whether a function surely returns no coroutine: it returns text, a number or nothing."""
        returned = [
            node.value
            for node in self._workflow.every(ast.Return)
            if self._workflow.owners[node] is function
        ]
        values = (ast.Constant, ast.JoinedStr, ast.Compare, ast.List, ast.Dict, ast.Tuple)
        return all(
            value is None
            or isinstance(value, values)
            or (
                isinstance(value, ast.Call)
                and isinstance(value.func, ast.Attribute)
                and value.func.attr in ("strip", "lower", "upper", "group", "join", "replace")
            )
            or (
                isinstance(value, ast.Call)
                and isinstance(value.func, ast.Name)
                and value.func.id in _VALUE_FUNCTIONS
            )
            for value in returned
        )
