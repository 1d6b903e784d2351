"""What a workflow does with operators' results: dictionaries with the contract's keys.

A value is followed only where it is surely a result (`uses.Names.results`), so a name that is also
bound to something else is left to the run. So is a value that the workflow itself has asked about
(`guards`).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.calls import argument_pairs
from aflow_grpo.workflow.guards import is_guarded
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.uses import Names, OperatorUse

__all__ = ["check_results"]

_METHODS = "get keys values items pop popitem copy setdefault update clear fromkeys"
_DICT_METHODS = frozenset(_METHODS.split())


def check_results(
    workflow: WorkflowClass, names: Names, uses: Sequence[OperatorUse]
) -> Iterator[Finding]:
    """Findings for wrong keys, attributes and whole results where a text is meant."""
    for node in workflow.every(ast.Subscript):
        if isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Constant):
            yield from _check_key(node, names, workflow)
    for attribute in workflow.every(ast.Attribute):
        if attribute.attr not in _DICT_METHODS and not attribute.attr.startswith("__"):
            specs = names.results(attribute.value)
            if specs and not is_guarded(attribute.value, workflow):
                message = f"`.{attribute.attr}` of what {_of(specs)} returns, a dictionary with"
                message += f" {_keys(specs)}"
                yield found(
                    "result-attribute", message, attribute, _key_hint(attribute.attr, specs)
                )
    for operation in workflow.every(ast.BinOp):
        if isinstance(operation.op, ast.Add):
            for side, other in (
                (operation.left, operation.right),
                (operation.right, operation.left),
            ):
                specs = names.results(side)
                if specs and not names.results(other) and not is_guarded(side, workflow):
                    yield _whole(specs, side, "added to a text")
    for use in uses:
        for parameter, value in argument_pairs(use):
            if parameter.type != "str" or parameter.as_text:
                continue
            specs = names.results(value)
            if specs and not is_guarded(value, workflow):
                where = f"given as `{parameter.name}` of `{use.spec.attribute}`"
                yield _whole(specs, value, where)


def _check_key(node: ast.Subscript, names: Names, workflow: WorkflowClass) -> Iterator[Finding]:
    specs = names.results(node.value)
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    if not specs or any(key in {k.name for k in spec.returns} for spec in specs):
        return
    if isinstance(key, str) and _assigned(node, key, workflow):
        return
    if is_guarded(node.value, workflow):
        return
    message = f"key {key!r:.40} is not in what {_of(specs)} returns: {_keys(specs)}"
    yield found("unknown-key", message, node, _key_hint(str(key), specs))


def _assigned(node: ast.Subscript, key: str, workflow: WorkflowClass) -> bool:
    """Whether the workflow itself puts this key into a result of that name."""
    if not isinstance(node.value, ast.Name):
        return False
    return any(
        isinstance(other.ctx, ast.Store)
        and isinstance(other.value, ast.Name)
        and other.value.id == node.value.id
        for other in workflow.every(ast.Subscript)
    ) or any(
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("update", "setdefault")
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == node.value.id
        for call in workflow.every(ast.Call)
    )


def _whole(specs: Sequence[OperatorSpec], at: ast.expr, where: str) -> Finding:
    message = f"the whole result of {_of(specs)} is {where}; it is a dictionary with {_keys(specs)}"
    return found("result-as-text", message, at)


def _of(specs: Sequence[OperatorSpec]) -> str:
    return " or ".join(sorted({f"`{spec.attribute}`" for spec in specs}))


def _keys(specs: Sequence[OperatorSpec]) -> str:
    return ", ".join(sorted({key.name for spec in specs for key in spec.returns}))


def _key_hint(written: str, specs: Sequence[OperatorSpec]) -> str:
    keys = sorted({key.name for spec in specs for key in spec.main_returns})
    near = difflib.get_close_matches(written, keys, n=1) or keys[:1]
    return f'Read `["{near[0]}"]`.'
