"""Generator functions and `async with`, in terms of what the interpreter has.

A generator function that surely ends collects its values; one that receives values, or may go on
for ever, stays what it is: not taken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import cast

from aflow_grpo.workflow.rewrite_errors import expression, parsed
from aflow_grpo.workflow.rewrite_names import name_node

__all__ = ["collecting", "entered_and_left", "is_finite_generator"]


def entered_and_left(node: ast.AsyncWith, first: int) -> list[ast.stmt]:
    """`async with` as calls of its two methods around the body; errors go through `__aexit__`.

    Args:
        node: The statement, its parts rewritten already.
        first: Number by which the names of its managers begin.
    """
    body = node.body
    for number, item in reversed(list(enumerate(node.items, first))):
        manager, error = f"_manager{number}", f"_error{number}"
        text = (
            f"{manager} = None\n"
            f"_ = await {manager}.__aenter__()\n"
            "try:\n    pass\n"
            f"except Exception as {error}:\n"
            f"    if not await {manager}.__aexit__(type({error}), {error}, None):\n"
            "        raise\n"
            f"else:\n    await {manager}.__aexit__(None, None, None)\n"
        )
        create, enter, block = parsed(text)
        assert isinstance(create, ast.Assign) and isinstance(enter, ast.Assign)
        assert isinstance(block, ast.Try)
        create.value = item.context_expr
        if item.optional_vars is not None:
            enter.targets = [item.optional_vars]
        block.body = body
        body = [create, enter, block]
        for statement in body:
            ast.copy_location(statement, node)
    return body


def is_finite_generator(node: ast.FunctionDef) -> bool:
    """Whether the function yields, never uses what `yield` returns, and ends in any case."""
    inner = list(_own_nodes(node))
    statements = [n.value for n in inner if isinstance(n, ast.Expr)]
    yields = [n for n in inner if isinstance(n, (ast.Yield, ast.YieldFrom))]
    endless = any(isinstance(n, ast.While) and isinstance(n.test, ast.Constant) for n in inner)
    return bool(yields) and not endless and all(n in statements for n in yields)


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions and lambdas nested in it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(node))


def collecting(node: ast.FunctionDef) -> None:
    """Turns a generator function into one that collects its values and returns an iterator."""
    rewriter = _Yields()
    body = [cast(ast.stmt, rewriter.visit(statement)) for statement in node.body]
    node.body = [*parsed("_yielded = []"), *body, *parsed("return iter(_yielded)")]


class _Yields(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        value = node.value
        if isinstance(value, (ast.Yield, ast.YieldFrom)):
            name = "append" if isinstance(value, ast.Yield) else "extend"
            function = ast.Attribute(name_node("_yielded"), name, ast.Load())
            node.value = ast.Call(function, [value.value or ast.Constant(None)], [])
        return node

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        node.value = expression("iter(_yielded)")
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return node
