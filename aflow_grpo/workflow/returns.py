"""Does `__call__` always end with `return answer, cost`?

A path analysis over statements: control must not fall off the end, and every `return` must give a
pair. A name bound to a pair and the result of another function are accepted; what they really hold
is seen when the workflow runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.anatomy import Function, WorkflowClass, own_nodes, self_attribute

__all__ = ["check_returns"]

_EXPECTED = 'expected `return answer, self.llm.get_usage_summary()["total_cost"]`'

_NEVER_PAIR_FUNCTIONS = frozenset(
    {"str", "int", "float", "bool", "len", "list", "dict", "set", "sum", "repr", "round", "abs"}
)
_NEVER_PAIR_METHODS = frozenset(
    {"get", "strip", "lower", "upper", "title", "join", "format", "replace", "split"}
)


def check_returns(workflow: WorkflowClass) -> Iterator[Finding]:
    """Findings for returns that are no pair, and for paths without a return."""
    call = workflow.call
    operators = set(workflow.operators)
    returns = [node for node in own_nodes(call) if isinstance(node, ast.Return)]
    for node in returns:
        given = _not_a_pair(node.value, call, operators)
        if given:
            yield Finding(
                FaultKind.BAD_RETURN, f"`__call__` returns {given}; {_EXPECTED}", node.lineno
            )
    if not returns:
        yield Finding(FaultKind.BAD_RETURN, f"`__call__` never returns; {_EXPECTED}", call.lineno)
    elif _falls_through(call.body):
        line = call.body[-1].lineno
        yield Finding(
            FaultKind.BAD_RETURN, f"`__call__` can end without a return; {_EXPECTED}", line
        )


def _not_a_pair(value: ast.expr | None, call: Function, operators: set[str]) -> str:
    """What is wrong with a returned expression, or an empty string."""
    match value:
        case None:
            return "nothing"
        case ast.Tuple(elts=elements):
            starred = any(isinstance(element, ast.Starred) for element in elements)
            return "" if len(elements) == 2 or starred else f"{len(elements)} values"
        case ast.IfExp(body=body, orelse=orelse):
            return _not_a_pair(body, call, operators) or _not_a_pair(orelse, call, operators)
        case ast.NamedExpr(value=inner):
            return _not_a_pair(inner, call, operators)
        case ast.Name(id=name):
            return "" if _may_be_pair(name, call, operators) else f"`{name}` alone, not a pair"
        case ast.Await(value=inner):
            return _not_a_pair(inner, call, operators)
        case ast.Call(func=function):
            return _result_of(function, operators)
        case ast.Attribute():
            return ""
        case _:
            return f"`{ast.unparse(value):.40}` alone, not a pair"


def _result_of(function: ast.expr, operators: set[str]) -> str:
    """What is wrong with returning a call's result; empty when it may be a pair."""
    on_self = self_attribute(function)
    name = function.id if isinstance(function, ast.Name) else None
    method = function.attr if isinstance(function, ast.Attribute) and on_self is None else None
    never = on_self in operators or name in _NEVER_PAIR_FUNCTIONS or method in _NEVER_PAIR_METHODS
    return f"the result of `{ast.unparse(function):.40}` alone, not a pair" if never else ""


def _may_be_pair(name: str, call: Function, operators: set[str]) -> bool:
    """Whether some binding of `name` in `__call__` can hold a pair."""
    bindings = [
        node.value
        for node in own_nodes(call)
        if isinstance(node, (ast.Assign, ast.NamedExpr, ast.AnnAssign))
        and node.value is not None
        and any(isinstance(t, ast.Name) and t.id == name for t in _targets(node))
    ]
    for value in bindings:
        if isinstance(value, (ast.Tuple, ast.IfExp, ast.Call, ast.Await)):
            if not _not_a_pair(value, call, operators):
                return True
        elif isinstance(value, ast.Name) and value.id != name:
            return True
    return False


def _targets(node: ast.Assign | ast.NamedExpr | ast.AnnAssign) -> Sequence[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _falls_through(body: Sequence[ast.stmt]) -> bool:
    """Whether control can run past the last statement of `body`."""
    return not any(_ends(statement) for statement in body)


def _ends(statement: ast.stmt) -> bool:
    """Whether control never passes `statement`."""
    match statement:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=body, orelse=orelse):
            return bool(orelse) and not _falls_through(body) and not _falls_through(orelse)
        case ast.While(test=ast.Constant(value=test)) if test:
            return not _breaks(statement)
        case ast.Try():
            return _try_ends(statement)
        case ast.Match(cases=cases):
            last = cases[-1]
            irrefutable = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
            covered = irrefutable and last.guard is None
            return covered and not any(_falls_through(case.body) for case in cases)
        case _:
            return False


def _try_ends(statement: ast.Try) -> bool:
    if statement.finalbody and not _falls_through(statement.finalbody):
        return True
    normal = [*statement.body, *statement.orelse]
    handlers = [handler.body for handler in statement.handlers]
    return not _falls_through(normal) and not any(_falls_through(body) for body in handlers)


def _breaks(loop: ast.While) -> bool:
    """Whether a `break` belongs to this loop and not to one inside it."""
    pending: list[ast.AST] = list(loop.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Break):
            return True
        if isinstance(node, (ast.For, ast.While)):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return False
