"""Rows of an experiment with worked numbers."""

from __future__ import annotations

from typing import Any

from aflow_grpo.workbench.experiments.rows import Row

__all__ = ["made"]

_ROW = Row(
    arm="a", replicate=0, set="new", problem="p", dataset="gsm8k", domain="math", mode="greedy",
    member=0, direct=True, fallback=False, correct=True, value=1.0, reward=8.0, cost_usd=0.001,
    calls=2, status="ok", fault="",
)  # fmt: skip


def made(**told: Any) -> Row:
    """A row that solved its problem with two calls for 0.001 USD, but for what is told."""
    return Row(**{**vars(_ROW), **told})
