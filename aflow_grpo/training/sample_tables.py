"""Sample rollouts in the lab book: a table that MLflow shows as one, and pictures of some of them.

What a table of a step holds follows from its rollouts alone, so a resumed run that repeats the step
writes the same. Not here: when there is one (`lab_book`, `judging`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch.loggers import Logger

from aflow_grpo.records import Rollout, to_dict
from aflow_grpo.training.run_logger import RunLogger, never_fatal
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["evenly_spaced", "log_rollout_table"]

_UNNAMEABLE = re.compile(r"[^\w.\-]+")


def evenly_spaced(rollouts: Sequence[Rollout], rows: int) -> list[Rollout]:
    """At most `rows` of them, so that every domain and level is seen."""
    rows = min(rows, len(rollouts))
    return [rollouts[i * len(rollouts) // rows] for i in range(rows)]


def log_rollout_table(
    logger: Logger | None,
    rollouts: Sequence[Rollout],
    step: int,
    name: str,
    operators: OperatorSet = TEN_OPERATORS,
) -> None:
    """Sample rollouts as ``samples/<name>_<step>.json``, and pictures of some of their workflows.

    The pictures, `logger.pictures` of them, are ``pictures/<name>_<step>/<place>_<problem>.svg``.
    """
    if not isinstance(logger, RunLogger) or not rollouts:
        return
    with never_fatal(f"the table of sample workflows of step {step}"):
        columns: dict[str, list[Any]] = {}
        for rollout in rollouts:
            for key, value in _row(rollout).items():
                columns.setdefault(key, []).append(value)
        logger.log_table(columns, f"samples/{name}_{step:06d}.json")
    for place, rollout in enumerate(evenly_spaced(_different(rollouts), logger.pictures)):
        with never_fatal(f"a workflow's picture of step {step}"):
            problem = _UNNAMEABLE.sub("-", rollout.problem.id)[-60:]
            drawn = _picture(rollout, operators)
            logger.log_text(drawn, f"pictures/{name}_{step:06d}/{place + 1}_{problem}.svg")


def _picture(rollout: Rollout, operators: OperatorSet) -> str:
    # Drawing is for those who want pictures only.
    from aflow_grpo.workflow.picture import to_svg, workflow_graph

    assert rollout.execution.source is not None
    return to_svg(workflow_graph(rollout.execution.source, operators))


def _different(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """One with each different workflow: a policy that has settled on one writes it again."""
    by_code: dict[str, Rollout] = {}
    for rollout in rollouts:
        if rollout.execution.source is not None:
            by_code.setdefault(rollout.execution.source.graph_code, rollout)
    return list(by_code.values())


def _row(rollout: Rollout) -> dict[str, Any]:
    """What is short and looked for first stands first: a page shows some five columns."""
    execution = rollout.execution
    row: dict[str, Any] = {
        "problem": rollout.problem.id,
        "domain": rollout.problem.domain,
        "status": str(execution.status),
        "correct": rollout.score.correct,
        "reward_total": rollout.reward.total,
        "answer": execution.answer or "",
        "gold": rollout.problem.answer,
        "findings": "\n".join(f"{f.kind}: {f.message}" for f in execution.findings),
        "workflow": execution.source.graph_code if execution.source else "",
        "question": rollout.problem.question,
        "completion": rollout.completion.text,
        "calls": json.dumps(
            [to_dict(replace(call, llm_calls=())) for call in execution.calls], default=str
        ),
        "cost_usd": execution.usage.cost_usd,
        "fallback_answer": execution.fallback_answer or "",
    }
    return row | {f"reward_{k}": v for k, v in to_dict(rollout.reward).items()}
