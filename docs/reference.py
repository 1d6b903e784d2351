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
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser
from reference_tables import cell, flat, options, plain, row, sentence, summary, table

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
MANY = 8
"""Settings of one group, from which on a verb's table only names the group."""
POLICIES: tuple[type, ...] = (Policy, EndpointPolicy)
_BY_HAND = "Written by `python docs/reference.py` from the parsers; do not edit it by hand."
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
[command line](command-line.md). A list is given whole (`--data.val '[{{dataset: sample}}]'`), a
group that may be `null` by its keys or by `null`.
"""


def configuration_page() -> str:
    """Every key of the trainer verbs."""
    parser = _trainer_parsers()["fit"]
    defaults = dict(flat(parser.get_defaults()))
    lines = [_INTRO.format(by_hand=_BY_HAND)]
    seen: set[type] = set()
    pending: list[tuple[str, type]] = []
    for section in SECTIONS:
        rows = []
        for action in options(parser):
            if _section(action.dest) == section:
                rows.append(row(action, defaults.get(action.dest, action.default)))
                pending += _parts(action)
        if section != "seed_everything":
            lines += ["", f"## {section}", ""]
        lines += table(rows)
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
    set_there = dict(flat(base["model"]["policy"]["init_args"]))
    for policy in POLICIES:
        parser = ArgumentParser()
        parser.add_class_arguments(policy, "model.policy.init_args")
        path = f"{policy.__module__}.{policy.__name__}"
        lines += ["", f"### {policy.__name__}", "", f"`model.policy.class_path: {path}`", ""]
        rows = []
        for action in options(parser):
            short = action.dest.removeprefix("model.policy.init_args.")
            default = set_there.get(short, action.default) if policy is Policy else action.default
            rows.append(row(action, default))
            pending += _parts(action)
        lines += table(rows)
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
        lines += ["", f"### {kind.__name__}", "", f"The keys of `{key}`. {summary(kind)}", ""]
        lines += table(row(action, action.default) for action in options(parser))
        for action in options(parser):
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
    lines += [
        f"| [{v.name}](#{v.name}) | {cell(v.summary)} | `aflow-grpo {v.name} {v.example}` |"
        for v in VERBS
    ]
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
        *(f"| {code.value} | {code.name} | {cell(text)} |" for code, text in _exit_codes()),
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
    own = [a for a in options(parser) if not _section(a.dest)]
    words = {option.split(" ")[0]: text for option, text, verbs in OPTIONS if verb.name in verbs}
    for action in own:
        said = words.get(f"--{action.dest}")
        action.help = sentence(said) if said else action.help
    lines = [f"{sentence(verb.summary)} Takes every key of the [settings](configuration.md), and:"]
    return [*lines, "", *_option_table(own)]


def _verb(verb: Verb) -> list[str]:
    parser = importlib.import_module(f"aflow_grpo.commands.{verb.name}").make_parser()
    return _described(parser, verb.name)


def _described(parser: Any, name: str) -> list[str]:
    """Description and options of a parser, and of the verbs below it."""
    lines = [plain(parser.description or "")]
    listed = list(options(parser))
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
        listed = row(action, action.default)
        names = [o for o in action.option_strings if "_" not in o or o == f"--{action.dest}"]
        listed["key"] = ", ".join(f"`{name}`" for name in names) or f"`{action.dest.upper()}`"
        rows.append(listed)
    return table(rows, first="option")


def _exit_codes() -> list[tuple[exits.Exit, str]]:
    """Each code with its docstring, which stands below it in the source."""
    (table_of_codes,) = ast.parse(inspect.getsource(exits.Exit)).body
    assert isinstance(table_of_codes, ast.ClassDef)
    body = table_of_codes.body
    texts: dict[str, str] = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr):
            texts[ast.unparse(before.targets[0])] = str(ast.literal_eval(after.value))
    return [(code, texts[code.name]) for code in exits.Exit]


def main() -> None:
    """Write both pages."""
    for name, text in (
        ("configuration.md", configuration_page()),
        ("command-line.md", command_line_page()),
    ):
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
