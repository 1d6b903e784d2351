"""Is a value used where the workflow has asked what it is?

`r.strip() if isinstance(r, str) else r["response"]` reads an attribute that an operator's result
does not have, and never gets there. A test that looks at the value (`isinstance`, `hasattr`, `in`,
`.get`, `type`, a `match`) guards both of its branches and, where one of them leaves, what follows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aflow_grpo.workflow.anatomy import WorkflowClass

__all__ = ["is_guarded"]

_ASKING = frozenset({"isinstance", "hasattr", "type", "callable", "getattr", "len"})
_JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def is_guarded(value: ast.expr, workflow: WorkflowClass) -> bool:
    """Whether a name stands where a test of the workflow's has looked at what it is."""
    if not isinstance(value, ast.Name):
        return False
    node: ast.AST = value
    parent = workflow.parents.get(node)
    while parent is not None:
        if any(_asks(test, value.id) for test in _tests_before(parent, node)):
            return True
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return False
        node, parent = parent, workflow.parents.get(parent)
    return False


def _tests_before(parent: ast.AST, node: ast.AST) -> Iterator[ast.expr]:
    """The tests in `parent` that have been made when its child `node` is evaluated."""
    if isinstance(parent, (ast.If, ast.IfExp, ast.While)) and node is not parent.test:
        yield parent.test
    elif isinstance(parent, ast.BoolOp):
        yield from parent.values[: parent.values.index(node)]  # type: ignore[arg-type]
    elif isinstance(parent, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        yield from (test for generator in parent.generators for test in generator.ifs)
    elif isinstance(parent, ast.Match) and node is not parent.subject:
        yield ast.Call(ast.Name("type", ast.Load()), [parent.subject], [])
    for _, block in ast.iter_fields(parent):
        if isinstance(block, list) and node in block and isinstance(node, ast.stmt):
            earlier = block[: block.index(node)]
            yield from (s.test for s in earlier if isinstance(s, ast.If) and _leaves(s))


def _leaves(statement: ast.If) -> bool:
    """Whether a branch of it never goes on to what follows."""
    blocks: tuple[Sequence[ast.stmt], ...] = (statement.body, statement.orelse)
    return any(block and isinstance(block[-1], _JUMPS) for block in blocks)


def _asks(test: ast.expr, name: str) -> bool:
    """Whether an expression asks what the value of `name` is, or which keys it has."""
    for node in ast.walk(test):
        looked_at: Sequence[ast.expr] = ()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            looked_at = node.args[:1] if node.func.id in _ASKING else ()
        elif isinstance(node, ast.Attribute) and node.attr in ("get", "keys"):
            looked_at = (node.value,)
        elif isinstance(node, ast.Compare):
            membership = any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops)
            looked_at = node.comparators if membership else ()
        if any(isinstance(value, ast.Name) and value.id == name for value in looked_at):
            return True
    return False
