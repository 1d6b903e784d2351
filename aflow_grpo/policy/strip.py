"""Repairs the flaws that an untrained policy's workflows have: a baseline, never part of training.

`strip_flaws` mends a text as a patient reader would, without changing which operators it chose as
far as the domain allows them. What the result scores is what the *choice* of operators was worth
before training; the distance to the trained policy is then what learning added beyond validity.
Not covered: broken JSON and syntax errors, which are left as they are.
"""

from __future__ import annotations

import ast
import json

from aflow_grpo.policy.flaws import COST
from aflow_grpo.records import Domain
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.syntax import SourceError, parse_source

__all__ = ["strip_flaws"]

_GENERATORS: dict[Domain, tuple[str, str]] = {
    "math": ("answer_generate", "answer"),
    "code": ("custom_code_generate", "response"),
    "qa": ("answer_generate", "answer"),
}
"""Domain -> the operator that makes a solution there, and the key of that solution."""
_CARRIERS = ("solution", "analysis", "code", "answer")
"""Arguments by which a call passes on a solution that it was given."""


_AT_HAND = ("problem", "entry_point")
"""Parameters whose value is a variable of every workflow."""


def strip_flaws(text: str, domain: Domain) -> str:
    """The workflow in `text` with its signature, arguments, operators and return value mended.

    Args:
        text: A completion, usually the untrained policy's.
        domain: The problem's domain; decides which operators have to go.

    Returns:
        The hybrid JSON form of the mended workflow, or `text` itself when it holds no workflow
        that parses.
    """
    source = parse_completion(text).source
    if source is None:
        return text
    try:
        tree = parse_source(source.graph_code)
    except SourceError:
        return text
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__":
            _mend_signature(node)
            _OperatorMender(domain).visit(node)
            _ReturnMender().visit(node)
            _drop_pass(node)
    code = ast.unparse(ast.fix_missing_locations(tree))
    return json.dumps({"prompts": dict(source.prompts), "graph_code": code})


def _mend_signature(function: ast.AsyncFunctionDef) -> None:
    canonical = ast.parse("lambda self, problem, entry_point=None: 0", mode="eval").body
    assert isinstance(canonical, ast.Lambda)
    function.args = canonical.args
    function.returns = None


def _drop_pass(function: ast.AsyncFunctionDef) -> None:
    """Removes `pass` from every block that has something else."""
    for node in ast.walk(function):
        block = getattr(node, "body", None)
        if isinstance(block, list):
            block[:] = [stmt for stmt in block if not isinstance(stmt, ast.Pass)] or block[:1]


class _ReturnMender(ast.NodeTransformer):
    """Adds the cost to every return value of `__call__` that is not a pair."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        if node.name == "__call__":
            self.generic_visit(node)
        return node

    def visit_Return(self, node: ast.Return) -> ast.Return:
        if node.value is not None and not isinstance(node.value, ast.Tuple):
            cost = ast.parse(COST, mode="eval").body
            node.value = ast.Tuple([node.value, cost], ast.Load())
        return node


class _OperatorMender(ast.NodeTransformer):
    """Drops or replaces calls that the domain's prompt does not offer; mends the others."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._passed_on: dict[str, ast.expr] = {}
        """Variable of a dropped call -> the solution that the call had been given."""
        self._replaced: set[str] = set()
        """Variables of calls that became the domain's own generator."""

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        call = _awaited_call(node.value)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            self._passed_on.pop(target.id, None)
            self._replaced.discard(target.id)
        if call is not None and isinstance(target, ast.Name) and not self._allowed(call):
            carried = next((k.value for k in call.keywords if k.arg in _CARRIERS), None)
            if carried is not None:
                self._passed_on[target.id] = self.visit(carried)
                return ast.Pass()
            self._replaced.add(target.id)
        self.generic_visit(node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Name):
            if node.value.id in self._passed_on:
                return self._passed_on[node.value.id]
            if node.value.id in self._replaced:
                node.slice = ast.Constant(_GENERATORS[self._domain][1])
                return node
        inner = _awaited_call(node.value)
        if inner is not None and not self._allowed(inner):
            node.slice = ast.Constant(_GENERATORS[self._domain][1])
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        operator = _operator_of(node)
        if operator is not None and isinstance(node.func, ast.Attribute):
            if not self._allowed(node):
                node.func.attr = _GENERATORS[self._domain][0]
                node.args, node.keywords = [], []
            _mend_arguments(node, TEN_OPERATORS.by_attribute[node.func.attr])
        self.generic_visit(node)
        return node

    def _allowed(self, call: ast.Call) -> bool:
        operator = _operator_of(call)
        if operator is None:
            return True
        spec = TEN_OPERATORS.by_attribute.get(operator)
        return spec in TEN_OPERATORS.offered(self._domain)


def _awaited_call(node: ast.expr) -> ast.Call | None:
    if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
        return node.value
    return None


def _operator_of(call: ast.Call) -> str | None:
    """The attribute that `self.<attribute>(...)` calls; None for any other call."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr if function.value.id == "self" else None
    return None


def _mend_arguments(call: ast.Call, spec: OperatorSpec) -> None:
    """Keeps right arguments, gives unknown ones to what is missing, fills in the rest."""
    names = [parameter.name for parameter in spec.parameters]
    given = dict(zip(names, call.args, strict=False))
    unknown: list[ast.expr] = []
    for keyword in call.keywords:
        if keyword.arg in names and keyword.arg not in given:
            given[str(keyword.arg)] = keyword.value
        else:
            unknown.append(keyword.value)
    missing = [p.name for p in spec.parameters if p.required and p.name not in given]
    # What a call was given rather is its solution than the problem, which has a name of its own.
    for name in sorted(missing, key=lambda name: name in _AT_HAND):
        given[name] = unknown.pop(0) if unknown else _default(name)
    call.args = []
    call.keywords = [ast.keyword(name, given[name]) for name in names if name in given]


def _default(name: str) -> ast.expr:
    if name == "entry_point":
        return ast.Name("entry_point", ast.Load())
    problem = ast.Name("problem", ast.Load())
    return ast.List([problem], ast.Load()) if name == "solutions" else problem
