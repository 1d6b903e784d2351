"""What a workflow reads from `self` and from AFlow's modules: does it exist?

Covers `self.<attribute>`, `self.llm.<member>`, `operator.<Class>` and classes imported from there.
Not covered: attributes of other objects.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass, self_attribute
from aflow_grpo.workflow.contract import OperatorSet
from aflow_grpo.workflow.inside import part_name
from aflow_grpo.workflow.rules import found

__all__ = ["LLM_MEMBERS", "check_attributes"]

LLM_MEMBERS = frozenset({"get_usage_summary", "cost_manager"})
"""What `self.llm` offers inside a workflow: costs, and nothing that calls a model."""


def check_attributes(workflow: WorkflowClass) -> Iterator[Finding]:
    """Findings for unknown attributes of `self` and `self.llm`, and unknown operator classes."""
    operators = workflow.operators
    known = workflow.known_attributes | set(operators)
    for node in workflow.every(ast.Attribute):
        if not isinstance(node.ctx, ast.Load):
            continue
        name = self_attribute(node)
        if name is not None:
            if name not in known and not name.startswith("__") and _on_workflow(node, workflow):
                yield _unknown(name, node, known, workflow)
        elif self_attribute(node.value) == "llm" and node.attr not in LLM_MEMBERS:
            message = f"`self.llm.{node.attr}` does not exist; self.llm only tells costs"
            message += f" ({', '.join(sorted(LLM_MEMBERS))})"
            yield found("unknown-llm-member", message, node)
        elif isinstance(node.value, ast.Name) and node.value.id in workflow.operator_modules:
            exists = node.attr in workflow.offered.by_class or part_name("operator", node.attr)
            if not exists and not _local(node.value.id, workflow):
                yield _unknown_class(f"{node.value.id}.", node.attr, node, workflow.offered)
    for imported in workflow.every(ast.ImportFrom):
        if (imported.module or "").split(".")[-1] in ("operator", "operators"):
            for alias in imported.names:
                if _is_class(alias.name) and alias.name not in workflow.offered.by_class:
                    yield _unknown_class("", alias.name, imported, workflow.offered)


def _is_class(name: str) -> bool:
    return name[:1].isupper()


def _local(name: str, workflow: WorkflowClass) -> bool:
    """Whether the module itself defines the name."""
    stored = any(n.id == name and isinstance(n.ctx, ast.Store) for n in workflow.every(ast.Name))
    return stored or any(node.name == name for node in workflow.every(ast.ClassDef))


def _on_workflow(node: ast.AST, workflow: WorkflowClass) -> bool:
    """Whether `self` here is the workflow, not an object of another class."""
    parent: ast.AST | None = node
    while parent is not None and not isinstance(parent, ast.ClassDef):
        parent = workflow.parents.get(parent)
    return parent is workflow.node


def _unknown(name: str, at: ast.expr, known: set[str], workflow: WorkflowClass) -> Finding:
    operators = workflow.offered
    if name in operators.by_attribute and "__init__" in workflow.inherited_methods:
        created = f"`self.{name} = operator.{operators.by_attribute[name].name}(self.llm)`"
        message = f"`self.{name}` is used but `__init__` never creates it"
        hint = f"Add {created} to `__init__`, or leave `__init__` out."
        return found("operator-not-created", message, at, hint)
    near = difflib.get_close_matches(name, sorted({*known, *operators.by_attribute}), n=1)
    hint = f"Did you mean `self.{near[0]}`?" if near else ""
    return found("unknown-operator", f"`self.{name}` is no operator, never assigned", at, hint)


def _unknown_class(
    prefix: str, name: str, at: ast.expr | ast.stmt, operators: OperatorSet
) -> Finding:
    near = difflib.get_close_matches(name, list(operators.by_class), n=1)
    hint = f"Did you mean `{prefix}{near[0]}`?" if near else ""
    return found("unknown-operator-class", f"`{prefix}{name}` does not exist", at, hint)
