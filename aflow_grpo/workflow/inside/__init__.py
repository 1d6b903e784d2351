"""What the interpreter lacks of Python's library, written in the interpreter's own language.

`rewrite` turns what a workflow writes (``statistics.mean``) into the name of a part
(``_statistics_mean``); `parts_code` collects the parts that are needed. The files beside this one
are read as text and never imported by the program; the tests do import them, to compare them with
the real thing. What stands here is what workflows were seen to use, not whole modules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

__all__ = ["PARTLY", "PROVIDED", "part_name", "parts_code"]

PROVIDED = frozenset(
    {
        "ast", "contextlib", "difflib", "heapq", "html", "inspect", "io", "logging", "operator",
        "pprint", "statistics", "string", "textwrap", "traceback", "types", "warnings",
    }
)  # fmt: skip
"""Modules that exist only as parts."""
PARTLY = frozenset({"asyncio", "collections", "functools", "re", "typing"})
"""Modules of the interpreter that parts complete."""

_FILES = ("builtin_parts", "asyncio_parts", "number_parts", "text_parts", "object_parts")
_NAME = re.compile(r"\b_[A-Za-z]\w*")


@lru_cache(maxsize=1)
def _parts() -> dict[str, str]:
    """Name -> source of each part, in the order of the files."""
    parts: dict[str, str] = {}
    for name in _FILES:
        text = files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            source = ast.get_source_segment(text, node) or ""
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                parts[node.name] = source
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                parts[node.targets[0].id] = source
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                parts[node.target.id] = source
    return parts


def part_name(module: str, name: str) -> str | None:
    """The part that stands for `name` of a module (``""``: a builtin, ``m``: a method), if any."""
    part = f"_{module}_{name}" if module else f"_{name}"
    return part if part in _parts() else None


@lru_cache(maxsize=64)
def parts_code(names: frozenset[str]) -> str:
    """The source of these parts and of those that they use; empty for none."""
    parts = _parts()
    needed: set[str] = set()
    pending: list[str] = sorted(names)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        pending += [used for used in _uses(parts[name]) if used in parts and used not in needed]
    if not needed:
        return ""
    head = "import asyncio, math, re\nfrom collections import Counter, namedtuple\n"
    return head + "\n".join(source for name, source in parts.items() if name in needed) + "\n"


def _uses(source: str) -> Iterable[str]:
    return _NAME.findall(source)
