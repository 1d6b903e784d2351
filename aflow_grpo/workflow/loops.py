"""Loops that surely never end, and operator calls that surely exceed the budget.

Certain cases only are rejected: a condition that nothing in the loop can change and no way out of
the body; calls that stand on every path, times the constant length of the loops around them. What
merely has no counter is a warning; the run has its own budgets.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.flow import breaks
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.uses import OperatorUse

__all__ = ["check_loops"]

_MANY = 10**6
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def check_loops(
    workflow: WorkflowClass, uses: Sequence[OperatorUse], call_budget: int
) -> Iterator[Finding]:
    """Findings for endless loops, unbounded ones, and too many calls.

    Args:
        workflow: The class.
        uses: Its operator calls.
        call_budget: Most operator calls of one run.
    """
    for loop in workflow.every(ast.While):
        if _never_ends(loop, workflow):
            message = f"`while {ast.unparse(loop.test):.40}` never ends: nothing in it can end it"
            yield found("endless-loop", message, loop)
        elif _unbounded(loop, uses, workflow):
            message = f"`while {ast.unparse(loop.test):.40}` calls operators and counts nothing"
            yield found("loop-without-bound", message, loop)
    calls = _Counter(uses, workflow).sure_calls()
    if calls > call_budget:
        counted = f"{calls}" if calls < _MANY else f"{_MANY} or more"
        message = f"{counted} operator calls for sure; at most {call_budget} are allowed"
        yield found("too-many-calls", message, workflow.call)


def _own(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes of a body, without those of functions nested in it."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _NESTED):
            pending.extend(ast.iter_child_nodes(node))


def _never_ends(loop: ast.While, workflow: WorkflowClass) -> bool:
    if breaks(loop) or any(isinstance(n, (ast.Return, ast.Raise)) for n in _own(loop.body)):
        return False
    if any(isinstance(parent, ast.Try) for parent in _around(loop, workflow)):
        return False  # left by an exception that is caught
    parts = list(ast.walk(loop.test))
    plain = (
        ast.Name, ast.Constant, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp,
        ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop,
    )  # fmt: skip
    if not all(isinstance(part, plain) for part in parts):
        return False
    if isinstance(loop.test, ast.Constant) and not loop.test.value:
        return False  # never entered
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    if isinstance(loop.test, ast.Name):
        return False  # a list that is emptied, an object that says when
    compared = [p for p in parts if isinstance(p, ast.Compare)]
    if any(isinstance(op, (ast.In, ast.NotIn, ast.Is)) for c in compared for op in c.ops):
        return False
    if any(isinstance(part, ast.UnaryOp) and isinstance(part.operand, ast.Name) for part in parts):
        flags = {p.operand.id for p in parts if isinstance(p, ast.UnaryOp)
                 and isinstance(p.operand, ast.Name)}  # fmt: skip
        if any(_mutated(flag, loop, workflow) for flag in flags):
            return False
    changed = {
        node.id
        for node in _own(loop.body)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return not names & (changed | workflow.shared_names)


def _mutated(name: str, loop: ast.While, workflow: WorkflowClass) -> bool:
    """Whether the loop does anything with a name but compare it: it may be a container."""
    return any(
        isinstance(node, ast.Name) and node.id == name and node not in ast.walk(loop.test)
        for statement in loop.body
        for node in ast.walk(statement)
    )


def _around(node: ast.AST, workflow: WorkflowClass) -> Iterator[ast.AST]:
    parent = workflow.parents.get(node)
    while parent is not None and not isinstance(parent, _NESTED):
        yield parent
        parent = workflow.parents.get(parent)


def _unbounded(loop: ast.While, uses: Sequence[OperatorUse], workflow: WorkflowClass) -> bool:
    """Whether a loop calls operators, and neither counts nor empties what its test looks at."""
    if not any(loop in _around(use.call, workflow) for use in uses):
        return False
    if isinstance(loop.test, ast.Constant) and not loop.test.value:
        return False
    tested = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
    if any(isinstance(node, ast.Call) for node in ast.walk(loop.test)):
        return False
    for node in _own(loop.body):
        if isinstance(node, ast.AugAssign):
            return False
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
            return False
        used = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(used, ast.Name) and used.id in tested:
            return False
    return True


class _Counter:
    """Counts the operator calls that every run of `__call__` makes.

    Args:
        uses: The operator calls.
        workflow: The class.
    """

    def __init__(self, uses: Sequence[OperatorUse], workflow: WorkflowClass) -> None:
        self._calls = {id(use.call) for use in uses}
        self._workflow = workflow

    def sure_calls(self) -> int:
        """Calls on every path before the first statement that may leave."""
        return self._block(self._workflow.call.body) if self._calls else 0

    def _block(self, body: Sequence[ast.stmt]) -> int:
        total = 0
        for statement in body:
            total += self._statement(statement)
            leaves = any(
                isinstance(node, (ast.Return, ast.Break, ast.Continue))
                for node in ast.walk(statement)
            )
            if leaves:
                break
        return min(total, _MANY)

    def _statement(self, statement: ast.stmt) -> int:
        match statement:
            case ast.If(test=test):
                return self._expression(test)
            case ast.For(iter=iterated, body=body):
                leaves = any(
                    isinstance(n, (ast.Return, ast.Break, ast.Continue)) for n in _own(body)
                )
                times = 1 if leaves else _length(iterated)
                once = min(times, 1) if leaves else times
                return self._expression(iterated) + once * self._block(body)
            case ast.Return() | ast.Expr() | ast.Assign() | ast.AugAssign() | ast.AnnAssign():
                return self._expression(statement)
            case _:
                return 0

    def _expression(self, node: ast.AST) -> int:
        if isinstance(node, (*_NESTED, ast.IfExp, ast.BoolOp)):
            return 0
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            times = 1
            for generator in node.generators:
                times *= 0 if generator.ifs else _length(generator.iter)
            return times * self._expression(node.elt)
        below = sum(self._expression(child) for child in ast.iter_child_nodes(node))
        return below + (id(node) in self._calls and self._awaited(node))

    def _awaited(self, node: ast.AST) -> bool:
        """Whether a call is surely made: awaited, or handed to `gather`, directly or in a list."""
        parent = self._workflow.parents[node]
        while isinstance(parent, (ast.Starred, ast.ListComp, ast.GeneratorExp, ast.List)):
            parent = self._workflow.parents[parent]
        if isinstance(parent, ast.Call):
            name = parent.func.attr if isinstance(parent.func, ast.Attribute) else ""
            return name == "gather"
        return isinstance(parent, ast.Await)


def _length(iterated: ast.expr) -> int:
    """How often a loop over this surely runs; 0 when that is not plain."""
    match iterated:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return 0 if any(isinstance(e, ast.Starred) for e in elements) else len(elements)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(n))]):
            return max(0, n)
        case ast.Call(
            func=ast.Name(id="range"),
            args=[ast.Constant(value=int(a)), ast.Constant(value=int(b))],
        ):
            return max(0, b - a)
        case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *_]):
            return _length(inner)
        case _:
            return 0
