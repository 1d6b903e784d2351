"""What a workflow reads from `self` and from prompts: does it exist?

Covers `self.<attribute>`, `self.llm.<member>`, `self.prompts["name"]` and `prompt_custom.NAME`.
Not covered: attributes of other objects, keys that are computed.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping

from aflow_grpo.records import FaultKind, Finding
from aflow_grpo.workflow.anatomy import (
    OPERATORS_BY_CLASS,
    WorkflowClass,
    self_attribute,
)
from aflow_grpo.workflow.contract import OPERATORS_BY_ATTRIBUTE

__all__ = ["LLM_MEMBERS", "check_attributes"]

LLM_MEMBERS = frozenset({"get_usage_summary", "cost_manager"})
"""What `self.llm` offers inside a workflow: costs, and nothing that calls a model."""


def check_attributes(workflow: WorkflowClass, prompts: Mapping[str, str]) -> Iterator[Finding]:
    """Findings for unknown attributes of `self`, of `self.llm`, and unknown prompts."""
    operators = workflow.operators
    known = workflow.known_attributes | set(operators)
    has_init = "__init__" in workflow.methods
    own_prompts = "prompts" in workflow.assigned_attributes
    for node in workflow.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = self_attribute(node)
            if name is not None and name not in known and not name.startswith("__"):
                yield Finding(
                    FaultKind.UNKNOWN_OPERATOR, _unknown(name, known, has_init), node.lineno
                )
            yield from _check_llm(node)
            yield from _check_operator_class(node)
            yield from _check_prompt_constant(node, workflow, prompts)
        elif isinstance(node, ast.Subscript) and not own_prompts:
            yield from _check_prompt_key(node, prompts)


def _unknown(name: str, known: set[str], has_init: bool) -> str:
    if name in OPERATORS_BY_ATTRIBUTE and has_init:
        spec = OPERATORS_BY_ATTRIBUTE[name]
        return (
            f"`self.{name}` is used but `__init__` never creates it; add"
            f" `self.{name} = operator.{spec.name}(self.llm)` or leave `__init__` out"
        )
    near = difflib.get_close_matches(name, sorted({*known, *OPERATORS_BY_ATTRIBUTE}), n=1)
    hint = f"; did you mean `self.{near[0]}`?" if near else ""
    return f"`self.{name}` is no operator and is never assigned{hint}"


def _check_llm(node: ast.Attribute) -> Iterator[Finding]:
    if self_attribute(node.value) == "llm" and node.attr not in LLM_MEMBERS:
        yield Finding(
            FaultKind.UNKNOWN_OPERATOR,
            f"`self.llm.{node.attr}` does not exist; self.llm only tells costs"
            f" ({', '.join(sorted(LLM_MEMBERS))}), models are called through operators",
            node.lineno,
        )


def _check_operator_class(node: ast.Attribute) -> Iterator[Finding]:
    if not (isinstance(node.value, ast.Name) and node.value.id == "operator"):
        return
    if node.attr not in OPERATORS_BY_CLASS:
        near = difflib.get_close_matches(node.attr, list(OPERATORS_BY_CLASS), n=1)
        hint = f"; did you mean `operator.{near[0]}`?" if near else ""
        yield Finding(
            FaultKind.UNKNOWN_OPERATOR, f"`operator.{node.attr}` does not exist{hint}", node.lineno
        )


def _check_prompt_constant(
    node: ast.Attribute, workflow: WorkflowClass, prompts: Mapping[str, str]
) -> Iterator[Finding]:
    is_prompt = isinstance(node.value, ast.Name) and node.value.id == "prompt_custom"
    if is_prompt and node.attr not in prompts and not _defines(workflow.tree, "prompt_custom"):
        yield Finding(
            FaultKind.UNKNOWN_PROMPT,
            f"`prompt_custom.{node.attr}` is not defined; {_defined(prompts)}",
            node.lineno,
        )


def _defines(tree: ast.Module, name: str) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.ClassDef) and node.name == name)
        for node in ast.walk(tree)
    )


def _check_prompt_key(node: ast.Subscript, prompts: Mapping[str, str]) -> Iterator[Finding]:
    key = node.slice
    reads = isinstance(node.ctx, ast.Load) and self_attribute(node.value) == "prompts"
    if reads and isinstance(key, ast.Constant) and key.value not in prompts:
        yield Finding(
            FaultKind.UNKNOWN_PROMPT,
            f"`self.prompts[{key.value!r:.40}]` is not defined; {_defined(prompts)}",
            node.lineno,
        )


def _defined(prompts: Mapping[str, str]) -> str:
    return f"defined: {', '.join(sorted(prompts))}" if prompts else "`prompts` defines none"
