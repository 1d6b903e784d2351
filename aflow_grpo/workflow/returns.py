"""Does `__call__` end with `return answer, cost`, and can the answer be scored?

Every `return` must give a pair. A name bound to a pair and the result of another function are
accepted; what they really hold is seen when the workflow runs. A path that ends without a return
is rejected only when no return is there at all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass, self_attribute
from aflow_grpo.workflow.flow import surely_ends
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.uses import Names

__all__ = ["check_returns"]

_EXPECTED = 'expected `return answer, self.llm.get_usage_summary()["total_cost"]`'

_NEVER_PAIR_FUNCTIONS = frozenset(
    {"str", "int", "float", "bool", "len", "list", "dict", "set", "sum", "repr", "round", "abs"}
)
_NEVER_PAIR_METHODS = frozenset(
    {"get", "strip", "lower", "upper", "title", "join", "format", "replace", "split"}
)


def check_returns(workflow: WorkflowClass, names: Names) -> Iterator[Finding]:
    """Findings for returns that are no pair, for paths without a return, for bad answers."""
    call = workflow.call
    returns = workflow.of_call(ast.Return)
    pairs = _Pairs(workflow)
    for node in returns:
        given = pairs.wrong(node.value)
        if given:
            yield found("bad-return", f"`__call__` returns {given}; {_EXPECTED}", node)
        elif isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            yield from _check_answer(node.value.elts[0], names)
    if not returns:
        message = f"`__call__` never returns; {_EXPECTED}"
        yield found("missing-return", message, call)
    elif not surely_ends(call.body):
        message = f"`__call__` can end without a return; {_EXPECTED}"
        yield found("path-without-return", message, call.body[-1])


def _check_answer(answer: ast.expr, names: Names) -> Iterator[Finding]:
    if isinstance(answer, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)):
        given = f"a {type(answer).__name__.lower().removesuffix('comp')}"
    elif names.results(answer):
        given = "an operator's whole result"
    else:
        return
    yield found("bad-answer", f"the answer is {given}; expected text or a number", answer)


class _Pairs:
    """Says which expressions of `__call__` can be no pair.

    Args:
        workflow: The class.
    """

    def __init__(self, workflow: WorkflowClass) -> None:
        self._workflow = workflow
        self._asked: set[str] = set()

    def wrong(self, value: ast.expr | None) -> str:
        """What is wrong with a returned expression, or an empty string."""
        match value:
            case None:
                return "nothing"
            case ast.Tuple(elts=elements):
                starred = any(isinstance(element, ast.Starred) for element in elements)
                return "" if len(elements) == 2 or starred else f"{len(elements)} values"
            case ast.IfExp(body=body, orelse=orelse):
                return self.wrong(body) or self.wrong(orelse)
            case ast.NamedExpr(value=inner) | ast.Await(value=inner):
                return self.wrong(inner)
            case ast.Name(id=name):
                return "" if self._may_be_pair(name) else f"`{name}` alone, not a pair"
            case ast.Call(func=function):
                return self._result_of(function)
            case ast.Attribute() | ast.BoolOp():
                return ""
            case ast.Subscript(slice=ast.Constant(value=int()) | ast.Name()):
                return ""
            case _:
                return _alone(value)

    def _result_of(self, function: ast.expr) -> str:
        """What is wrong with returning a call's result; empty when it may be a pair."""
        on_self = self_attribute(function)
        name = function.id if isinstance(function, ast.Name) else None
        on_other = isinstance(function, ast.Attribute) and on_self is None
        method = function.attr if isinstance(function, ast.Attribute) and on_other else None
        never = (
            on_self in self._workflow.operators
            or name in _NEVER_PAIR_FUNCTIONS
            or method in _NEVER_PAIR_METHODS
        )
        return f"the result of `{ast.unparse(function):.40}` alone, not a pair" if never else ""

    def _may_be_pair(self, name: str) -> bool:
        """Whether some binding of `name` in `__call__` can hold a pair."""
        if name in self._asked:
            return False
        self._asked.add(name)
        bindings: list[ast.Assign | ast.NamedExpr | ast.AnnAssign] = [
            *self._workflow.of_call(ast.Assign),
            *self._workflow.of_call(ast.NamedExpr),
            *self._workflow.of_call(ast.AnnAssign),
        ]
        values = [
            node.value
            for node in bindings
            if any(isinstance(t, ast.Name) and t.id == name for t in _targets(node))
        ]
        plausible = any(value is not None and not self.wrong(value) for value in values)
        self._asked.discard(name)
        return plausible


def _alone(value: ast.expr) -> str:
    return f"`{ast.unparse(value):.40}` alone, not a pair"


def _targets(node: ast.Assign | ast.NamedExpr | ast.AnnAssign) -> Sequence[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]
