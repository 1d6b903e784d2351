"""A workflow's own code as it stands in a file: as written, but for its import lines.

AFlow's import lines fall away, since the file defines what they bring; where they give it another
name, that name is bound. Imports of the standard library go to the top of the file.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.exporting.names import bound_in
from aflow_grpo.workflow.anatomy import WorkflowClass, dataset_of, imports_all_prompts
from aflow_grpo.workflow.features import KNOWN_MODULES
from aflow_grpo.workflow.grammar import AFLOW_ROOTS
from aflow_grpo.workflow.prelude import _creation_arguments, all_prompts_code
from aflow_grpo.workflow.rewrite_names import imported_value, raised_import
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["WorkflowCode", "workflow_code"]

_PRELUDE_NAMES = {"_CostManager": "CostManager"}
_ALWAYS = frozenset({"llm", "prompts"})


@dataclass(frozen=True)
class WorkflowCode:
    """A workflow, ready to be put into a file."""

    code: str
    """Its module without the imports."""
    attributes: tuple[str, ...]
    """Statements that give its class what every workflow has; ``{PROMPTS}``, ``{executor_usage}``
    and ``{OperatorHandle}`` stand for those of the file."""
    start: str
    """`start_workflow`, a function that makes it and awaits it."""
    imports: tuple[tuple[str, str, str], ...]
    """(name, module, name in it) of the standard library."""
    bound: frozenset[str]
    """Names that it gives a meaning to."""
    operators: tuple[OperatorSpec, ...]
    """Those that it may use, in the contract's order."""


def workflow_code(workflow: WorkflowClass, code: str, prompts: dict[str, str]) -> WorkflowCode:
    """Takes a valid workflow's code apart.

    Args:
        workflow: Found in `code`.
        code: As the policy wrote it, with plain line ends.
        prompts: Its prompts.

    Raises:
        ConfigError: It gives a builtin another meaning, which the rest of the file needs.
    """
    tree, name = workflow.tree, workflow.node.name
    top = {id(node) for node in tree.body}
    imports: list[tuple[str, str, str]] = []
    edits: list[tuple[ast.stmt, list[str]]] = []
    nodes: list[ast.Import | ast.ImportFrom] = [
        *workflow.every(ast.Import),
        *workflow.every(ast.ImportFrom),
    ]
    for node in nodes:
        kept, bound = _split(node, tried=_is_tried(workflow, node))
        if id(node) in top:
            imports += kept
            edits.append((node, bound))
        elif not kept:
            edits.append((node, bound or ["pass"]))
    body = _edited(code, edits).strip("\n")
    brought = all_prompts_code(prompts) if imports_all_prompts(tree) else ""
    if brought:
        body = f"{brought.rstrip()}\n\n\n{body}"
    used = tuple(_used(workflow))
    for spec in used:
        if workflow.reads(spec.name) and spec.name not in workflow.bound_names:
            body = f"{spec.name} = operator.{spec.name}\n\n\n{body}"
    taken = bound_in([*tree.body, *ast.parse(brought).body]) | set(workflow.shared_names)
    taken = (taken | {bound for bound, _, _ in imports} | {name}) - _dropped(tree)
    hidden = sorted(taken & set(dir(builtins)))
    if hidden:
        raise ConfigError(
            f"the workflow gives Python's own `{hidden[0]}` another meaning, which the file's "
            "other code needs. Call it otherwise in the workflow."
        )
    return WorkflowCode(
        code=body.strip("\n"),
        attributes=tuple(_class_attributes(workflow, used)),
        start=_start(workflow, dataset_of(tree)),
        imports=tuple(imports),
        bound=frozenset(taken),
        operators=used,
    )


def _is_tried(workflow: WorkflowClass, node: ast.stmt) -> bool:
    return isinstance(workflow.parents.get(node), ast.Try)


def _split(
    node: ast.Import | ast.ImportFrom, *, tried: bool
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The standard library's names of an import, and the statements for the others."""
    kept: list[tuple[str, str, str]] = []
    bound: list[str] = []
    for alias in node.names:
        if isinstance(node, ast.Import):
            module, inner, name = alias.name, "", alias.asname or alias.name.split(".")[0]
        else:
            module = "." * node.level + (node.module or "")
            inner, name = alias.name, alias.asname or alias.name
        root = module.split(".")[0]
        python_operator = module == "operator" and _is_python_operator(inner)
        if python_operator or (root in KNOWN_MODULES and root not in AFLOW_ROOTS):
            if module != "__future__":
                kept.append((name, module, inner))
        elif root in AFLOW_ROOTS or module.startswith("."):
            value = imported_value(module if inner else "", alias)
            bound += [] if value is None else [_text(value)]
        elif tried:
            bound.append(_text(raised_import(node)))
    return kept, bound


def _is_python_operator(name: str) -> bool:
    import operator

    return bool(name) and hasattr(operator, name)


def _text(statement: ast.stmt) -> str:
    """A made statement, with the prelude's names as they are called in the file."""
    text = ast.unparse(ast.fix_missing_locations(statement))
    for name, here in _PRELUDE_NAMES.items():
        text = text.replace(name, here)
    return text


def _edited(code: str, edits: list[tuple[ast.stmt, list[str]]]) -> str:
    """The code with other statements in the place of these."""
    lines = [line.encode() for line in code.split("\n")]
    for node, statements in sorted(edits, key=lambda edit: edit[0].lineno, reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head = lines[first][: node.col_offset]
        tail = lines[last][node.end_col_offset or 0 :]
        middle = "; ".join(statements).encode()
        if not middle:
            tail = tail.lstrip(b"; \t")
        whole = head + middle + tail
        lines[first : last + 1] = [whole] if whole.strip() else []
    return b"\n".join(lines).decode()


def _dropped(tree: ast.Module) -> set[str]:
    """Names that AFlow's import lines bind and the file defines under the same name."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            kept, bound = _split(node, tried=False)
            mine = {alias.asname or alias.name.split(".")[0] for alias in node.names}
            names |= mine - {n for n, _, _ in kept} - {b.split(" = ")[0] for b in bound}
    return names


def _used(workflow: WorkflowClass) -> Iterator[OperatorSpec]:
    """Operators whose name stands anywhere in the code."""
    words = {node.attr for node in workflow.every(ast.Attribute)}
    words |= {node.id for node in workflow.every(ast.Name)}
    words |= {str(node.value) for node in workflow.every(ast.Constant)}
    words |= {alias.name for node in workflow.every(ast.ImportFrom) for alias in node.names}
    for spec in workflow.offered.specs:
        if words & {spec.attribute, spec.name}:
            yield spec


def _class_attributes(workflow: WorkflowClass, used: tuple[OperatorSpec, ...]) -> Iterator[str]:
    name = workflow.node.name
    yield "# What every workflow finds on itself."
    yield f"{name}.llm = {{executor_usage}}"
    yield f"{name}.prompts = {{PROMPTS}}"
    if "__init__" not in workflow.methods:
        known = workflow.known_attributes - _ALWAYS
        for spec in used:
            if spec.attribute not in known:
                yield f'{name}.{spec.attribute} = {{OperatorHandle}}("{spec.attribute}")'


def _start(workflow: WorkflowClass, dataset: str | None) -> str:
    signature = workflow.call.args
    parameters = [argument.arg for argument in (*signature.args, *signature.kwonlyargs)]
    given = [f"{workflow.problem_parameter}=problem"]
    given += ["entry_point=entry_point"] if "entry_point" in parameters else []
    made = _creation_arguments(workflow, dataset).replace("_llm", "executor_usage")
    lines = [
        "async def start_workflow(problem: str, entry_point: str) -> Any:",
        '    """Makes the workflow and awaits it."""',
        f"    workflow = {workflow.node.name}({made})",
    ]
    if "prompts" not in workflow.assigned_attributes:
        lines.append("    workflow.prompts = PROMPTS")
    return "\n".join([*lines, f"    return await workflow({', '.join(given)})"]) + "\n"
