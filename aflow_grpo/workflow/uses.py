"""Which calls in a workflow are operator calls, and which values are operator results.

An operator is recognised as `self.<attribute>(...)` and through a local alias (`op = self.custom`)
that is bound once. Other ways to reach one (a list of operators, `getattr`) are left to the run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from aflow_grpo.workflow.anatomy import Function, WorkflowClass, self_attribute
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["Names", "OperatorUse", "operator_uses"]


@dataclass(frozen=True)
class OperatorUse:
    """One operator call as written."""

    call: ast.Call
    spec: OperatorSpec
    function: Function | None
    """The method or function around the call."""


class Names:
    """What the local names of each function are bound to.

    Args:
        workflow: The class whose module is looked at.
    """

    def __init__(self, workflow: WorkflowClass) -> None:
        self._workflow = workflow
        self._bindings: dict[Function | None, dict[str, list[ast.expr | None]]] = {}
        valued: set[ast.AST] = set()
        for kind in (ast.Assign, ast.AnnAssign, ast.NamedExpr):
            for node in workflow.every(kind):
                target, value = _simple_binding(node)
                if target is not None:
                    valued.add(target)
                    self._bind(node, target.id, value)
        for argument in workflow.every(ast.arg):
            self._bind(argument, argument.arg, None)
        for name in workflow.every(ast.Name):
            if not isinstance(name.ctx, ast.Load) and name not in valued:
                self._bind(name, name.id, None)

    def _bind(self, node: ast.AST, name: str, value: ast.expr | None) -> None:
        names = self._bindings.setdefault(self._workflow.owners[node], {})
        names.setdefault(name, []).append(value)

    def only_value(self, name: ast.Name) -> ast.expr | None:
        """The one expression that is ever bound to a name, if there is one."""
        values = self._values(name)
        return values[0] if len(values) == 1 else None

    def _values(self, name: ast.Name) -> list[ast.expr | None]:
        """What is bound to a name where it is read; a None stands for a value nobody knows."""
        owner = self._workflow.owners[name]
        while True:
            found = self._bindings.get(owner, {}).get(name.id)
            if found is not None or owner is None:
                return found or [None]
            owner = self._workflow.owners[owner]

    def operator(self, function: ast.expr) -> OperatorSpec | None:
        """The operator that a called expression surely is."""
        if isinstance(function, ast.Name):
            values = self._values(function)
            if len(values) != 1 or values[0] is None:
                return None
            function = values[0]
        return self._workflow.operators.get(self_attribute(function) or "")

    def results(self, value: ast.expr) -> list[OperatorSpec]:
        """The operators one of whose results `value` surely is; empty when that is not certain."""
        bound_values = self._values(value) if isinstance(value, ast.Name) else [value]
        specs = []
        for bound in bound_values:
            awaited = bound.value if isinstance(bound, ast.Await) else None
            spec = self.operator(awaited.func) if isinstance(awaited, ast.Call) else None
            if spec is None:
                return []
            specs.append(spec)
        return specs


def operator_uses(workflow: WorkflowClass, names: Names) -> list[OperatorUse]:
    """All operator calls of the module."""
    uses = []
    for node in workflow.every(ast.Call):
        spec = names.operator(node.func)
        if spec is not None:
            uses.append(OperatorUse(node, spec, workflow.owners[node]))
    return uses


def _simple_binding(node: ast.AST) -> tuple[ast.Name | None, ast.expr | None]:
    """Name and value of a plain assignment to one name."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        target = node.target
    else:
        return None, None
    return (target, node.value) if isinstance(target, ast.Name) else (None, None)
