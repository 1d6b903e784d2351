"""Imports, and what their names mean: which part or stand-in takes an imported name's place.

AFlow's import lines are dropped and their names bound to the prelude's. Typing is dropped too: its
names become the plain types that `isinstance` wants. Names of modules that the interpreter lacks,
wholly or in part, resolve to the parts in `inside`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from aflow_grpo.workflow.grammar import is_standard_import
from aflow_grpo.workflow.inside import PARTLY, PROVIDED, part_name

__all__ = ["Imports", "imported_value", "name_node", "raised_import", "stored_names"]

_PLAIN_TYPES = {
    "List": "list", "Dict": "dict", "Set": "set", "FrozenSet": "frozenset", "Tuple": "tuple",
    "Type": "type", "Text": "str", "Mapping": "dict", "MutableMapping": "dict",
    "DefaultDict": "dict", "OrderedDict": "dict", "Sequence": "(list, tuple, str)",
    "MutableSequence": "list", "Iterable": "(list, tuple, str, dict, set, frozenset, range)",
    "Collection": "(list, tuple, str, dict, set, frozenset, range)",
    "Number": "(int, float)", "Real": "(int, float)", "Integral": "int", "TYPE_CHECKING": "False",
}  # fmt: skip
"""Names of typing, collections.abc and numbers -> what stands for them; the others are None."""

_TYPING_MODULES = frozenset(
    {"typing", "typing_extensions", "collections.abc", "numbers", "abc", "enum"}
)

_AFLOW_NAMES = {
    "create_llm_instance": "create_llm_instance",
    "CostManager": "_CostManager",
    "AsyncLLM": "create_llm_instance",
    "DatasetType": "DatasetType",
}
"""Names that AFlow's own modules give -> the prelude's."""
_KEPT = frozenset({"bisect", "sys"})
"""Modules that the interpreter has although workflows have hardly a use for them."""


def name_node(name: str) -> ast.Name:
    """`name`, read."""
    return ast.Name(name, ast.Load())


def stored_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that the module binds anywhere other than by importing."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
    return found


class Imports:
    """The modules that a workflow's names stand for, and the rewriting of its import lines.

    Args:
        nodes: All nodes of the module.
        stored: Names that are bound otherwise as well; these are never taken for a module.
    """

    def __init__(self, nodes: Iterable[ast.AST], stored: set[str]) -> None:
        self.needed: set[str] = set()
        """Parts that the import lines themselves use."""
        self._types: set[str] = set()
        self._modules = {"asyncio": "asyncio"} if "asyncio" not in stored else {}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module in _TYPING_MODULES:
                self._types |= {alias.asname or alias.name for alias in node.names} - stored
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    if bound not in stored and (alias.asname or "." not in alias.name):
                        self._modules[bound] = alias.name

    def module(self, node: ast.expr) -> str | None:
        """The module that an expression such as `re` names, if it names one."""
        return self._modules.get(node.id) if isinstance(node, ast.Name) else None

    def part(self, node: ast.Attribute) -> str | None:
        """The part that stands for `module.name`, if there is one."""
        module = self.module(node.value)
        if module not in PROVIDED and module not in PARTLY:
            return None
        return part_name(str(module), node.attr)

    def is_typing(self, node: ast.expr) -> bool:
        """Whether the expression is a name of typing."""
        if isinstance(node, ast.Attribute):
            return self.module(node.value) in _TYPING_MODULES
        return isinstance(node, ast.Name) and node.id in self._types

    def typing_value(self, node: ast.Attribute) -> ast.expr | None:
        """What stands for `typing.List` and its like."""
        if self.module(node.value) not in _TYPING_MODULES:
            return None
        return ast.parse(_PLAIN_TYPES.get(node.attr, "None"), mode="eval").body

    def rewrite_import(self, node: ast.Import) -> list[ast.stmt]:
        """The statements that take an import's place."""
        kept, bound = [], []
        for alias in node.names:
            single = ast.Import([alias])
            if alias.name in PROVIDED or alias.name in _TYPING_MODULES:
                continue
            if alias.name in _KEPT or is_standard_import(single):
                kept.append(alias)
            elif (value := imported_value("", alias)) is not None:
                bound.append(value)
        if len(kept) == len(node.names):
            return [node]
        return self._statements(node, [ast.Import(kept)] if kept else [], bound)

    def rewrite_from(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """The statements that take a from-import's place."""
        module = "." * node.level + (node.module or "")
        kept, bound = [], []
        for alias in node.names:
            name = alias.asname or alias.name
            part = part_name(module, alias.name) if module in PROVIDED | PARTLY else None
            if part is not None:
                self.needed.add(part)
                bound.append(ast.Assign([ast.Name(name, ast.Store())], name_node(part)))
            elif module in _TYPING_MODULES and name != "*":
                value = _PLAIN_TYPES.get(alias.name, "None")
                bound.append(_assigned(name, ast.parse(value, mode="eval").body))
            elif module in _KEPT or (is_standard_import(node) and module != "__future__"):
                kept.append(alias)
            elif (value_ := imported_value(module, alias)) is not None:
                bound.append(value_)
        if len(kept) == len(node.names):
            return [node]
        whole: list[ast.stmt] = [ast.ImportFrom(node.module, kept, node.level)] if kept else []
        return self._statements(node, whole, bound)

    @staticmethod
    def _statements(
        node: ast.stmt, kept: list[ast.stmt], bound: list[ast.Assign]
    ) -> list[ast.stmt]:
        made: list[ast.stmt] = [*kept, *bound]
        for statement in made:
            ast.copy_location(statement, node)
        return made


def raised_import(node: ast.Import | ast.ImportFrom) -> ast.stmt:
    """What an import of a missing module does."""
    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    message = ast.Constant(f"No module named {module!r}")
    raised = ast.Raise(ast.Call(name_node("ModuleNotFoundError"), [message], []))
    return ast.copy_location(raised, node)


def _assigned(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def imported_value(module: str, alias: ast.alias) -> ast.Assign | None:
    """The assignment that gives an imported AFlow name its meaning, if it has one."""
    name = alias.asname or alias.name
    origin = module.split(".")[-1]
    last = alias.name.split(".")[-1]
    if "." in name or name == "*":
        return None
    if module and alias.name in _AFLOW_NAMES:
        meaning = _AFLOW_NAMES[alias.name]
        return None if name == meaning else _assigned(name, name_node(meaning))
    for known, meaning in (
        (("operator", "operators"), "operator"),
        (("prompt", "prompt_custom"), "prompt_custom"),
    ):
        if last in known:
            return None if name == meaning else _assigned(name, name_node(meaning))
        if origin in known:
            value = ast.Attribute(name_node(meaning), alias.name, ast.Load())
            return _assigned(name, value)
    return None
