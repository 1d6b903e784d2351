"""Options of a parser as rows of a Markdown table: key, type, default, meaning.

Not here: which parsers there are, and the pages (`reference`).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse import Namespace

__all__ = ["Row", "cell", "flat", "options", "plain", "row", "sentence", "summary", "table"]

MEANINGS = {
    "seed_everything": "One seed for sampling, data order and everything else; true draws one.",
    "config": "A YAML file over `configs/base.yaml`; may be given again, and later ones win.",
    "print_config": "Print the settings as they would be used, and end.",
}
"""Where the libraries' own words do not say what it is for here."""
NO_OPTIONS = ("ActionHelpClassPath", "ActionConfigLoad", "ActionLink", "ActionSubCommands")
"""Kinds of actions that only jsonargparse needs."""
_SUPPRESS = "==SUPPRESS=="


class Row(dict[str, str]):
    """One line of a table: key, type, default, meaning."""


def options(parser: Any) -> Iterator[Any]:
    """The options that take a value or are a switch; help and whole-group options aside."""
    for action in parser._actions:
        kind = type(action).__name__
        if action.dest in ("help", "print_shtab") or action.help == _SUPPRESS:
            continue
        if kind.strip("_") in NO_OPTIONS:
            continue
        yield action


def row(action: Any, default: Any) -> Row:
    kind = getattr(action, "_typehint", None) or action.type
    return Row(
        key=f"`{action.dest}`",
        type=cell(_choices(action) or _type(kind, action)),
        default=_default(default, action),
        meaning=cell(MEANINGS.get(action.dest) or plain(action.help or "")),
    )


def table(rows: Iterable[Row], first: str = "key") -> list[str]:
    head = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    return head + [f"| {r['key']} | {r['type']} | {r['default']} | {r['meaning']} |" for r in rows]


def _choices(action: Any) -> str:
    return ", ".join(map(str, action.choices)) if action.choices else ""


def _type(kind: Any, action: Any) -> str:
    if _is_switch(action):
        return "switch"
    return _type_name(kind) if kind is not None else "text"


def _is_switch(action: Any) -> bool:
    """`--json` and the like, and those that may be given with or without true or false."""
    return type(action).__name__ == "_StoreTrueAction" or (
        action.nargs == "?" and action.const is True
    )


def _type_name(kind: Any) -> str:
    names = {str: "text", Path: "path", type(None): "null", Any: "any", bool: "true or false"}
    if kind in names:
        return names[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        # A path may be given as text, and true or false is a kind of number to Python.
        shown = dict.fromkeys(_type_name(part) for part in parts)
        return " or ".join(sorted(shown, key=lambda name: name == "null"))
    if origin is not None:
        inner = ", ".join(dict.fromkeys(_type_name(part) for part in parts if part is not ...))
        named = {
            "list": "list of",
            "Sequence": "list of",
            "tuple": "list of",
            "Iterable": "list of",
        }
        if origin.__name__ in named:
            return f"{named[origin.__name__]} {inner}"
        if origin.__name__ in ("dict", "Mapping"):
            return f"mapping of {inner}"
        return _type_name(origin)
    return str(getattr(kind, "__name__", kind))


def _default(value: Any, action: Any) -> str:
    if (
        value == _SUPPRESS
        or (value is False and _is_switch(action))
        or (not action.option_strings and value is None)
    ):
        return ""
    if action.required and value is None:
        return "required"
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping) and "class_path" in value:
        return f"`{str(value['class_path']).rsplit('.', 1)[-1]}`"
    text = yaml.safe_dump(_simple(value), default_flow_style=True, width=10_000).strip()
    text = re.sub(r"\s*\.\.\.$", "", text)
    return f"`{text}`"


def _simple(value: Any) -> Any:
    """As YAML writes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            f.name: _simple(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if getattr(value, f.name) != f.default
        }
        return changed
    if isinstance(value, Mapping):
        return {str(k): _simple(v) for k, v in value.items() if v is not None}
    if isinstance(value, Namespace):
        return _simple(value.as_dict())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_simple(v) for v in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value; a group is there as a whole, too."""
    items = tree.as_dict() if isinstance(tree, Namespace) else tree
    for key, value in items.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping | Namespace):
            yield from flat(value, f"{prefix}{key}.")


# Docstrings into Markdown


def summary(kind: type) -> str:
    return plain((inspect.getdoc(kind) or "").split("\n\n")[0])


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def plain(text: str) -> str:
    """A docstring as one paragraph of Markdown, without what the table says anyway."""
    text = re.sub(r"\s*Default:? ``[^`]*``\.?|\s*Default: [\w.()]+$", "", text.strip())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]*)``", r"`\1`", text)
    text = re.sub(r"\s+", " ", text)
    # Angle brackets would be taken for HTML, but not in code.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts).strip()


def cell(text: str) -> str:
    return text.replace("|", "\\|")
