"""The parser of every verb that needs no Trainer: short help, short errors."""

from __future__ import annotations

from aflow_grpo.mistakes import TerseErrors

__all__ = ["VerbParser"]


class VerbParser(TerseErrors):
    """Of one verb of `commands/`, or of a part of it."""
