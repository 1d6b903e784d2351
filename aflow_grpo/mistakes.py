"""What the parser says about a wrong setting, in fewer words and with the nearest right one.

jsonargparse names every type that a value might have had; what helps is the one it was meant for.
It also takes two mistakes in a YAML file without a word, which are refused here: a key that another
one decides, and a single value where a group of settings is expected.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from types import NoneType
from typing import Any, NoReturn, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from aflow_grpo.errors import ConfigError
from aflow_grpo.exits import Exit

__all__ = ["TerseErrors", "explain", "refuse_ignored"]

_UNKNOWN = re.compile(r"(?:[Oo]ption '|arguments: --)([\w.]+)")
_CLASS = re.compile(r"given class_path '([\w.]+)'")
_GROUP = re.compile(r"Group '(\w+)'")
_NOISE = re.compile(
    r"\s*(Does not validate against|Subtypes: |Errors:|Given value|- Expected a path but"
    r"|- Does not validate against|- Expected a <class 'NoneType'>|$)"
)
_LINKED = ("model.seed", "data.seed")
"""What `seed_everything` decides."""


def explain(message: str, options: Sequence[str]) -> str:
    """A parser's message, shortened, with the nearest known name where one is unknown.

    Args:
        message: What jsonargparse says.
        options: The names that are known, as on the command line.
    """
    lines = [line for line in message.splitlines() if not _NOISE.match(line)]
    text = "\n".join(lines).rstrip(".") + "."
    unknown = _UNKNOWN.search(text)
    if unknown is None:
        return text
    name = unknown[1]
    classes = _CLASS.findall(text)
    if classes:
        *groups, name = name.split(".")
        groups += _GROUP.findall(text)
        near = difflib.get_close_matches(name, _fields(classes[-1], groups), n=1)
    else:
        near = _nearest_option(name, options)
    return f"{text} Did you mean {near[0]}?" if near else text


class TerseErrors(ArgumentParser):
    """Answers a wrong option with the error and the nearest known one, and exit code 2.

    Options are not abbreviated: a mistyped one would silently be taken for another.
    """

    every_option = "--help"
    """What lists the options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    @property
    def option_names(self) -> list[str]:
        """Every option, without its dashes."""
        return [option.lstrip("-") for option in self._option_string_actions]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print `message` and leave with code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        print(f"{program}: {explain(message, parser.option_names)}", file=sys.stderr)
        print(f"`{program} {parser.every_option}` lists every option.", file=sys.stderr)
        self.exit(Exit.USAGE)


def _nearest_option(name: str, options: Sequence[str]) -> list[str]:
    """One that ends like it, so that a group was left out; else the most similar one."""
    ends = [option for option in options if option.endswith(f".{name}")]
    return ends[:1] or difflib.get_close_matches(name, options, n=1)


def _fields(class_path: str, groups: Sequence[str]) -> list[str]:
    """Names of the settings of a class, or of a group inside it."""
    kind = resolve_name(class_path)
    for group in groups:
        hint = get_type_hints(kind.__init__).get(group)
        members = getattr(hint, "__args__", None) or (hint,)  # of `Settings | None`
        kind = next((member for member in members if hasattr(member, "__init__")), None)
    return [] if kind is None else list(inspect.signature(kind).parameters)


def refuse_ignored(config: Any, options: Iterable[str]) -> None:
    """Complain about what a YAML file says and the parser passes over.

    Args:
        config: The parsed settings of a verb; they name their files.
        options: The names that are known, as on the command line.

    Raises:
        ConfigError: A file sets a linked key to another value, or a whole group to one value.
    """
    known = [option for option in options if not option.endswith(".help")]
    groups = {prefix for option in known for prefix in _prefixes(option)}
    for file in config.get("config") or []:
        for key, value in _settings(yaml.safe_load(file.read_text()), ""):
            if key in _LINKED and value not in (None, config.seed_everything):
                raise ConfigError(
                    f"{file}: {key}={value} would be ignored, because seed_everything "
                    f"({config.seed_everything}) decides it. Set `seed_everything: {value}` "
                    "instead."
                )
            # A text may name a file with the group's settings.
            if key in groups and not isinstance(value, str | NoneType):
                example = min(option for option in known if option.startswith(f"{key}."))
                raise ConfigError(
                    f"{file}: {key}={value!r} would be ignored, because {key} is a group of "
                    f"settings. Set them by name, e.g. {example}."
                )


def _prefixes(option: str) -> Iterator[str]:
    """``a.b.c`` -> ``a``, ``a.b``."""
    parts = option.split(".")
    for length in range(1, len(parts)):
        yield ".".join(parts[:length])


def _settings(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a YAML tree that is no mapping itself."""
    if not isinstance(tree, Mapping):
        return
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
