"""From problems and completions to scored rollouts: concurrency, seeds, deadlines, order.

The engine runs every completion once, at most `concurrency` at a time over all batches, and returns
the rollouts of a batch in the order of the requests, whatever the order in which they finished.
Requests come all at once (`run`) or one by one, as they are written (`stream`). A rollout that has
not ended when its batch's deadline passes is `unavailable`. No Lightning and no torch in here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Problem,
    Rollout,
    Score,
    Status,
)
from aflow_grpo.rewards import REHEARSED, RewardSettings, compute_reward
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.seeds import derive_seed

__all__ = [
    "RolloutEngine",
    "RolloutRequest",
    "RolloutSettings",
    "RolloutStream",
    "make_requests",
    "rollout_seed",
]


@dataclass(frozen=True)
class RolloutSettings:
    """How a batch of workflows is executed."""

    concurrency: int = 16
    """Most workflows that run at the same time. With fewer than a batch has (`data.batch_size` x
    `model.grpo.group_size`), some wait for others to end, and a step takes as much longer."""
    deadline_s: float = 600.0
    """Wall-clock limit of one batch, from its last workflow's being written, and not before the
    batches that began earlier have ended; what has not ended by then is `unavailable`."""
    fallback: Literal["never", "evaluation", "always"] = "evaluation"
    """When the fixed workflow answers in place of one that does not run. Its answer is for the
    user and never rewarded, so that training by default does not pay for it."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(
                f"rollout.rollout.concurrency={self.concurrency}: expected at least 1."
            )
        if self.deadline_s <= 0:
            raise ConfigError(
                f"rollout.rollout.deadline_s={self.deadline_s:g}: expected more than 0."
            )


@dataclass(frozen=True)
class RolloutRequest:
    """One completion to run."""

    problem: Problem
    completion: Completion
    seed: int
    group: int
    member: int


def rollout_seed(run_seed: int, split: str, step: int, problem: Problem, member: int) -> int:
    """The seed of one rollout's sampling and execution."""
    return derive_seed(run_seed, split, step, problem.id, member)


def make_requests(
    problems_P: Sequence[Problem],
    completions_B: Sequence[Completion],
    seeds_B: Sequence[int],
    *,
    group_size: int,
    first_group: int = 0,
) -> list[RolloutRequest]:
    """Pair problems with their groups' completions (B = P x group_size, problem-major).

    Groups are numbered from `first_group`, so that chunks of one batch keep apart.
    """
    if not len(completions_B) == len(seeds_B) == len(problems_P) * group_size:
        raise ValueError(
            f"{len(problems_P)} problems x {group_size} need as many completions and seeds, got "
            f"{len(completions_B)} and {len(seeds_B)}"
        )
    return [
        RolloutRequest(
            problems_P[b // group_size],
            completion,
            seed,
            group=first_group + b // group_size,
            member=b % group_size,
        )
        for b, (completion, seed) in enumerate(zip(completions_B, seeds_B, strict=True))
    ]


class RolloutEngine:
    """Executes, scores and rewards.

    Args:
        executor: Runs workflows.
        scorers: Decide whether an answer is right.
        reward: Weights, penalties and one-call costs.
        settings: Concurrency and deadline.
    """

    def __init__(
        self,
        executor: WorkflowExecutor,
        scorers: ScorerSet,
        reward: RewardSettings,
        settings: RolloutSettings | None = None,
    ) -> None:
        self._executor = executor
        self._rehearsal = executor.rehearsal()
        self._scorers = scorers
        self._reward = reward
        self._settings = settings or RolloutSettings()
        # One for all batches: the workflows of two that overlap share the limit.
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        self._underway: set[asyncio.Task[Rollout]] = set()

    async def run(
        self,
        requests: Sequence[RolloutRequest],
        *,
        evaluation: bool = False,
        rehearse: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """Run every request once; the result has the order of the requests.

        Args:
            requests: What to run.
            evaluation: Whether this is an evaluation (see `RolloutSettings.fallback`).
            rehearse: Run on stub operators, at no cost, and reward the structure alone (the
                reward's stage `structure`): no answer, no score, no fallback.
            on_done: Called in the event loop's thread as each rollout ends, for progress.
        """
        stream = self.stream(evaluation=evaluation, rehearse=rehearse, on_done=on_done)
        for request in requests:
            stream.submit(request)
        stream.end()
        return await stream.results()

    def stream(
        self,
        *,
        evaluation: bool = False,
        rehearse: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> RolloutStream:
        """A batch whose requests come one by one; the arguments are those of `run`.

        May be called anywhere; everything of what it returns belongs into the event loop's thread.
        """
        fallback = self._settings.fallback == "always" or (
            evaluation and self._settings.fallback == "evaluation"
        )

        async def one(request: RolloutRequest) -> Rollout:
            async with self._slots:
                rollout = await self._rollout(request, fallback=fallback, rehearse=rehearse)
            if on_done is not None:
                on_done(rollout)
            return rollout

        return RolloutStream(one, self._too_late, self._settings.deadline_s, self._underway)

    async def _rollout(self, request: RolloutRequest, *, fallback: bool, rehearse: bool) -> Rollout:
        executor = self._rehearsal if rehearse else self._executor
        execution = await executor.execute(
            request.completion,
            request.problem.visible,
            seed=request.seed,
            fallback=fallback and not rehearse,
        )
        if rehearse:
            return self._reward_of(request, replace(execution, answer=None), REHEARSED)
        return await self._finish(request, execution)

    async def inspect(self, requests: Sequence[RolloutRequest]) -> list[Rollout]:
        """Parse and validate only: no executor call; a valid workflow is `ok` without an answer."""
        return [
            self._reward_of(
                request,
                self._executor.inspect(request.completion, request.problem.visible),
                Score(0.0, correct=False, detail="not executed"),
            )
            for request in requests
        ]

    async def _finish(self, request: RolloutRequest, execution: Execution) -> Rollout:
        score = await self._scorers.score(request.problem, execution.answer)
        return self._reward_of(request, execution, score)

    def _too_late(self, request: RolloutRequest) -> Rollout:
        message = (
            f"rollout.rollout.deadline_s={self._settings.deadline_s:g} passed before it ended."
        )
        execution = Execution(Status.UNAVAILABLE, fault_kind=FaultKind.DEADLINE, message=message)
        return self._reward_of(request, execution, Score(0.0, correct=False))

    def _reward_of(self, request: RolloutRequest, execution: Execution, score: Score) -> Rollout:
        return Rollout(
            problem=request.problem,
            completion=request.completion,
            execution=execution,
            score=score,
            reward=compute_reward(
                request.problem,
                request.completion,
                execution,
                score,
                self._reward,
                operators=self._executor.operators,
            ),
            group=request.group,
            member=request.member,
        )


class RolloutStream:
    """A batch whose requests come one by one; each runs from then on.

    An exception, which is a bug of ours, ends the batch at once, not at the deadline: `results`
    raises it, and what is submitted afterwards is not run.

    Args:
        one: Runs a request.
        too_late: The rollout of one that had not ended at the deadline.
        deadline_s: Seconds from `end` on, or from the end of what others had under way by then.
        underway: What runs of this batch and of others that share its slots.
    """

    def __init__(
        self,
        one: Callable[[RolloutRequest], Coroutine[Any, Any, Rollout]],
        too_late: Callable[[RolloutRequest], Rollout],
        deadline_s: float,
        underway: set[asyncio.Task[Rollout]],
    ) -> None:
        self._underway = underway
        self._earlier: set[asyncio.Task[Rollout]] | None = None
        self._one = one
        self._too_late = too_late
        self._deadline_s = deadline_s
        self._tasks: dict[asyncio.Task[Rollout], RolloutRequest] = {}
        self._complete = asyncio.Event()
        self._over = self._failed = False

    def submit(self, request: RolloutRequest) -> None:
        """Start `request`, as soon as the concurrency limit lets it."""
        if not self._over:
            if self._earlier is None:
                self._earlier = set(self._underway)
            task = asyncio.create_task(self._one(request))
            task.add_done_callback(self._ended)
            self._tasks[task] = request
            self._underway.add(task)

    def end(self) -> None:
        """No more will be submitted; the deadline counts from here."""
        self._complete.set()

    async def results(self) -> list[Rollout]:
        """The rollouts in the order in which they were submitted, once all have ended.

        To be awaited once, at any time; when it is cancelled, so is what runs.
        """
        try:
            await self._complete.wait()
            late = await self._late()
        finally:
            self._over = True
            # The ended ones too: when several raised, only the first is told of.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return [
            self._too_late(request) if task in late else task.result()
            for task, request in self._tasks.items()
        ]

    async def _late(self) -> set[asyncio.Task[Rollout]]:
        """Wait for all; those that have not ended at the deadline, or when one raised."""
        left, earlier = set(self._tasks), {t for t in self._earlier or () if not t.done()}
        while left and earlier and not self._failed:
            ended, _ = await asyncio.wait(left | earlier, return_when=asyncio.FIRST_COMPLETED)
            left, earlier = left - ended, earlier - ended
        if left and not self._failed:
            _, left = await asyncio.wait(
                left, timeout=self._deadline_s, return_when=asyncio.FIRST_EXCEPTION
            )
        return {task for task in left if not task.done()}

    def _ended(self, task: asyncio.Task[Rollout]) -> None:
        self._underway.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = True
            self._complete.set()
