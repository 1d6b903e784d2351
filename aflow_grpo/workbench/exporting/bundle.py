"""Copies definitions of this package, and whatever they use of it, into one file.

So a standalone file holds the same code as the program, not a copy that somebody keeps alike. A
definition comes as it is written, with the comments above it; imports of the package fall away,
those of the standard library are gathered. Not covered: names that are bound in a module's `if` or
`try`, and class attributes that are read without their class.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from aflow_grpo.workbench.exporting.names import Use, uses_of

__all__ = ["Bundle", "Definition", "Key"]

_PACKAGE = "aflow_grpo"
_IGNORE = re.compile(r"  # type: ignore\[[^\]]*\]")

Key = tuple[str, str]
"""Module and name."""


@dataclass(frozen=True)
class Definition:
    """One statement of a module."""

    module: str
    names: tuple[str, ...]
    text: str
    uses: tuple[Use, ...]
    order: int
    """Its place in the module."""


@dataclass(frozen=True)
class _Module:
    name: str
    definitions: Mapping[str, Definition]
    imports: Mapping[str, tuple[str, str]]
    """Name -> (module, name in it); the second is empty for the module itself."""


class Bundle:
    """What a file needs, found from a few roots.

    Args:
        stand_ins: Name -> module whose definition takes the place of any other of that name.
        texts: (module, name) -> text in place of the definition there.
        omitted: Class -> methods that the file does without.
    """

    def __init__(
        self,
        stand_ins: Mapping[str, str],
        texts: Mapping[Key, str],
        omitted: Mapping[str, frozenset[str]],
    ) -> None:
        self._stand_ins = stand_ins
        self._texts = texts
        self._omitted = omitted
        self._found: dict[Key, Definition] = {}
        self._modules: dict[str, _Module] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        self._renamed: dict[Key, str] = {}

    def add(self, roots: Iterable[Key]) -> None:
        """Take these definitions, and all that they use."""
        waiting = [self._resolve(*root) for root in roots]
        while waiting:
            key = waiting.pop()
            if key is None or key in self._found:
                continue
            definition = self._module(key[0]).definitions[key[1]]
            for name in definition.names:
                self._found[key[0], name] = definition
            waiting += [self._target(definition.module, use) for use in definition.uses]

    @property
    def names(self) -> set[str]:
        """What the file binds, as it is called in the program, and the imported names."""
        return {name for _, name in self._found} | set(self._imports)

    @property
    def imported(self) -> set[str]:
        """Names that the file imports from the standard library."""
        return set(self._imports)

    def rename(self, taken: Iterable[str], kinds: Mapping[str, str]) -> None:
        """Settle which definition is called how in the file.

        Args:
            taken: Names that mean something else there.
            kinds: New names for some, by their old ones.
        """
        used = {*taken, *self._imports}
        owners: dict[str, Definition] = {}
        for key in sorted(self._found, key=lambda key: (key[1], key[0])):
            name = wanted = kinds.get(key[1], key[1])
            same = owners.get(name)
            if same is not None and same.text == self._found[key].text:
                continue
            if name in used or same is not None:
                wanted = f"{name}_of_{key[0].rpartition('.')[2].lstrip('_')}"
            assert wanted not in owners and wanted not in used
            owners[wanted] = self._found[key]
            if wanted != key[1]:
                self._renamed[key] = wanted

    def modules(self) -> list[str]:
        """The modules that something is taken from, those first that others need at import."""
        needs: dict[str, set[str]] = {}
        for definition in self._found.values():
            needed = needs.setdefault(definition.module, set())
            for use in definition.uses:
                target = self._target(definition.module, use) if use.eager else None
                if target is not None and target[0] != definition.module:
                    needed.add(target[0])
        ordered: list[str] = []
        while len(ordered) < len(needs):
            ready = [m for m in sorted(needs) if m not in ordered and needs[m] <= {*ordered}]
            if not ready:
                raise RuntimeError(f"modules need each other: {sorted({*needs} - {*ordered})}")
            ordered.append(ready[0])
        return ordered

    def text(self, module: str) -> str:
        """What is taken from a module, as it stands in the file."""
        written = {id(d): d for (m, _), d in self._found.items() if m == module}
        parts, before = [], ""
        for definition in sorted(written.values(), key=lambda d: d.order):
            text = self._rendered(definition)
            if text in self._seen_texts(module, definition):
                continue
            small = not re.match(r"(?:@|class |def |async def )", text)
            close = small and before and not re.match(r"(?:@|class |def |async def )", before)
            parts.append(("\n" if close else "\n\n\n" if before else "") + text)
            before = text
        return "".join(parts)

    def import_lines(self) -> list[str]:
        """The imports of the standard library."""
        plain = {m for m, name in self._imports.values() if not name}
        named: dict[str, set[str]] = {}
        for bound, (module, name) in self._imports.items():
            if name:
                named.setdefault(module, set()).add(name if bound == name else f"{name} as {bound}")
        lines = [f"import {module}" for module in sorted(plain)]
        for module, names in sorted(named.items()):
            ordered = sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
            lines.append(f"from {module} import {', '.join(ordered)}")
        return lines

    # Inside

    def _seen_texts(self, module: str, definition: Definition) -> set[str]:
        """Equal texts of modules that come before: one is enough."""
        earlier = self.modules()[: self.modules().index(module)]
        name = definition.names[0]
        return {self._found[m, name].text for m in earlier if (m, name) in self._found}

    def _rendered(self, definition: Definition) -> str:
        edits: list[tuple[Use, str]] = []
        for use in definition.uses:
            target = self._target(definition.module, use)
            if target is None:
                continue
            new = self._renamed.get(target, target[1])
            old = f"{use.name}.{use.attribute}" if use.attribute else use.name
            if new != old:
                edits.append((use, new))
        return edited(definition.text, edits)

    def _target(self, module: str, use: Use) -> Key | None:
        """The definition that a name stands for; None for what is none of this package."""
        if use.attribute:
            origin = self._module(module).imports.get(use.name)
            if origin is not None and origin[0].startswith(_PACKAGE):
                inner = origin[0] if not origin[1] else f"{origin[0]}.{origin[1]}"
                if _is_module(inner):
                    return self._resolve(inner, use.attribute)
        return self._resolve(module, use.name)

    def _resolve(self, module: str, name: str) -> Key | None:
        stand_in = self._stand_ins.get(name)
        known = self._module(module)
        if stand_in is not None and (name in known.definitions or name in known.imports):
            return stand_in, name
        if name in known.definitions:
            return module, name
        if name in known.imports:
            origin, inner = known.imports[name]
            if origin.split(".")[0] != _PACKAGE:
                if origin != "__future__":
                    self._imports[name] = (origin, inner)
                return None
            if inner and not _is_module(f"{origin}.{inner}"):
                return self._resolve(origin, inner)
            return None
        if not hasattr(builtins, name) and not (name.startswith("__") and name.endswith("__")):
            raise RuntimeError(f"{module}: nothing defines {name!r}")
        return None

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> _Module:
        source = _source(name)
        lines = source.splitlines(keepends=True)
        definitions: dict[str, Definition] = {}
        imports: dict[str, tuple[str, str]] = {}
        body = ast.parse(source).body
        for order, node in enumerate(body):
            imports.update(_imported(node))
            names = tuple(_bound(node))
            if not names:
                continue
            after = body[order + 1] if order + 1 < len(body) else None
            text = self._texts.get((name, names[0]), "")
            text = text or self._without(_segment(lines, node, after), names[0])
            made = Definition(name, names, text, tuple(uses_of(text)), order)
            definitions.update(dict.fromkeys(names, made))
        return _Module(name, definitions, imports)

    def _without(self, text: str, name: str) -> str:
        """The definition without the methods that are left out, and without words for mypy."""
        text = _IGNORE.sub("", text)
        gone = self._omitted.get(name, frozenset())
        if not gone:
            return text
        (node,) = ast.parse(text).body
        assert isinstance(node, ast.ClassDef)
        lines = text.splitlines(keepends=True)
        for method in reversed(node.body):
            if isinstance(method, ast.FunctionDef) and method.name in gone:
                first = min([method.lineno, *(d.lineno for d in method.decorator_list)]) - 1
                del lines[first : method.end_lineno]
        return re.sub(r"\n{3,}", "\n\n", "".join(lines)).rstrip() + "\n"


def edited(text: str, edits: list[tuple[Use, str]]) -> str:
    """The text with other names at these places."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    for use, new in sorted(edits, key=lambda edit: (edit[0].line, edit[0].column), reverse=True):
        old = (f"{use.name}.{use.attribute}" if use.attribute else use.name).encode()
        line = lines[use.line - 1]
        at = use.column
        if line[at : at + len(old)] != old:
            # Python 3.11 does not tell where a name is in an f-string.
            raise RuntimeError(f"cannot rename {old.decode()!r} in: {line.decode().strip()}")
        lines[use.line - 1] = line[:at] + new.encode() + line[at + len(old) :]
    return b"".join(lines).decode()


def _segment(lines: list[str], node: ast.stmt, after: ast.stmt | None) -> str:
    """A statement with the comments above it and, of a variable, the docstring below."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)]) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    last = node.end_lineno or node.lineno
    documented = isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr)
    if documented and after is not None and isinstance(after.value, ast.Constant):  # type: ignore[attr-defined]
        last = after.end_lineno or last
    text = "".join(lines[first:last])
    return text if text.endswith("\n") else f"{text}\n"


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for part in (part for target in targets for part in ast.walk(target)):
            if isinstance(part, ast.Name) and part.id != "__all__":
                yield part.id


def _imported(node: ast.stmt) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], (alias.name, "")
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, (node.module or "", alias.name)


@lru_cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@lru_cache
def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")
