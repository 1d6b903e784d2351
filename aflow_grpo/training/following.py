"""What the other ranks have in place of the first one's lab book.

Not here: who gets it, and the lab book itself (`tracking`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

__all__ = ["RunFollower"]


class RunFollower(Logger):
    """What another rank has in place of the first one's `RunLogger`: the run's id, and silence.

    Args:
        run_id: The run that the first rank logs to.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id

    @property
    def name(self) -> str:
        """As Lightning wants one."""
        return "aflow-grpo"

    @property
    def version(self) -> str:
        """The run."""
        return self.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """The first rank does."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The first rank does."""
