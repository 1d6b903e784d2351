"""In place of `code_runs`, in the file of a workflow whose operators run no programs."""

from __future__ import annotations

__all__ = ["ONE_PROGRAM", "Sandbox", "run_one_program"]

ONE_PROGRAM = "--run-one-program"


class Sandbox:
    """Runs nothing: no operator of this workflow runs programs.

    Args:
        allowed: Of no consequence.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed

    def require_allowed(self, operator: str) -> None:
        """There is no such operator."""


def run_one_program() -> None:
    """There is none to run."""
