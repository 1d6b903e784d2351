"""What makes two workflows the same one, and what near ones have in common.

Thousands of sampled texts are a few dozen workflows: they differ in the names of variables, in
prompts of operators that they never call, in white space. What was seen of one text holds for
every text of its structure, and, less surely, for structures with the same features.

The key is the code that runs, written in one way: local names numbered in their order, operators
under their contract's names, keywords sorted, prompts put where they are read. Which field of a
result is returned stays part of it, since that decides right or wrong.

Not covered: equal behaviour of code written differently (a value that is bound to a name first,
say); such texts are two structures with equal features.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import log1p

from aflow_grpo.records import Finding, WorkflowSource
from aflow_grpo.workflow.anatomy import WorkflowClass, find_workflow, self_attribute
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.syntax import SourceError, parse_source
from aflow_grpo.workflow.uses import Names, OperatorUse, operator_uses

__all__ = ["UNREADABLE", "Structure", "structure_of"]

_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp)
_MOST_ROUNDS = 10
"""A loop counts at most so many times."""
_ROUNDS_UNKNOWN = 2


@dataclass(frozen=True)
class Structure:
    """One workflow, whatever its variables are called."""

    key: str
    """Equal for texts that do the same in the same way."""
    features: tuple[tuple[str, float], ...]
    """Name and weight, sorted by name; each weight is above 0."""
    calls: tuple[str, ...] = ()
    """The operators in the order in which their calls are written."""


UNREADABLE = Structure("unreadable", (("unreadable", 1.0),))
"""Of every text that holds no workflow class."""


def structure_of(
    source: WorkflowSource | None, operators: OperatorSet = TEN_OPERATORS
) -> Structure:
    """The structure of a workflow as it is written; nothing is run.

    Args:
        source: Its code may be anything; None has no structure.
        operators: The operators that exist.

    Returns:
        `UNREADABLE` for what is no workflow. Never raises.
    """
    if source is None:
        return UNREADABLE
    return _structure(source.graph_code, tuple(sorted(source.prompts.items())), operators)


@lru_cache(maxsize=4096)
def _structure(
    code: str, prompts: tuple[tuple[str, str], ...], operators: OperatorSet
) -> Structure:
    try:
        workflow = find_workflow(parse_source(code), operators)
        if isinstance(workflow, Finding):
            return UNREADABLE
        names = Names(workflow)
        uses = operator_uses(workflow, names)
        uses = sorted(uses, key=lambda use: (use.call.lineno, use.call.col_offset))
        told = _instructions(uses, dict(prompts))
        features = _features(workflow, names, uses, told)
        calls = tuple(use.spec.attribute for use in uses)
        return Structure(_key(workflow, uses, dict(prompts), told), features, calls)
    except (SourceError, RecursionError, ValueError):
        return UNREADABLE


def _instructions(
    uses: Sequence[OperatorUse], prompts: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """(operator, prompt) of the prompts that an operator call will find, sorted."""
    called = {use.spec.attribute: use.spec.name for use in uses}
    found = {
        attribute: prompts.get(attribute) or prompts.get(name, "")
        for attribute, name in called.items()
    }
    return tuple(sorted((name, _one_line(text)) for name, text in found.items() if text.strip()))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# The key


def _key(
    workflow: WorkflowClass,
    uses: Sequence[OperatorUse],
    prompts: Mapping[str, str],
    told: Sequence[tuple[str, str]],
) -> str:
    """All functions of the class but `__init__`, in one way of writing, and the prompts told."""
    for use in uses:
        use.call.keywords.sort(key=lambda keyword: keyword.arg or "")
    renamed = _Renamed(workflow, prompts)
    parts = []
    for name, function in sorted(workflow.inherited_methods.items()):
        if name != "__init__":
            body = [renamed.visit(stmt) for stmt in function.body if not _is_text(stmt)]
            label = "" if name == "__call__" else f"def {name}:\n"
            parts.append(label + "\n".join(ast.unparse(stmt) for stmt in body))
    return "\n".join([*parts, *(f"{name}: {text}" for name, text in told)])


def _is_text(stmt: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another text that does nothing."""
    return isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant)


class _Renamed(ast.NodeTransformer):
    """Numbers the local names in the order in which they are met; resolves what is known."""

    def __init__(self, workflow: WorkflowClass, prompts: Mapping[str, str]) -> None:
        self._local = set(workflow.bound_names) - {"self"}
        self._parameters = {workflow.problem_parameter: "problem", "entry_point": "entry_point"}
        self._operators = {name: spec.attribute for name, spec in workflow.operators.items()}
        self._modules = workflow.prompt_modules
        self._prompts = prompts
        self._numbers: dict[str, str] = {}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._parameters:
            return ast.Name(self._parameters[node.id], node.ctx)
        if node.id in self._local:
            number = self._numbers.setdefault(node.id, f"v{len(self._numbers)}")
            return ast.Name(number, node.ctx)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            return self._prompt(node.attr) or node
        attribute = self_attribute(node)
        if attribute in self._operators:
            return ast.Attribute(node.value, self._operators[attribute], node.ctx)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        named = isinstance(node.slice, ast.Constant) and self_attribute(node.value) == "prompts"
        if named and isinstance(node.slice, ast.Constant):
            return self._prompt(str(node.slice.value)) or node
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(_one_line(node.value)) if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node.values = [
            value if isinstance(value, ast.Constant) else self._plain(self.visit(value))
            for value in node.values
        ]
        return node

    @staticmethod
    def _plain(value: ast.expr) -> ast.expr:
        """A text put into an f-string is part of it: inside braces Python 3.11 has no backslash."""
        match value:
            case ast.FormattedValue(ast.Constant(str()) as text, conversion=-1, format_spec=None):
                return text
            case _:
                return value

    def _prompt(self, name: str) -> ast.Constant | None:
        text = self._prompts.get(name)
        return None if text is None else ast.Constant(_one_line(text))


# The features


def _features(
    workflow: WorkflowClass,
    names: Names,
    uses: Sequence[OperatorUse],
    told: Sequence[tuple[str, str]],
) -> tuple[tuple[str, float], ...]:
    counts: Counter[str] = Counter()
    sequence: list[str] = []
    instructions: set[str] = set()
    for use in uses:
        rounds, guarded = _around(workflow, use)
        operator = use.spec.attribute
        counts[f"{'maybe' if guarded else 'call'}:{operator}"] += rounds
        sequence += [operator] * min(rounds, 2)
        instruction = _instruction(use, names)
        if instruction:
            instructions.add(f"instruction:{operator}:{instruction}")
    found = {name: log1p(count) for name, count in counts.items()}
    found |= dict.fromkeys(instructions, 1.0)
    for first in sequence[:1]:
        found[f"first:{first}"] = 1.0
    for before, after in pairwise(sequence):
        found[f"then:{before}>{after}"] = 0.5
    for name, text in told:
        found[f"prompt:{name}:{text}"] = 1.0
    for test in workflow.of_call(ast.If) + workflow.of_call(ast.IfExp):
        found[f"if:{_tested(test.test)}"] = 1.0
    for kind in _LOOPS:
        for loop in workflow.of_call(kind):
            found[f"loop:{_rounds(loop)}"] = 0.5
    if any(node.attr == "gather" for node in workflow.of_call(ast.Attribute)):
        found["gather"] = 0.5
    for returned in workflow.of_call(ast.Return):
        found[f"return:{_origin(returned.value, names)}"] = 1.0
    return tuple(sorted(found.items()))


def _around(workflow: WorkflowClass, use: OperatorUse) -> tuple[int, bool]:
    """How often the loops around a call repeat it, and whether it may be left out."""
    rounds, guarded = 1, _after_return(workflow, use)
    node: ast.AST | None = use.call
    while node is not None and node is not use.function:
        if isinstance(node, _LOOPS):
            rounds *= _rounds(node)
        guarded = guarded or isinstance(node, (ast.If, ast.IfExp))
        node = workflow.parents.get(node)
    return min(rounds, _MOST_ROUNDS), guarded


def _after_return(workflow: WorkflowClass, use: OperatorUse) -> bool:
    """Whether a `return` before it may end the workflow."""
    return any(node.lineno < use.call.lineno for node in workflow.of_call(ast.Return))


def _rounds(loop: ast.AST) -> int:
    """How often a loop runs, where that can be read."""
    over = loop.iter if isinstance(loop, (ast.For, ast.AsyncFor)) else None
    if isinstance(loop, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
        over = loop.generators[0].iter
    if isinstance(over, (ast.List, ast.Tuple)):
        return min(len(over.elts), _MOST_ROUNDS)
    match over:
        case ast.Call(func=ast.Name(id="range"), args=[*_, ast.Constant(value=int(number))]):
            return max(0, min(number, _MOST_ROUNDS))
        case _:
            return _ROUNDS_UNKNOWN


def _instruction(use: OperatorUse, names: Names) -> str:
    """The text that a call gives as its instruction; empty where it gives none."""
    for keyword in use.call.keywords:
        if keyword.arg == "instruction":
            value: ast.expr | None = keyword.value
            if isinstance(value, ast.Name):
                value = names.only_value(value)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return _one_line(value.value)
            return "computed"
    return ""


def _tested(test: ast.expr) -> str:
    """What a condition looks at: a verdict, a field by its name, or whether two values agree."""
    keys = [
        str(node.slice.value)
        for node in ast.walk(test)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    ]
    verdicts = [key for key in keys if key in ("review_result", "result")]
    if verdicts:
        return verdicts[0]
    compares = [node for node in ast.walk(test) if isinstance(node, ast.Compare)]
    sides = [side for node in compares for side in (node.left, *node.comparators)]
    if sides and not any(isinstance(side, ast.Constant) for side in sides):
        return "agreement"
    return f"field {keys[0]}" if keys else "other"


def _origin(value: ast.expr | None, names: Names, depth: int = 3) -> str:
    """Where a returned value comes from: operator and field, where that is certain."""
    if isinstance(value, ast.Tuple) and value.elts:
        value = value.elts[0]
    if isinstance(value, ast.Name) and depth > 0:
        return _origin(names.only_value(value), names, depth - 1)
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
        specs = names.results(value.value)
        if specs:
            return f"{specs[0].attribute}.{value.slice.value!s}"
    return "other"
