"""The parser of every verb that needs no Trainer: short help, short errors.

Options are not abbreviated: a mistyped one would silently be taken for another.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from aflow_grpo.mistakes import explain

__all__ = ["VerbParser"]

_WRONG_USAGE = 2


class VerbParser(ArgumentParser):
    """Answers a wrong option with the error and the nearest known one, and exit code 2."""

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
        print(f"`{program} --help` lists every option.", file=sys.stderr)
        self.exit(_WRONG_USAGE)
