"""Outcome models of finished runs: their rows are read from the journal's rollouts.

What `fit` used while it trained was the same rows, the newest of them. Not here: the model
(`outcomes`), and executing what a router chooses.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.model import row_of
from aflow_grpo.outcomes.router import Executed, Router
from aflow_grpo.outcomes.structure import UNREADABLE
from aflow_grpo.training.outcome_memory import executed_as_written
from aflow_grpo.workbench.runs import read_run
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["executed_in", "from_journal"]


def executed_in(
    run: str | Path,
    *,
    parts: Collection[str] = ("explore", "train"),
    last_step: int | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> list[Executed]:
    """What ran as written in a run, oldest first.

    Args:
        run: Its directory, or what else `read_run` takes.
        parts: Whose rollouts; those of evaluations are not for fitting.
        last_step: Nothing after this training step; None takes all.
        operators: The operators that existed.

    Raises:
        ConfigError: There is no such run.
        DataError: A stored rollout cannot be read.
    """
    executed: list[Executed] = []
    for stored in read_run(run).rollouts(parts):
        source = stored.rollout.execution.source
        late = last_step is not None and stored.step > last_step
        if late or source is None or not executed_as_written(stored.rollout):
            continue
        row = row_of(stored.rollout, operators)
        if row.structure != UNREADABLE:
            executed.append((row, source))
    return executed


def from_journal(
    run: str | Path,
    *,
    min_runs: int = 5,
    usd_weight: float | None = None,
    last_step: int | None = None,
    operators: OperatorSet = TEN_OPERATORS,
) -> Router:
    """The outcome model of a run's training rollouts, as a router.

    Args:
        run: Its directory, or what else `read_run` takes.
        min_runs: As for `Router`.
        usd_weight: As for `Router`.
        last_step: Nothing after this training step; None takes all.
        operators: The operators that existed.

    Raises:
        ConfigError: There is no such run, or nothing in it ran as written, or often enough.
    """
    executed = executed_in(run, last_step=last_step, operators=operators)
    if not executed:
        raise ConfigError(
            f"{run}: its journal holds no training rollout that ran as written. Expected a run "
            "that has trained for some steps, with llm.journal on."
        )
    return Router(executed, min_runs=min_runs, usd_weight=usd_weight)
