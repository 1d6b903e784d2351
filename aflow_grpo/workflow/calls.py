"""Operator calls against the contract: allowed here, rightly called, awaited, read by right keys.

Which calls are operator calls is `uses`' question. Types are checked where a literal shows them.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Collection, Iterator

from aflow_grpo.records import Domain, FaultKind, Finding, OperatorSpec
from aflow_grpo.workflow.anatomy import WorkflowClass, self_attribute
from aflow_grpo.workflow.uses import Names, OperatorUse, operator_uses

__all__ = ["check_calls", "describe"]


def describe(spec: OperatorSpec) -> str:
    """An operator's signature in one line, e.g. ``custom(input, instruction='')``."""
    parts = [p.name if p.required else f"{p.name}={p.default!r}" for p in spec.parameters]
    return f"{spec.attribute}({', '.join(parts)})"


def check_calls(
    workflow: WorkflowClass, domain: Domain, enabled: Collection[str] | None
) -> Iterator[Finding]:
    """Findings about operator calls: domain, arguments, `await`, keys of the result."""
    names = Names(workflow)
    for use in operator_uses(workflow, names):
        yield from _check_allowed(use, domain, enabled)
        yield from _check_arguments(use)
        yield from _check_awaited(use, workflow)
    yield from _check_keys(workflow, names)


def _check_allowed(
    use: OperatorUse, domain: Domain, enabled: Collection[str] | None
) -> Iterator[Finding]:
    spec = use.spec
    if domain not in spec.domains:
        yield Finding(
            FaultKind.FORBIDDEN_OPERATOR,
            f"`{spec.attribute}` may not be used on {domain} problems;"
            f" it is for {', '.join(spec.domains)}",
            use.call.lineno,
        )
    elif enabled is not None and spec.attribute not in enabled:
        yield Finding(
            FaultKind.FORBIDDEN_OPERATOR,
            f"`{spec.attribute}` is not enabled; enabled: {', '.join(sorted(enabled))}",
            use.call.lineno,
        )


def _check_arguments(use: OperatorUse) -> Iterator[Finding]:
    """Arguments against the contract; with `*x` or `**x` only what is certain is checked."""
    call, spec = use.call, use.spec
    names = [parameter.name for parameter in spec.parameters]
    expected = f"expected {describe(spec)}"
    starred = any(isinstance(arg, ast.Starred) for arg in call.args)
    if len(call.args) > len(names) and not starred:
        yield _bad(use, f"{len(call.args)} positional arguments; {expected}")
    given = [] if starred else names[: len(call.args)]
    keywords = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    for name, count in Counter([*given, *keywords]).items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            yield _bad(use, f"unknown argument `{name}`{hint}; {expected}")
        elif count > 1:
            yield _bad(use, f"argument `{name}` given {count} times; {expected}")
    complete = not starred and len(keywords) == len(call.keywords)
    missing = [p.name for p in spec.parameters if p.required and p.name not in {*given, *keywords}]
    if complete and missing:
        yield _bad(
            use, f"missing argument {', '.join(f'`{name}`' for name in missing)}; {expected}"
        )
    yield from _check_literals(use)


def _check_literals(use: OperatorUse) -> Iterator[Finding]:
    """Arguments written as literals of a type that the parameter can never take."""
    by_name = {parameter.name: parameter for parameter in use.spec.parameters}
    pairs = [(p, arg) for p, arg in zip(use.spec.parameters, use.call.args, strict=False)]
    pairs += [(by_name[k.arg], k.value) for k in use.call.keywords if k.arg in by_name]
    for parameter, value in pairs:
        if isinstance(value, ast.Starred):
            return
        text = isinstance(value, ast.JoinedStr) or (
            isinstance(value, ast.Constant) and isinstance(value.value, str)
        )
        collection = isinstance(value, (ast.List, ast.ListComp, ast.Dict, ast.Set, ast.Tuple))
        wrong = (parameter.type == "list[str]" and text) or (parameter.type == "str" and collection)
        if wrong:
            given = "text" if text else f"a {type(value).__name__.lower()}"
            yield _bad(use, f"`{parameter.name}` is {given}; expected {parameter.type}")


def _bad(use: OperatorUse, message: str) -> Finding:
    return Finding(FaultKind.BAD_ARGUMENTS, f"{use.spec.attribute}: {message}", use.call.lineno)


def _check_awaited(use: OperatorUse, workflow: WorkflowClass) -> Iterator[Finding]:
    parent = workflow.parents[use.call]
    how = ""
    if isinstance(parent, ast.Expr):
        how = "its result is dropped"
    elif isinstance(parent, (ast.Subscript, ast.Attribute)):
        how = f'write `(await self.{use.spec.attribute}(...))["key"]`'
    elif isinstance(parent, (ast.FormattedValue, ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp)):
        how = "its result is used as a value"
    elif isinstance(parent, (ast.If, ast.While)) and parent.test is use.call:
        how = "its result is used as a condition"
    elif isinstance(parent, ast.For) and parent.iter is use.call:
        how = "its result is iterated over"
    elif _inside_operator_call(use, workflow):
        how = "its result is passed to another operator"
    elif _inside_answer(use, workflow):
        how = "a coroutine would be returned"
    elif isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
        how = _never_awaited(parent, use, workflow)
    if how:
        yield Finding(
            FaultKind.NOT_AWAITED,
            f"`{use.spec.attribute}(...)` is not awaited: {how}",
            use.call.lineno,
        )


def _inside_operator_call(use: OperatorUse, workflow: WorkflowClass) -> bool:
    parent: ast.AST | None = workflow.parents[use.call]
    if isinstance(parent, ast.keyword):
        parent = workflow.parents[parent]
    return isinstance(parent, ast.Call) and self_attribute(parent.func) in workflow.operators


def _inside_answer(use: OperatorUse, workflow: WorkflowClass) -> bool:
    parent = workflow.parents[use.call]
    if use.function is not workflow.call:
        return False
    if isinstance(parent, ast.Tuple):
        parent = workflow.parents[parent]
    return isinstance(parent, ast.Return)


def _never_awaited(
    parent: ast.Assign | ast.AnnAssign | ast.NamedExpr, use: OperatorUse, workflow: WorkflowClass
) -> str:
    """Why a coroutine bound to a name is surely never awaited, or an empty string."""
    targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    if len(names) != len(targets) or use.function is None:
        return ""
    reads = [
        node
        for node in ast.walk(use.function)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    ]
    if not reads:
        return "its result is never used"
    if all(isinstance(workflow.parents[node], (ast.Subscript, ast.Attribute)) for node in reads):
        return f"`{reads[0].id}` is read as a value"
    return ""


def _check_keys(workflow: WorkflowClass, names: Names) -> Iterator[Finding]:
    """Constant keys read from an operator's result that the contract does not return."""
    for node in workflow.nodes:
        if not isinstance(node, ast.Subscript) or not isinstance(node.ctx, ast.Load):
            continue
        if not isinstance(node.slice, ast.Constant):
            continue
        specs = names.results(node.value)
        keys = {key.name for spec in specs for key in spec.returns}
        if specs and node.slice.value not in keys:
            attributes = ", ".join(sorted({spec.attribute for spec in specs}))
            yield Finding(
                FaultKind.UNDEFINED_NAME,
                f"key {node.slice.value!r:.40} is not in what `{attributes}` returns:"
                f" {', '.join(sorted(keys))}",
                node.lineno,
            )
