"""`aflow-grpo describe loss NAME | workflow FILE`: what a name stands for, what a workflow does.

A preset hides numbers; here they are, with the equation and where it is published. Workflows are
in `describe_workflow`. Imports no torch, so that it answers at once.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence

from aflow_grpo.commands.describe_workflow import describe_workflow, workflow_parser
from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.objective import KEY
from aflow_grpo.grpo.presets import PRESETS
from aflow_grpo.terminal import complain

__all__ = ["make_parser", "run_describe"]


def make_parser() -> VerbParser:
    """The verb's options."""
    parser = VerbParser(
        prog="aflow-grpo describe",
        description="What a preset of the settings stands for, and what a workflow does.",
    )
    commands = parser.add_subcommands(dest="what", required=True)
    for what, (text, names, _) in _DESCRIBED.items():
        sub = VerbParser(description=f"{text} E.g. `aflow-grpo describe {what} {names[-1]}`.")
        sub.add_argument("name", help=", ".join(names))
        commands.add_subcommand(what, sub, help=text)
    commands.add_subcommand(
        "workflow", workflow_parser(), help="What a workflow does, and what is wrong with it."
    )
    return parser


def run_describe(arguments: Sequence[str]) -> int:
    """Run the verb; returns the exit code: 0 done, 1 a faulty workflow, 2 an unknown name."""
    given = make_parser().parse_args(list(arguments))
    try:
        if given.what == "workflow":
            return describe_workflow(given.workflow)
        _, names, describe = _DESCRIBED[given.what]
        print(describe(_known(given.what, given[given.what].name, names)))
    except ConfigError as error:
        complain("aflow-grpo describe", error)
        return 2
    return 0


def _known(what: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}."
    raise ConfigError(f"there is no {what} {name!r}. {hint}")


def _loss(name: str) -> str:
    """Equation, sources and every effective setting of a preset."""
    preset = PRESETS[name]
    settings = preset().settings()
    lines = [f"{name}: {inspect.getdoc(preset)}", "", f"{KEY}:"]
    for key, value in settings.items():
        # As YAML writes it, to be copied.
        text = str(value).replace("inf", ".inf")
        if key == "max_length" and settings["aggregation"] == "constant" and not value:
            text += "  # model.policy.sampling.max_new_tokens"
        lines.append(f"  {key}: {text}")
    return "\n".join(lines)


_DESCRIBED: dict[str, tuple[str, Sequence[str], Callable[[str], str]]] = {
    "loss": ("Equation, numbers and sources of a loss.", tuple(PRESETS), _loss),
}
"""What can be described: help, known names, and the text for one of them."""
