"""Which Python a workflow may use: imports, statements, classes and members outside the language.

The language is what `pydantic-monty` runs behind the adapter, without its file, process and
introspection corners; what there is of the library is data in `features`. Names that AFlow's own
import lines bring are accepted: the adapter drops those lines and the prelude defines what they
name. An import of anything else counts only where its name is used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.features import (
    KNOWN_MODULES,
    MISSING_METHODS,
    STANDARD_MODULES,
    has_member,
)
from aflow_grpo.workflow.rules import found

__all__ = ["AFLOW_ROOTS", "check_grammar", "is_standard_import", "is_tried_import"]

AFLOW_ROOTS = frozenset({"workspace", "scripts", "metagpt", "operator", "operators", "prompt"})
"""First parts of the module paths in AFlow's graph files; their imports are dropped."""

_DUNDERS = "__name__ __init__ __call__ __doc__ __class__ __getitem__ __contains__ __len__"
_PLAIN_DUNDERS = frozenset(_DUNDERS.split())
_UNTIMED = frozenset({"wait_for", "timeout"})
_STDIN_MODULES = frozenset({"fileinput"})


def is_standard_import(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether an import statement names allowed modules of the standard library only."""
    return all(name.split(".")[0] in STANDARD_MODULES for name in _modules(node))


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def check_grammar(workflow: WorkflowClass) -> Iterator[Finding]:
    """Findings for constructs, imports and members outside the workflow language."""
    yield from _check_imports(workflow)
    yield from _check_statements(workflow)
    for node in workflow.every(ast.ClassDef):
        yield from _check_class(node, workflow)
    for attribute in workflow.every(ast.Attribute):
        yield from _check_member(attribute, workflow)


def _check_statements(workflow: WorkflowClass) -> Iterator[Finding]:
    for handled in workflow.every(ast.TryStar):
        yield found("language-feature", "`except*` is outside the workflow language", handled)
    for loop in workflow.every(ast.AsyncFor):
        yield found("language-feature", "`async for` is outside the workflow language", loop)
    for comprehension in workflow.every(ast.comprehension):
        if comprehension.is_async:
            message = "`async for` is outside the workflow language"
            yield found("language-feature", message, comprehension.target)
    yields: list[ast.Yield | ast.YieldFrom] = [
        *workflow.every(ast.Yield),
        *workflow.every(ast.YieldFrom),
    ]
    for node in yields:
        message = _not_taken(node, workflow)
        if message:
            yield found("language-feature", message, node)


def _not_taken(node: ast.Yield | ast.YieldFrom, workflow: WorkflowClass) -> str:
    """Why a `yield` is outside the language, or an empty string."""
    owner = workflow.owners[node]
    if isinstance(owner, ast.AsyncFunctionDef):
        return "`yield` in an async function is outside the workflow language"
    if not isinstance(workflow.parents[node], ast.Expr):
        return "the value of a `yield` is outside the workflow language"
    parent = workflow.parents.get(node)
    while parent is not None and parent is not owner:
        if isinstance(parent, ast.While) and isinstance(parent.test, ast.Constant):
            return "`yield` in an endless loop is outside the workflow language"
        parent = workflow.parents.get(parent)
    return ""


def _check_imports(workflow: WorkflowClass) -> Iterator[Finding]:
    imports: list[ast.Import | ast.ImportFrom] = [
        *workflow.every(ast.Import),
        *workflow.every(ast.ImportFrom),
    ]
    missing: dict[str, str] = {}
    for node in imports:
        for module in _modules(node):
            root = module.lstrip(".").split(".")[0]
            if root in KNOWN_MODULES and root not in AFLOW_ROOTS:
                yield from _check_members(node, module)
            elif root not in AFLOW_ROOTS and not module.startswith("."):
                if is_tried_import(node, workflow.parents.get(node)):
                    continue
                names = _bound_names(node, module)
                missing.update(dict.fromkeys(names, module))
                if not any(_used(name, workflow) for name in names):
                    message = f"`{module}` does not exist here and is never used"
                    yield found("unused-import", message, node)
    for name, module in missing.items():
        if name not in workflow.bound_names:
            yield from _check_use(name, module, workflow)


def is_tried_import(node: ast.Import | ast.ImportFrom, parent: ast.AST | None) -> bool:
    """Whether it is an import of a missing module whose failure the workflow catches."""
    if not isinstance(parent, ast.Try) or node not in parent.body:
        return False
    roots = {module.lstrip(".").split(".")[0] for module in _modules(node)}
    caught = {
        getattr(part, "id", "")
        for handler in parent.handlers
        for part in ast.walk(handler.type or ast.Name("Exception", ast.Load()))
    }
    known = KNOWN_MODULES | AFLOW_ROOTS | {""}
    return not roots & known and bool(caught & {"ImportError", "ModuleNotFoundError", "Exception"})


def _bound_names(node: ast.Import | ast.ImportFrom, module: str) -> list[str]:
    aliases = [a for a in node.names if isinstance(node, ast.ImportFrom) or a.name == module]
    return [alias.asname or alias.name.split(".")[0] for alias in aliases]


def _used(name: str, workflow: WorkflowClass) -> list[ast.Name]:
    """Where a name is read, annotations aside."""
    return [node for node in workflow.reads(name) if not workflow.in_annotation(node)]


def _check_use(name: str, module: str, workflow: WorkflowClass) -> Iterator[Finding]:
    """The first use of a name that an import of a missing module would bind."""
    for node in _used(name, workflow)[:1]:
        parent = workflow.parents[node]
        member = parent.attr if isinstance(parent, ast.Attribute) else ""
        if member == "stdin" or name == "stdin" or module in _STDIN_MODULES:
            yield found("reads-stdin", f"`{module}` reads the standard input", node)
        else:
            allowed = ", ".join(sorted(STANDARD_MODULES - {"__future__"}))
            message = f"`{name}` comes from `{module}`, which does not exist here; there are"
            yield found("missing-module", f"{message} {allowed}", node)


def _check_members(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[Finding]:
    """What a from-import names in a known module."""
    if isinstance(node, ast.ImportFrom) and module != "__future__":
        for alias in node.names:
            if module == "sys" and alias.name == "stdin":
                yield found("reads-stdin", "`sys.stdin` is the standard input", node)
            elif alias.name != "*" and not has_member(module, alias.name):
                message = f"`{module}.{alias.name}` does not exist here"
                yield found("missing-feature", message, node)


def _check_member(node: ast.Attribute, workflow: WorkflowClass) -> Iterator[Finding]:
    attribute = node.attr
    if attribute.startswith("__") and attribute.endswith("__"):
        if attribute not in _PLAIN_DUNDERS and attribute not in workflow.defined_names:
            yield found("introspection", f"`.{attribute}` is outside the language", node)
    elif isinstance(node.value, ast.Name) and node.value.id in workflow.imported_modules:
        module = node.value.id
        if module == "sys" and attribute == "stdin":
            yield found("reads-stdin", "`sys.stdin` is the standard input; there is none", node)
        elif module in KNOWN_MODULES - AFLOW_ROOTS and not has_member(module, attribute):
            message = f"`{module}.{attribute}` does not exist here"
            yield found("missing-feature", message, node)
        elif module == "asyncio" and attribute in _UNTIMED:
            message = f"`asyncio.{attribute}` never times out here; the workflow's budgets do"
            yield found("differs-inside", message, node)
    elif (
        attribute in MISSING_METHODS
        and attribute not in workflow.defined_names
        and isinstance(workflow.parents[node], ast.Call)
    ):
        message = f"the method `{attribute}` does not exist here"
        yield found("missing-feature", message, node, MISSING_METHODS[attribute])


def _check_class(node: ast.ClassDef, workflow: WorkflowClass) -> Iterator[Finding]:
    if isinstance(workflow.parents.get(node), ast.ClassDef):
        message = f"class {node.name} stands in another class"
        yield found("class-feature", message, node)
    if node is workflow.node and (node.decorator_list or node.keywords):
        message = f"class {node.name} has a decorator or metaclass; the workflow takes none"
        yield found("class-feature", message, node)
    allowed = (
        ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Pass,
    )  # fmt: skip
    for statement in node.body:
        doc = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not isinstance(statement, allowed) and not doc:
            message = f"class {node.name} holds a statement; methods and variables only"
            yield found("class-feature", message, statement)
