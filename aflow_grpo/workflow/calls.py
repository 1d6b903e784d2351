"""Operator calls against the contract: allowed here, rightly called, awaited, read by right keys.

An operator is recognised as `self.<attribute>(...)` and through a local alias (`op = self.custom`)
that is bound once. Other ways to reach one (a list of operators, `getattr`) are left to the run.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from aflow_grpo.records import Domain, FaultKind, Finding, OperatorSpec
from aflow_grpo.workflow.anatomy import Function, WorkflowClass, self_attribute

__all__ = ["OperatorUse", "check_calls", "describe", "operator_uses"]


@dataclass(frozen=True)
class OperatorUse:
    """One operator call as written."""

    call: ast.Call
    spec: OperatorSpec
    function: Function
    """The method or function around the call."""


def describe(spec: OperatorSpec) -> str:
    """An operator's signature in one line, e.g. ``custom(input, instruction='')``."""
    parts = [p.name if p.required else f"{p.name}={p.default!r}" for p in spec.parameters]
    return f"{spec.attribute}({', '.join(parts)})"


def operator_uses(workflow: WorkflowClass) -> list[OperatorUse]:
    """All operator calls of the class and of the module's functions, in order of the text."""
    operators = workflow.operators()
    uses = []
    for function in _functions(workflow.tree):
        aliases = _aliases(function, operators)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or _nearest(node, workflow) is not function:
                continue
            spec = operators.get(self_attribute(node.func) or "")
            if spec is None and isinstance(node.func, ast.Name):
                spec = aliases.get(node.func.id)
            if spec is not None:
                uses.append(OperatorUse(node, spec, function))
    return uses


def check_calls(
    workflow: WorkflowClass, domain: Domain, enabled: Collection[str] | None
) -> Iterator[Finding]:
    """Findings about operator calls: domain, arguments, `await`, keys of the result."""
    for use in operator_uses(workflow):
        yield from _check_allowed(use, domain, enabled)
        yield from _check_arguments(use)
        yield from _check_awaited(use, workflow)
    yield from _check_keys(workflow)


def _functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _nearest(node: ast.AST, workflow: WorkflowClass) -> ast.AST | None:
    current = workflow.parents.get(node)
    while current is not None and not isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef)):
        current = workflow.parents.get(current)
    return current


def _bindings(function: Function) -> dict[str, list[ast.expr | None]]:
    """Local name -> values bound to it; None for a binding whose value is not an expression."""
    found: dict[str, list[ast.expr | None]] = {}
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            found.setdefault(argument.arg, []).append(None)
    valued: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            target = node.target
        else:
            continue
        if isinstance(target, ast.Name):
            valued.add(id(target))
            found.setdefault(target.id, []).append(node.value)
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and id(node) not in valued
        ):
            found.setdefault(node.id, []).append(None)
    return found


def _aliases(function: Function, operators: Mapping[str, OperatorSpec]) -> dict[str, OperatorSpec]:
    aliases = {}
    for name, values in _bindings(function).items():
        if len(values) == 1 and values[0] is not None:
            spec = operators.get(self_attribute(values[0]) or "")
            if spec is not None:
                aliases[name] = spec
    return aliases


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
        how = _never_awaited(parent, use.function)
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
    operators = workflow.operators()
    return isinstance(parent, ast.Call) and self_attribute(parent.func) in operators


def _inside_answer(use: OperatorUse, workflow: WorkflowClass) -> bool:
    parent = workflow.parents[use.call]
    if use.function is not workflow.call:
        return False
    if isinstance(parent, ast.Tuple):
        parent = workflow.parents[parent]
    return isinstance(parent, ast.Return)


def _never_awaited(parent: ast.Assign | ast.AnnAssign | ast.NamedExpr, function: Function) -> str:
    """Why a coroutine bound to a name is surely never awaited, or an empty string."""
    targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    if len(names) != len(targets):
        return ""
    uses = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    ]
    read_as_value = {
        id(node.value)
        for node in ast.walk(function)
        if isinstance(node, (ast.Subscript, ast.Attribute))
    }
    if not uses:
        return "its result is never used"
    if all(id(node) in read_as_value for node in uses):
        return f"`{uses[0].id}` is read as a value"
    return ""


def _check_keys(workflow: WorkflowClass) -> Iterator[Finding]:
    """Constant keys read from an operator's result that the contract does not return."""
    operators = workflow.operators()
    for function in _functions(workflow.tree):
        bindings = _bindings(function)
        aliases = _aliases(function, operators)
        for node in ast.walk(function):
            if _nearest(node, workflow) is not function or not isinstance(node, ast.Subscript):
                continue
            if not isinstance(node.ctx, ast.Load) or not isinstance(node.slice, ast.Constant):
                continue
            specs = _result_of(node.value, bindings, operators, aliases)
            keys = {key.name for spec in specs for key in spec.returns}
            if specs and node.slice.value not in keys:
                names = ", ".join(sorted({spec.attribute for spec in specs}))
                yield Finding(
                    FaultKind.UNDEFINED_NAME,
                    f"key {node.slice.value!r:.40} is not in what `{names}` returns:"
                    f" {', '.join(sorted(keys))}",
                    node.lineno,
                )


def _result_of(
    value: ast.expr,
    bindings: Mapping[str, list[ast.expr | None]],
    operators: Mapping[str, OperatorSpec],
    aliases: Mapping[str, OperatorSpec],
) -> list[OperatorSpec]:
    """The operators whose result `value` surely is; empty when that is not certain."""
    values = bindings.get(value.id, [None]) if isinstance(value, ast.Name) else [value]
    specs = []
    for bound in values:
        if not isinstance(bound, ast.Await) or not isinstance(bound.value, ast.Call):
            return []
        function = bound.value.func
        spec = operators.get(self_attribute(function) or "")
        if spec is None and isinstance(function, ast.Name):
            spec = aliases.get(function.id)
        if spec is None:
            return []
        specs.append(spec)
    return specs
