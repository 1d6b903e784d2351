"""Prompts that a workflow names: are they defined, and do their braces fit `str.format`?

Covers `prompt_custom.NAME` under any import alias, names imported from the prompt file,
`self.prompts["name"]`, and `.format(...)` on a text that is known here. Not covered: keys and
names that are computed, templates that are built at run time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from string import Formatter

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass, self_attribute
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.uses import Names

__all__ = ["check_prompts"]


def check_prompts(
    workflow: WorkflowClass, names: Names, prompts: Mapping[str, str]
) -> Iterator[Finding]:
    """Findings for prompts that are not defined and for templates that cannot be filled."""
    modules = {name for name in workflow.prompt_modules if not _defined_here(name, workflow)}
    for node in workflow.every(ast.Attribute):
        module = node.value.id if isinstance(node.value, ast.Name) else ""
        read = module in modules and isinstance(node.ctx, ast.Load)
        if read and node.attr not in prompts and not _assigned(node, workflow):
            message = f"`{module}.{node.attr}` is not defined; {_defined(prompts)}"
            yield found("undefined-prompt", message, node)
    for imported in workflow.every(ast.ImportFrom):
        if (imported.module or "").split(".")[-1] in ("prompt", "prompt_custom"):
            for alias in imported.names:
                if alias.name != "*" and alias.name not in prompts:
                    message = f"the prompt `{alias.name}` is not defined; {_defined(prompts)}"
                    yield found("undefined-prompt", message, imported)
    if "prompts" not in workflow.assigned_attributes:
        for item in workflow.every(ast.Subscript):
            yield from _check_key(item, prompts)
    for call in workflow.every(ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "format":
            template = _text(call.func.value, names, prompts, modules)
            wrong = _unfit(template, call) if template is not None else ""
            if wrong:
                yield found("format-fields", f"`.format` {wrong}", call)


def _defined_here(name: str, workflow: WorkflowClass) -> bool:
    stored = any(n.id == name and isinstance(n.ctx, ast.Store) for n in workflow.every(ast.Name))
    classes = any(node.name == name for node in workflow.every(ast.ClassDef))
    return stored or classes or any(a.arg == name for a in workflow.every(ast.arg))


def _assigned(node: ast.Attribute, workflow: WorkflowClass) -> bool:
    return any(
        other.attr == node.attr
        and isinstance(other.ctx, ast.Store)
        and isinstance(other.value, ast.Name)
        and isinstance(node.value, ast.Name)
        and other.value.id == node.value.id
        for other in workflow.every(ast.Attribute)
    )


def _check_key(node: ast.Subscript, prompts: Mapping[str, str]) -> Iterator[Finding]:
    key = node.slice
    reads = isinstance(node.ctx, ast.Load) and self_attribute(node.value) == "prompts"
    if reads and isinstance(key, ast.Constant) and key.value not in prompts:
        message = f"`self.prompts[{key.value!r:.40}]` is not defined; {_defined(prompts)}"
        yield found("undefined-prompt-key", message, node)


def _defined(prompts: Mapping[str, str]) -> str:
    return f"defined: {', '.join(sorted(prompts))}" if prompts else "`prompts` defines none"


def _text(
    value: ast.expr, names: Names, prompts: Mapping[str, str], modules: set[str]
) -> str | None:
    """The text that an expression surely is, when that is known without running it."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules:
            return prompts.get(name)
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return prompts.get(name) if self_attribute(value.value) == "prompts" else None
        case ast.Name():
            bound = names.only_value(value)
            literal = bound.value if isinstance(bound, ast.Constant) else None
            return literal if isinstance(literal, str) else None
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            parts = [_text(side, names, prompts, modules) for side in (left, right)]
            return None if None in parts else "".join(part or "" for part in parts)
        case _:
            return None


def _unfit(template: str, call: ast.Call) -> str:
    """Why `.format` surely raises on a template, or an empty string."""
    if any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return ""
    given = {keyword.arg for keyword in call.keywords}
    automatic = 0
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        return f"cannot read its text: {error}"
    for field in fields:
        root = field.split(".")[0].split("[")[0]
        if root == "":
            automatic += 1
            if automatic > len(call.args):
                return f"has {len(call.args)} values and a field more in its text"
        elif root.isdecimal():
            if int(root) >= len(call.args):
                return f"has {len(call.args)} values and its text a field {{{root}}}"
        elif root not in given:
            return f"gets no `{root:.40}`, which stands in braces in its text"
    return ""
