"""What a workflow may not hold that is to run in plain Python, beyond what validation refuses.

In the interpreter a name such as `open` does not exist, so it is harmless there; in a file of its
own it opens files. Refused is whatever leads out of computing: builtins, modules and attributes
that reach files, processes, the network or Python's insides, and text that hides what it is. This
is a net under the reader's eyes, no proof: plain Python cannot be made safe by looking at it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import unicodedata
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

from aflow_grpo.workflow.features import FORBIDDEN_NAMES, KNOWN_MODULES, has_member
from aflow_grpo.workflow.grammar import AFLOW_ROOTS

__all__ = ["Refusal", "refusals"]

_NAMES = frozenset(FORBIDDEN_NAMES) | {
    "input", "compile", "memoryview", "help", "delattr", "license", "credits", "copyright",
}  # fmt: skip
_BY_NAME = frozenset({"getattr", "setattr", "hasattr"})
_REACHERS = frozenset({"attrgetter", "methodcaller", "get_type_hints", "ForwardRef", "get_loop"})
"""Members that read attributes by their names, run text, or give the event loop."""
_MODULES = KNOWN_MODULES - {"sys", "inspect", "io", "logging", "traceback", "warnings", "types"}
_DUNDERS = frozenset(
    {
        "__name__", "__doc__", "__class__", "__init__", "__call__", "__len__", "__contains__",
        "__getitem__", "__iter__", "__str__", "__repr__", "__eq__", "__hash__", "__post_init__",
    }
)  # fmt: skip
_IN_TEXTS = _DUNDERS | {"__main__"}
_INSIDES = re.compile(r"(?:gi|cr|ag|tb|f)_(?:frame|code|back|globals|locals|builtins|await)|mro")
_REACHING_FORMAT = re.compile(r"\{[^{}]*(?:\._|\[_)")
_HIDDEN_NAME = re.compile(r"__\w+?__")


class Refusal(NamedTuple):
    """One thing that keeps a workflow out of a file."""

    line: int
    message: str


def refusals(code: str, prompts: Iterable[str] = ()) -> list[Refusal]:
    """What is refused, by line; the code parses.

    Args:
        code: The workflow's module.
        prompts: Its prompts, which its code may use as format texts.
    """
    tree = ast.parse(code)
    found = [*_hidden(code), *_of_nodes(tree)]
    if any(map(_REACHING_FORMAT.search, prompts)):
        found.append(Refusal(1, "a prompt that as a format text reads hidden attributes"))
    return sorted(set(found))


def _hidden(code: str) -> Iterator[Refusal]:
    for number, line in enumerate(code.split("\n"), 1):
        for sign in line:
            if sign != "\t" and unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
                message = f"the invisible character U+{ord(sign):04X}, which can hide what runs"
                yield Refusal(number, message)


def _of_nodes(tree: ast.Module) -> Iterator[Refusal]:
    modules = dict(_modules(tree))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Name) and _is_forbidden(node.id):
            yield Refusal(line, f"`{node.id}`")
        elif isinstance(node, ast.Name) and node.id in _BY_NAME and id(node) not in called:
            yield Refusal(line, f"`{node.id}` as a value")
        elif isinstance(node, ast.MatchClass):
            for name in filter(_is_hidden, node.kwd_attrs):
                yield Refusal(line, f"the attribute `{name}`")
        elif isinstance(node, ast.Attribute):
            for message in _attribute(node, modules):
                yield Refusal(line, message)
        elif isinstance(node, ast.Call) and _is_computed(node):
            yield Refusal(line, "an attribute by a computed or hidden name")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for message in _import(node):
                yield Refusal(line, message)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _REACHING_FORMAT.search(node.value):
                yield Refusal(line, "a format text that reads hidden attributes")
            elif not _IN_TEXTS.issuperset(_HIDDEN_NAME.findall(node.value)):
                yield Refusal(line, "a text that names a hidden attribute")


def _is_forbidden(name: str) -> bool:
    return name in _NAMES or (name.startswith("__") and name not in _DUNDERS)


def _modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name


def _attribute(node: ast.Attribute, modules: dict[str, str]) -> Iterator[str]:
    name = node.attr
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    own = owner in ("self", "cls") and not name.startswith("__")
    if _is_hidden(name) and not (own and name.startswith("_")):
        yield f"the attribute `{name}`"
    module = modules.get(owner, "")
    if module and module.split(".")[0] not in AFLOW_ROOTS and not _is_plain(module, name):
        yield f"`{owner}.{name}`"


def _is_hidden(name: str) -> bool:
    """Whether an attribute of this name leads out of computing."""
    hidden = name.startswith("_") and name not in _DUNDERS
    return hidden or name in _REACHERS or _INSIDES.fullmatch(name) is not None


def _is_computed(node: ast.Call) -> bool:
    by_name = isinstance(node.func, ast.Name) and node.func.id in _BY_NAME
    if not by_name or len(node.args) < 2:
        return False
    name = node.args[1]
    plain = isinstance(name, ast.Constant) and isinstance(name.value, str)
    return not plain or _is_hidden(str(name.value))  # type: ignore[attr-defined]


def _import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        root = module.split(".")[0]
        if alias.name in _REACHERS:
            yield f"the import of `{module}.{alias.name}`"
        relative = isinstance(node, ast.ImportFrom) and node.level
        if relative or root in AFLOW_ROOTS or root == "__future__":
            continue
        if root not in _MODULES:
            yield f"the import of `{module}`"
        elif isinstance(node, ast.ImportFrom) and not _is_plain(module, alias.name):
            yield f"the import of `{module}.{alias.name}`"


def _is_plain(module: str, name: str) -> bool:
    """Whether a module's member is one that workflows may use, and no module that it imported."""
    if not has_member(module, name) or name.startswith("_"):
        return False
    try:
        member = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    submodule = inspect.ismodule(member) and member.__name__ == f"{module}.{name}"
    return submodule or not isinstance(member, ModuleType)
