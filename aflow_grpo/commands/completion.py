"""`aflow-grpo completion bash`: a script with which TAB completes verbs, options and their values.

Made from the parsers themselves, once: pressing TAB starts no Python. shtab writes the script, of
plain argparse parsers; jsonargparse's know types where those know choices, and cannot be nested.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.exits import Exit
from aflow_grpo.trainer_help import ALIASES
from aflow_grpo.verbs import TRAINER_VERBS, VERBS

__all__ = ["make_parser", "run_completion"]

_SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("config", "ckpt_path", "checkpoint", "output", "input")
"""Last parts of the names of options that take a file, whatever their type says."""


def make_parser() -> VerbParser:
    """Which shell."""
    parser = VerbParser(
        prog="aflow-grpo completion",
        description='eval "$(aflow-grpo completion bash)" completes with TAB in this shell; put '
        "that line into a file that your shell reads to have it always.",
    )
    parser.add_argument("shell", choices=_SHELLS, help="The shell that is to read the script.")
    return parser


def run_completion(arguments: Sequence[str]) -> int:
    """Print the script; takes some seconds, since every verb's parser is made."""
    import shtab

    shell = make_parser().parse_args(list(arguments)).shell
    print(shtab.complete(_all_verbs(), shell))
    return Exit.DONE


def _all_verbs() -> argparse.ArgumentParser:
    # A sibling of this room: the trainer verbs' parser needs torch, and only this verb needs both.
    cli = importlib.import_module("aflow_grpo.cli")
    whole = argparse.ArgumentParser(prog="aflow-grpo")
    whole.add_argument("--version", action="store_true")
    verbs = whole.add_subparsers(dest="verb")
    for verb in VERBS:
        plain = verbs.add_parser(verb.name, help=verb.summary)
        if verb.name in TRAINER_VERBS:
            _copy(cli.trainer_parser(verb.name), plain)
            _add_policy_options(plain)
            for alias in ALIASES:
                plain.add_argument(alias)
        else:
            module = importlib.import_module(f"aflow_grpo.commands.{verb.name}")
            _copy(module.make_parser(), plain)
        for option in ("--quiet", "--debug"):
            plain.add_argument(option, action="store_true")
    return whole


def _copy(parser: argparse.ArgumentParser, plain: argparse.ArgumentParser) -> None:
    """Options, positional arguments and subcommands of `parser`, as far as TAB needs them."""
    for action in parser._actions:
        subcommands = getattr(action, "_name_parser_map", None)
        if subcommands:
            parts = plain.add_subparsers(dest=action.dest)
            for name, part in subcommands.items():
                _copy(part, parts.add_parser(name, help=part.description))
        elif "--help" not in action.option_strings:
            _copy_action(action, plain)


def _copy_action(action: argparse.Action, plain: argparse.ArgumentParser) -> None:
    typehint = getattr(action, "_typehint", action.type)
    name = action.dest.rpartition(".")[2]
    # A description that is cut keeps the script small, and zsh and tcsh show one line.
    text = (action.help or "").split("\n")[0].replace("%", "%%")[:80]
    added: Any
    if action.nargs == 0:
        added = plain.add_argument(*action.option_strings, action="store_true", help=text)
    elif action.option_strings:
        choices = list(action.choices or _values(typehint)) or None
        added = plain.add_argument(*action.option_strings, choices=choices, help=text)
    elif action.dest not in ("help", argparse.SUPPRESS):
        choices = list(action.choices or ()) or None
        added = plain.add_argument(action.dest, choices=choices, nargs=action.nargs, help=text)
    else:
        return
    if not added.choices and action.nargs != 0 and (name in _FILES or Path in _types(typehint)):
        import shtab

        added.complete = shtab.FILE


def _add_policy_options(plain: argparse.ArgumentParser) -> None:
    """Those of the default policy, whose class the parser takes for a setting like any other."""
    import inspect

    from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings

    groups = {"": Policy, "lora.": LoraSettings, "sampling.": SamplingSettings}
    for group, kind in groups.items():
        for name in inspect.signature(kind).parameters:
            plain.add_argument(f"--model.policy.{group}{name}")


def _types(typehint: Any) -> Iterable[Any]:
    """A type, or the members of a union."""
    return get_args(typehint) or (typehint,)


def _values(typehint: Any) -> list[str]:
    """What may be typed where a type allows but a few values."""
    if get_origin(typehint) is Literal:
        return [str(value) for value in get_args(typehint)]
    if typehint is bool:
        return ["true", "false"]
    return [value for member in get_args(typehint) for value in _values(member)]
