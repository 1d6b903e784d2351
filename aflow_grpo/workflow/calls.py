"""Operator calls against the contract: allowed here, rightly called.

Which calls are operator calls is `uses`' question; whether they are awaited is `awaits`'. Types are
checked where a literal shows them.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from aflow_grpo.records import Domain, Finding
from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.spec import OperatorSpec, Parameter
from aflow_grpo.workflow.uses import OperatorUse

__all__ = ["argument_pairs", "check_calls", "check_domain", "describe"]


def describe(spec: OperatorSpec) -> str:
    """An operator's signature in one line, e.g. ``custom(input, instruction='')``."""
    parts = [p.name if p.required else f"{p.name}={p.default!r}" for p in spec.parameters]
    return f"{spec.attribute}({', '.join(parts)})"


def argument_pairs(use: OperatorUse) -> list[tuple[Parameter, ast.expr]]:
    """A call's arguments with their parameters, as far as they are known; starred ones end it."""
    by_name = {parameter.name: parameter for parameter in use.spec.parameters}
    pairs = []
    for parameter, argument in zip(use.spec.parameters, use.call.args, strict=False):
        if isinstance(argument, ast.Starred):
            break
        pairs.append((parameter, argument))
    pairs += [(by_name[k.arg], k.value) for k in use.call.keywords if k.arg in by_name]
    return pairs


def check_domain(
    workflow: WorkflowClass,
    uses: Sequence[OperatorUse],
    domain: Domain,
    enabled: Collection[str] | None,
) -> Iterator[Finding]:
    """Findings for operators that a policy should not use on problems of this domain."""
    for use in uses:
        spec, call = use.spec, use.call
        if domain not in spec.domains:
            message = f"`{spec.attribute}` may not be used on {domain} problems"
            hint = f"It is for {', '.join(spec.domains)}: use another operator."
            yield found("forbidden-operator", message, call, hint)
        elif enabled is not None and spec.attribute not in enabled:
            message = f"`{spec.attribute}` is not enabled; enabled: {', '.join(sorted(enabled))}"
            yield found("operator-not-enabled", message, call)
        elif domain in spec.discouraged:
            message = f"`{spec.attribute}` seldom helps on {domain} problems"
            yield found("not-recommended", message, call)
    used = {use.spec.attribute for use in uses}
    if domain == "code" and used and "test" not in used:
        message = "no `test` in a workflow for a code problem"
        yield found("untested-code", message, workflow.call)


def check_calls(uses: Sequence[OperatorUse]) -> Iterator[Finding]:
    """Findings about the arguments of operator calls.

    With `*x` or `**x` only what is certain is checked.
    """
    for use in uses:
        yield from _check_arguments(use)
        yield from _check_literals(use)


def _check_arguments(use: OperatorUse) -> Iterator[Finding]:
    call, spec = use.call, use.spec
    names = [parameter.name for parameter in spec.parameters]
    expected = f"expected {describe(spec)}"
    starred = any(isinstance(arg, ast.Starred) for arg in call.args)
    if len(call.args) > len(names) and not starred:
        message = f"{spec.attribute}: {len(call.args)} positional arguments; {expected}"
        yield found("unknown-argument", message, call)
    given = [] if starred else names[: len(call.args)]
    keywords = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    for name, count in Counter([*given, *keywords]).items():
        at = next((k.value for k in call.keywords if k.arg == name), call)
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else ""
            message = f"{spec.attribute}: unknown argument `{name}`; {expected}"
            yield found("unknown-argument", message, at, hint)
        elif count > 1:
            message = f"{spec.attribute}: argument `{name}` given {count} times; {expected}"
            yield found("repeated-argument", message, at)
    complete = not starred and len(keywords) == len(call.keywords)
    missing = [p.name for p in spec.parameters if p.required and p.name not in {*given, *keywords}]
    if complete and missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        message = f"{spec.attribute}: missing argument {listed}; {expected}"
        yield found("missing-argument", message, call)


def _check_literals(use: OperatorUse) -> Iterator[Finding]:
    """Arguments written as literals of a type that the parameter does not take."""
    for parameter, value in argument_pairs(use):
        text = isinstance(value, ast.JoinedStr) or (
            isinstance(value, ast.Constant) and isinstance(value.value, str)
        )
        collection = isinstance(value, (ast.List, ast.ListComp, ast.Dict, ast.Set, ast.Tuple))
        needs_text = parameter.type == "str" and not parameter.as_text
        if (parameter.type == "list[str]" and text) or (needs_text and collection):
            given = "text" if text else f"a {type(value).__name__.lower().removesuffix('comp')}"
            message = f"{use.spec.attribute}: `{parameter.name}` is {given};"
            yield found("argument-type", f"{message} expected {parameter.type}", value)
