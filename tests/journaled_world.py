"""Journals with worked numbers: two ranks, two runs, calls that failed or were repeated."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from aflow_grpo.llm.journal import Entry, Journal, request_key
from aflow_grpo.llm.rollout_store import RolloutBatch, RolloutRow
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    OperatorCall,
    Problem,
    RewardBreakdown,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.stored import pack_rollout

T0 = 1_700_000_000.0
FIRST = Entry(
    request_key({}), "a", 1, "0.0", "custom", "gpt-4o-mini", "primary", 1, True, "yes", "stop",
    100, 20, 0, 1e-4, 1e-4, T0, 2.0,
)  # fmt: skip
FAILED = replace(
    FIRST, place="1.0", operator="review", attempts=3, answered=False, reply="", finish_reason="",
    prompt_tokens=0, completion_tokens=0, cost_usd=0.0, billed_usd=2e-5, fault="HTTP 503: busy",
)  # fmt: skip
REVIEW = replace(
    FIRST, place="1.0", operator="review", tier="backup", prompt_tokens=200, completion_tokens=40,
    cached_tokens=128, cost_usd=2e-4, billed_usd=1.5e-4, started_s=T0 + 60, seconds=10.0,
)  # fmt: skip
RANK_0 = [
    FIRST, FAILED, REVIEW,
    replace(REVIEW, place="1.0.again", prompt_tokens=210, completion_tokens=10),
    replace(FIRST, place="10.0"),
    replace(FIRST, execution=2, started_s=T0 + 1),
    # A policy behind an endpoint: no workflow asked.
    replace(FIRST, execution=0, place="", operator="", model="gpt-4o", billed_usd=5e-4),
]  # fmt: skip
RANK_1 = [replace(FIRST, execution=3), replace(FIRST, run="b", started_s=T0 - 5)]

PROBLEM = Problem("math/\ud83d", "sample", "math", "1 + 1?", "2", alternatives=("two",))
RIGHT = Rollout(
    PROBLEM,
    Completion("text", (5, 6), (7, 8, 9), (-0.5, -0.25, -1e-17), True),
    Execution(
        Status.OK, "2", source=WorkflowSource("class W: 'ü'", {"custom": "Add."}),
        calls=tuple(
            OperatorCall(name, {}, {}, Usage(), 0.1) for name in ("custom", "review", "test")
        ),
        usage=Usage(3, 5, 410, 60, 3e-4, 2.5e-4), seconds=2.5,
    ),
    Score(1.0, True),
    RewardBreakdown(65, 12, 8, 5, 5, 0, 9.5),
    group=0, member=0,
)  # fmt: skip
INVALID = replace(
    RIGHT, execution=Execution(Status.INVALID, None, FaultKind.NO_WORKFLOW, "nothing"), member=1,
    score=Score(0.0, False), reward=RewardBreakdown(0, 0, 0, 0, 5, -8, -7.5),
)  # fmt: skip


def batch(run: str, part: str, *rollouts: Rollout) -> RolloutBatch:
    """Rollouts as the journal takes them."""
    rows = []
    for rollout in rollouts:
        packed = pack_rollout(rollout)
        place = (4, rollout.group, "math/?", rollout.member)
        rows.append(RolloutRow(*place, packed.problem, packed.content))
    return RolloutBatch(run, part, "{}", rows)


def write(path: Path, entries: list[Entry], *batches: RolloutBatch) -> None:
    """Add to the journal at `path`."""
    journal = Journal(path)

    async def all_of_them() -> None:
        for entry in entries:
            await journal.write(entry)

    asyncio.run(all_of_them())
    for rollouts in batches:
        journal.put_rollouts(rollouts)
    journal.close()
