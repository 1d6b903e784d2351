"""An answered problem, as a record: what `Solver` gives and `showing` shows.

Not here: how it came about (`solving`), its JSON form (`predictions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aflow_grpo.predictions import prediction_row
from aflow_grpo.records import RewardBreakdown, Rollout, Score, WorkflowSource

__all__ = ["Solution"]


@dataclass(frozen=True)
class Solution:
    """An answered problem."""

    rollout: Rollout
    """All that happened. Its score and reward mean nothing unless `gold_known`."""
    gold_known: bool
    written_by: str
    """What wrote the workflow, e.g. ``runs/quickstart/checkpoints/last.ckpt, iteration 60``."""
    note: str = ""
    """What a reader of the answer has to know; mostly empty."""

    @property
    def answer(self) -> str | None:
        """The user's answer, the fallback's where the workflow did not run; None without any."""
        execution = self.rollout.execution
        return execution.answer if execution.answered_by == "own" else execution.fallback_answer

    @property
    def workflow(self) -> WorkflowSource | None:
        """What was written; None where the text holds no workflow."""
        return self.rollout.execution.source

    @property
    def score(self) -> Score | None:
        """Whether the workflow's own answer is right; None where nobody knows."""
        return self.rollout.score if self._judged else None

    @property
    def reward(self) -> RewardBreakdown | None:
        """What the workflow is worth, in points; None where nobody knows what is right."""
        return self.rollout.reward if self._judged else None

    @property
    def cost_usd(self) -> float:
        """List cost of everything, the fallback included."""
        return float(self.row()["cost_usd"])

    def row(self) -> dict[str, Any]:
        """As plain JSON types; see `prediction_row`, and `written_by` and `note`."""
        row = prediction_row(self.rollout, gold_known=self.gold_known)
        return {**row, "written_by": self.written_by, "note": self.note}

    @property
    def _judged(self) -> bool:
        return self.gold_known and not self.rollout.masked

    def __rich__(self) -> Any:
        from aflow_grpo.workbench.showing import solution_view

        return solution_view(self)
