"""Writes `configuration.md` and `command-line.md` from the parsers: `python docs/reference.py`.

The parsers are what the command line uses, so the pages cannot say anything else; a test compares.
Not here: what a setting is good for, which the guides say.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace

from aflow_grpo import exits
from aflow_grpo.cli import trainer_parser
from aflow_grpo.policy.endpoint import EndpointPolicy
from aflow_grpo.policy.policy import Policy
from aflow_grpo.trainer_help import ALIASES, OPTIONS
from aflow_grpo.verbs import TRAINER_VERBS, VERBS, Verb

__all__ = ["command_line_page", "configuration_page", "main"]

HERE = Path(__file__).resolve().parent
SECTIONS = (
    "seed_everything",
    "model.policy",
    "model.grpo",
    "model.grpo.loss",
    "model.grpo.guard",
    "model.optimizer",
    "model.evaluation",
    "data",
    "llm",
    "rollout",
    "rollout.reward",
    "rollout.scoring",
    "rollout.rollout",
    "checkpoint",
    "progress",
    "mlflow",
    "trainer",
)
"""Groups of keys, in their order on the page; a key belongs to the longest that it begins with."""
SETTINGS = {section.split(".")[0] for section in SECTIONS}
"""The groups of the YAML files."""
MEANINGS = {
    "seed_everything": "One seed for sampling, data order and everything else; true draws one.",
    "config": "A YAML file over `configs/base.yaml`; may be given again, and later ones win.",
    "print_config": "Print the settings as they would be used, and end.",
}
"""Where the libraries' own words do not say what it is for here."""
MANY = 8
"""Settings of one group, from which on a verb's table only names the group."""
POLICIES: tuple[type, ...] = (Policy, EndpointPolicy)
NO_OPTIONS = ("ActionHelpClassPath", "ActionConfigLoad", "ActionLink", "ActionSubCommands")
"""Kinds of actions that only jsonargparse needs."""
_BY_HAND = "Written by `python docs/reference.py` from the parsers; do not edit it by hand."
_SUPPRESS = "==SUPPRESS=="
_INTRO = """\
# Settings

{by_hand}

Every key of the YAML files, with its type, its default and what it means. `configs/base.yaml` is
always the first layer, so the defaults are those of the command line; each `--config FILE` overlays
it, flags come last. On the command line a key is a flag: `--model.grpo.group_size 4`.

```bash
aflow-grpo fit --help                                       # the settings that people change
aflow-grpo fit --help model.grpo                            # one group of keys
aflow-grpo fit --config configs/quickstart.yaml --print_config
```

`fit`, `validate`, `test` and `predict` take the same keys; what only one of them takes is in the
[command line](command-line.md). A list is given whole (`--data.val '[{{dataset: sample}}]'`), a group
that may be `null` by its keys or by `null`.
"""


class Row(dict[str, str]):
    """One line of a table: key, type, default, meaning."""


def configuration_page() -> str:
    """Every key of the trainer verbs."""
    parser = _trainer_parsers()["fit"]
    defaults = dict(_flat(parser.get_defaults()))
    lines = [_INTRO.format(by_hand=_BY_HAND)]
    seen: set[type] = set()
    pending: list[tuple[str, type]] = []
    for section in SECTIONS:
        rows = []
        for action in _options(parser):
            if _section(action.dest) == section:
                rows.append(_row(action, defaults.get(action.dest, action.default)))
                pending += _parts(action)
        if section != "seed_everything":
            lines += ["", f"## {section}", ""]
        lines += _table(rows)
        if section == "model.policy":
            lines += _policies(pending)
        lines += _expanded(pending, seen)
    return "\n".join(lines).rstrip() + "\n"


def _section(key: str) -> str:
    """The section that a key belongs to; "" for options that are no settings."""
    under = [s for s in SECTIONS if key == s or key.startswith(f"{s}.")]
    return max(under, key=len, default="")


def _policies(pending: list[tuple[str, type]]) -> list[str]:
    """What `model.policy.init_args` takes, for each policy."""
    lines = []
    base = yaml.safe_load((HERE.parent / "configs" / "base.yaml").read_text(encoding="utf-8"))
    set_there = dict(_flat(base["model"]["policy"]["init_args"]))
    for policy in POLICIES:
        parser = ArgumentParser()
        parser.add_class_arguments(policy, "model.policy.init_args")
        path = f"{policy.__module__}.{policy.__name__}"
        lines += ["", f"### {policy.__name__}", "", f"`model.policy.class_path: {path}`", ""]
        rows = []
        for action in _options(parser):
            short = action.dest.removeprefix("model.policy.init_args.")
            default = set_there.get(short, action.default) if policy is Policy else action.default
            rows.append(_row(action, default))
            pending += _parts(action)
        lines += _table(rows)
    return lines


def _expanded(pending: list[tuple[str, type]], seen: set[type]) -> list[str]:
    """A section for each group that may be null or stands in a list; empties `pending`."""
    lines = []
    while pending:
        key, kind = pending.pop(0)
        if kind in seen:
            continue
        seen.add(kind)
        parser = ArgumentParser()
        parser.add_class_arguments(kind, key)
        lines += ["", f"### {kind.__name__}", "", f"The keys of `{key}`. {_summary(kind)}", ""]
        lines += _table(_row(action, action.default) for action in _options(parser))
        for action in _options(parser):
            pending += _parts(action)
    return lines


def _parts(action: Any) -> list[tuple[str, type]]:
    """Settings classes in an option's type: an optional group, or the items of a list."""
    kind = getattr(action, "_typehint", None)
    return [
        (f"{action.dest}[]" if inside else action.dest, part)
        for part, inside in _classes(kind, False)
    ]


def _classes(kind: Any, inside: bool) -> Iterator[tuple[type, bool]]:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        yield kind, inside
    for part in get_args(kind):
        yield from _classes(part, inside or get_origin(kind) not in (Union, types.UnionType))


def command_line_page() -> str:
    """Every verb, with its options, and the exit codes."""
    lines = [
        "# The command line",
        "",
        _BY_HAND,
        "",
        "```bash",
        "aflow-grpo --help",
        "aflow-grpo --version",
        "```",
        "",
        "| verb | what it is for | example |",
        "|---|---|---|",
    ]
    lines += [f"| [{v.name}](#{v.name}) | {_cell(v.summary)} | `aflow-grpo {v.name} {v.example}` |" for v in VERBS]
    lines += [
        "",
        "With every verb: `--help`; `--quiet` (errors and results only), `--debug` (everything the"
        " program knows). Progress goes to stderr, results to stdout. Options are not abbreviated;"
        " a mistyped one is answered with the nearest that exists.",
        "",
        "## Exit codes",
        "",
        "| code | name | when |",
        "|---|---|---|",
        *(f"| {code.value} | {code.name} | {_cell(text)} |" for code, text in _exit_codes()),
        "",
        "## Short forms",
        "",
        "Other names for settings that are changed often, on the command line only.",
        "",
        "| short | in full |",
        "|---|---|",
        *(f"| `{short}` | `{full}` |" for short, full in ALIASES.items()),
    ]
    for verb in VERBS:
        lines += ["", f"## {verb.name}", ""]
        lines += _trainer_verb(verb) if verb.name in TRAINER_VERBS else _verb(verb)
    return "\n".join(lines).rstrip() + "\n"


@functools.cache
def _trainer_parsers() -> Mapping[str, Any]:
    """Those of all trainer verbs; one is not made without the others."""
    return dict(trainer_parser("fit").parent_parser._subcommands_action._name_parser_map)


def _trainer_verb(verb: Verb) -> list[str]:
    parser = _trainer_parsers()[verb.name]
    own = [a for a in _options(parser) if not _section(a.dest)]
    words = {option.split(" ")[0]: text for option, text, verbs in OPTIONS if verb.name in verbs}
    for action in own:
        said = words.get(f"--{action.dest}")
        action.help = _sentence(said) if said else action.help
    lines = [f"{_sentence(verb.summary)} Takes every key of the [settings](configuration.md), and:"]
    return [*lines, "", *_option_table(own)]


def _verb(verb: Verb) -> list[str]:
    try:  # TEMPORARY
        parser = importlib.import_module(f"aflow_grpo.commands.{verb.name}").make_parser()
    except (ModuleNotFoundError, AttributeError) as e:
        print(verb.name, e)
        return []
    return _described(parser, verb.name)


def _described(parser: Any, name: str) -> list[str]:
    """Description and options of a parser, and of the verbs below it."""
    lines = [_plain(parser.description or "")]
    listed = list(_options(parser))
    own = [a for a in listed if not _elsewhere(a, listed)]
    if own:
        lines += ["", *_option_table(own)]
    if len(own) < len(listed):
        groups = dict.fromkeys(a.dest.split(".")[0] for a in listed if _elsewhere(a, listed))
        named = " and ".join(f"`--{group}.…`" for group in groups)
        lines += ["", f"Besides {named}, as in the [settings](configuration.md)."]
    below = getattr(parser, "_subcommands_action", None)
    for sub, its_parser in below._name_parser_map.items() if below else ():
        lines += ["", f"### {name} {sub}", "", *_described(its_parser, f"{name} {sub}")]
    return lines


def _elsewhere(action: Any, listed: Sequence[Any]) -> bool:
    """Whether an option is one of many settings that the other page explains."""
    group = action.dest.split(".")[0]
    return group in SETTINGS and sum(a.dest.startswith(f"{group}.") for a in listed) > MANY


def _option_table(actions: Iterable[Any]) -> list[str]:
    rows = []
    for action in actions:
        row = _row(action, action.default)
        names = [o for o in action.option_strings if "_" not in o or o == f"--{action.dest}"]
        row["key"] = ", ".join(f"`{name}`" for name in names) or f"`{action.dest.upper()}`"
        rows.append(row)
    return _table(rows, first="option")


def _exit_codes() -> list[tuple[exits.Exit, str]]:
    """Each code with its docstring, which stands below it in the source."""
    (body,) = (n.body for n in ast.parse(inspect.getsource(exits.Exit)).body if hasattr(n, "body"))
    texts: dict[str, str] = {}
    for before, after in zip(body, body[1:], strict=False):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr):
            texts[ast.unparse(before.targets[0])] = str(ast.literal_eval(after.value))
    return [(code, texts[code.name]) for code in exits.Exit]


# Parsers into rows


def _options(parser: Any) -> Iterator[Any]:
    """The options that take a value or are a switch; help and whole-group options aside."""
    for action in parser._actions:
        kind = type(action).__name__
        if action.dest in ("help", "print_shtab") or action.help == _SUPPRESS:
            continue
        if kind.strip("_") in NO_OPTIONS:
            continue
        yield action


def _row(action: Any, default: Any) -> Row:
    kind = getattr(action, "_typehint", None) or action.type
    return Row(
        key=f"`{action.dest}`",
        type=_cell(_choices(action) or _type(kind, action)),
        default=_default(default, action),
        meaning=_cell(MEANINGS.get(action.dest) or _plain(action.help or "")),
    )


def _table(rows: Iterable[Row], first: str = "key") -> list[str]:
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
        named = {"list": "list of", "Sequence": "list of", "tuple": "list of", "Iterable": "list of"}
        if origin.__name__ in named:
            return f"{named[origin.__name__]} {inner}"
        if origin.__name__ in ("dict", "Mapping"):
            return f"mapping of {inner}"
        return _type_name(origin)
    return str(getattr(kind, "__name__", kind))


def _default(value: Any, action: Any) -> str:
    if value == _SUPPRESS or value is False and _is_switch(action) or (not action.option_strings and value is None):
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


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value; a group is there as a whole, too."""
    items = tree.as_dict() if isinstance(tree, Namespace) else tree
    for key, value in items.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping | Namespace):
            yield from _flat(value, f"{prefix}{key}.")


# Docstrings into Markdown


def _summary(kind: type) -> str:
    return _plain((inspect.getdoc(kind) or "").split("\n\n")[0])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _plain(text: str) -> str:
    """A docstring as one paragraph of Markdown, without what the table says anyway."""
    text = re.sub(r"\s*Default:? ``[^`]*``\.?|\s*Default: [\w.()]+$", "", text.strip())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]*)``", r"`\1`", text)
    text = re.sub(r"\s+", " ", text)
    # Angle brackets would be taken for HTML, but not in code.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts).strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write both pages."""
    for name, text in (
        ("configuration.md", configuration_page()),
        ("command-line.md", command_line_page()),
    ):
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
