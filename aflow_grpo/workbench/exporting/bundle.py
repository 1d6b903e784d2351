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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

from aflow_grpo.workbench.exporting.names import Use, uses_of

__all__ = ["Bundle", "Definition", "Key"]

_PACKAGE = "aflow_grpo"
_OPENING = re.compile(r"(?:@|class |def |async def )")
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
        outside: Names that the file has from elsewhere.
    """

    def __init__(
        self,
        stand_ins: Mapping[str, str],
        texts: Mapping[Key, str],
        omitted: Mapping[str, frozenset[str]],
        outside: Iterable[str] = (),
    ) -> None:
        self._stand_ins = stand_ins
        self._texts = texts
        self._omitted = omitted
        self._outside = frozenset(outside)
        self._found: dict[Key, Definition] = {}
        self._modules: dict[str, _Module] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        self._renamed: dict[Key, str] = {}
        self._order: list[str] = []

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

    def add_import(self, bound: str, module: str, name: str) -> None:
        """Import a name of the standard library besides."""
        self._imports[bound] = (module, name)

    def origin(self, name: str) -> tuple[str, str] | None:
        """Where an imported name comes from: module, and name in it or nothing."""
        return self._imports.get(name)

    def called(self, module: str, name: str) -> str:
        """What a definition is called in the file, after `rename`."""
        return self._renamed.get((module, name), name)

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
                wanted = next(n for n in _others(name) if n not in owners and n not in used)
            owners[wanted] = self._found[key]
            if wanted != key[1]:
                self._renamed[key] = wanted

    def modules(self) -> list[str]:
        """The modules that something is taken from, those first that others need at import."""
        self._order = self._order or self._sorted_modules()
        return self._order

    def _sorted_modules(self) -> list[str]:
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
        text, before_small = "", False
        for definition in sorted(written.values(), key=lambda d: d.order):
            if definition.text in self._earlier_texts(module, definition):
                continue
            small = _OPENING.match(definition.text) is None
            gap = "" if not text or (small and before_small) else "\n\n"
            text += gap + self._rendered(definition).strip("\n") + "\n"
            before_small = small
        return text

    def import_lines(self) -> list[str]:
        """The imports of the standard library."""
        plain = {
            m if bound == m.split(".")[0] else f"{m} as {bound}"
            for bound, (m, name) in self._imports.items()
            if not name
        }
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

    def _earlier_texts(self, module: str, definition: Definition) -> set[str]:
        """Equal texts of modules that come before: one is enough."""
        ordered = self.modules()
        earlier = ordered[: ordered.index(module)]
        name = definition.names[0]
        return {self._found[m, name].text for m in earlier if (m, name) in self._found}

    def _rendered(self, definition: Definition) -> str:
        edits: dict[tuple[int, int], tuple[str, str]] = {}
        for use in definition.uses:
            target = self._target(definition.module, use)
            if target is None:
                continue
            new = self._renamed.get(target, target[1])
            of_module = self._module_member(definition.module, use) is not None
            old = f"{use.name}.{use.attribute}" if of_module else use.name
            if new != old:
                edits[use.line, use.column] = (old, new)
        return edited(definition.text, edits)

    def _target(self, module: str, use: Use) -> Key | None:
        """The definition that a name stands for; None for what is none of this package."""
        return self._module_member(module, use) or self._resolve(module, use.name)

    def _module_member(self, module: str, use: Use) -> Key | None:
        """The definition that `name.attribute` stands for, where the name is a module of ours."""
        origin = self._module(module).imports.get(use.name)
        if not use.attribute or origin is None or not origin[0].startswith(_PACKAGE):
            return None
        inner = f"{origin[0]}.{origin[1]}" if origin[1] else origin[0]
        return self._resolve(inner, use.attribute) if _is_module(inner) else None

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
        known_elsewhere = hasattr(builtins, name) or name in self._outside
        if not known_elsewhere and not (name.startswith("__") and name.endswith("__")):
            raise RuntimeError(f"{module}: nothing defines {name!r}")
        return None

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> _Module:
        """The module, with the texts and without the methods that this file has otherwise."""
        known = _as_written(name)
        definitions = dict(known.definitions)
        for definition in {id(d): d for d in definitions.values()}.values():
            first = definition.names[0]
            text = self._texts.get((name, first)) or self._without(definition.text, first)
            if text != definition.text:
                made = replace(definition, text=text, uses=tuple(uses_of(text)))
                definitions.update(dict.fromkeys(definition.names, made))
        return _Module(name, definitions, known.imports)

    def _without(self, text: str, name: str) -> str:
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


@lru_cache
def _as_written(name: str) -> _Module:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    definitions: dict[str, Definition] = {}
    imports: dict[str, tuple[str, str]] = {}
    body = ast.parse(source).body
    for order, node in enumerate(body):
        imports.update(_imported(node))
        names = tuple(_bound(node))
        if names:
            after = body[order + 1] if order + 1 < len(body) else None
            text = _IGNORE.sub("", _segment(lines, node, after))
            made = Definition(name, names, text, tuple(uses_of(text)), order)
            definitions.update(dict.fromkeys(names, made))
    return _Module(name, definitions, imports)


def _others(name: str) -> Iterator[str]:
    """Names for what cannot be called so: of about its length, so that no line grows too long."""
    return (f"{name}{number}" for number in count(2))


def edited(text: str, edits: Mapping[tuple[int, int], tuple[str, str]]) -> str:
    """The text with (old, new) replaced at (line from 1, column in bytes)."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    for (number, at), (old, new) in sorted(edits.items(), reverse=True):
        line, wanted = lines[number - 1], old.encode()
        if line[at : at + len(wanted)] != wanted:
            # Python 3.11 does not tell where a name is in an f-string.
            raise RuntimeError(f"cannot rename {old!r} in: {line.decode().strip()}")
        lines[number - 1] = line[:at] + new.encode() + line[at + len(wanted) :]
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
