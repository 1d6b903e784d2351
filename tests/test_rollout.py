"""The rollout engine: order, deadlines, bounds, and that timing changes nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from executed_world import (
    CODE,
    MARKERS,
    MATH,
    QA,
    WORLD,
    body,
    closed_port_tier,
    completion,
    leftovers,
    opened,
    written,
)

from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Completion, Execution, FaultKind, Problem, Rollout, Score, Status
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import (
    RolloutEngine,
    RolloutRequest,
    RolloutSettings,
    make_requests,
    rollout_seed,
)
from aflow_grpo.scoring.scorers import ScorerSet

ASKS = written("r = await self.answer_generate(input=problem)", 'return r["answer"], COST')
KNOWS = written('return "42", COST')
RAISES = written("r = await self.custom(input=problem)", "return r['response'][99999], COST")
PROSE = completion("I would rather not.")


@pytest.fixture(scope="module")
def tier() -> Iterator[Tier]:
    with Simulator(WORLD, MARKERS) as simulator:
        yield simulator.tier()


@pytest.fixture(scope="module")
def uneven_tier() -> Iterator[Tier]:
    """An endpoint whose replies take 20 ms on average, exponentially distributed."""
    with Simulator(WORLD, MARKERS, SimulatorSettings(latency_ms=20)) as simulator:
        yield simulator.tier()


@pytest.fixture(scope="module")
def silent_tier() -> Iterator[Tier]:
    """An endpoint whose replies take minutes."""
    with Simulator(WORLD, MARKERS, SimulatorSettings(latency_ms=1e6)) as simulator:
        yield simulator.tier()


def requests_for(problems: Sequence[Problem], *wanted: Completion) -> list[RolloutRequest]:
    """Each completion for each problem, with the seeds that training derives."""
    seeds = [rollout_seed(3, "train", 0, p, m) for p in problems for m in range(len(wanted))]
    return make_requests(problems, [*wanted] * len(problems), seeds, group_size=len(wanted))


def run(
    tier: Tier,
    requests: Sequence[RolloutRequest],
    settings: RolloutSettings | None = None,
    **options: Any,
) -> list[Rollout]:
    """Run a batch and check that it leaves nothing running."""

    async def batch() -> list[Rollout]:
        async with opened(tier) as world:
            engine = RolloutEngine(
                world.executor, ScorerSet(world.sandbox), RewardSettings(), settings
            )
            before = asyncio.all_tasks()
            rollouts = await engine.run(requests, **options)
            await world.client.aclose()  # until then it keeps what is paid for and on its way
            assert await leftovers(before) == []
            return rollouts

    return asyncio.run(batch())


def identity(rollouts: Sequence[Rollout]) -> list[tuple[int, int, str]]:
    return [(r.group, r.member, r.problem.id) for r in rollouts]


def timeless(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts without the times that things took."""
    return [
        replace(
            rollout,
            execution=replace(
                rollout.execution,
                seconds=0.0,
                calls=tuple(replace(call, seconds=0.0) for call in rollout.execution.calls),
            ),
        )
        for rollout in rollouts
    ]


# Requests


def test_requests_are_problem_major_and_chunks_keep_their_groups_apart() -> None:
    completions = [completion(f"text {b}") for b in range(6)]
    whole = make_requests(MATH[:3], completions, list(range(6)), group_size=2)
    assert [(r.group, r.member, r.seed, r.problem.id) for r in whole] == [
        (0, 0, 0, "math/0"), (0, 1, 1, "math/0"), (1, 0, 2, "math/1"),
        (1, 1, 3, "math/1"), (2, 0, 4, "math/2"), (2, 1, 5, "math/2"),
    ]  # fmt: skip
    chunks = [
        request
        for first in range(3)
        for request in make_requests(
            MATH[first : first + 1],
            completions[2 * first : 2 * first + 2],
            [2 * first, 2 * first + 1],
            group_size=2,
            first_group=first,
        )
    ]
    assert chunks == whole


@pytest.mark.parametrize(("completions", "seeds"), [(3, 4), (4, 3), (5, 5), (0, 0)])
def test_requests_that_do_not_fit_are_refused(completions: int, seeds: int) -> None:
    with pytest.raises(ValueError, match="2 problems x 2 need as many completions and seeds"):
        make_requests(MATH[:2], [KNOWS] * completions, list(range(seeds)), group_size=2)


def test_every_rollout_has_a_seed_of_its_own() -> None:
    places = list(itertools.product((0, 1), ("train", "val"), (0, 1), MATH[:2], (0, 1)))
    assert len({rollout_seed(*place) for place in places}) == len(places)


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"deadline_s": 0}, {"deadline_s": -1}])
def test_nonsense_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"rollout\.{next(iter(settings))}="):
        RolloutSettings(**settings)


# Order and time


def test_results_come_in_request_order_whatever_finishes_first(uneven_tier: Tier) -> None:
    requests = requests_for([*MATH, *QA], ASKS, PROSE, RAISES)
    finished: list[Rollout] = []
    rollouts = run(uneven_tier, requests, on_done=finished.append)
    assert identity(rollouts) == [(r.group, r.member, r.problem.id) for r in requests]
    assert identity(finished) != identity(rollouts), "the latencies did not shuffle anything"
    assert sorted(identity(finished)) == sorted(identity(rollouts))
    statuses = [[r.execution.status for r in rollouts[m::3]] for m in range(3)]
    assert [set(members) for members in statuses] == [
        {Status.OK}, {Status.INVALID}, {Status.ERROR}
    ]  # fmt: skip
    assert not any(r.masked for r in rollouts)


def test_timing_and_concurrency_change_nothing(tier: Tier, uneven_tier: Tier) -> None:
    gathers = "import asyncio\n" + body(
        "rs = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(3)])",
        "r = await self.sc_ensemble(solutions=[r['answer'] for r in rs], problem=problem)",
        "return r['response'], COST",
    )
    requests = requests_for([*MATH, *QA], completion(gathers), ASKS, RAISES, PROSE)
    wide = run(tier, requests, RolloutSettings(concurrency=28))
    narrow = run(uneven_tier, requests, RolloutSettings(concurrency=3))
    assert timeless(wide) == timeless(narrow)
    assert len({r.execution.answer for r in wide}) > 3, "nothing here could have differed"
    others = [replace(request, seed=request.seed + 1) for request in requests]
    assert timeless(run(tier, others)) != timeless(wide)


def test_what_misses_the_deadline_is_unavailable_and_cancelled(silent_tier: Tier) -> None:
    requests = requests_for(MATH[:2], PROSE, ASKS, KNOWS)
    finished: list[Rollout] = []
    settings = RolloutSettings(deadline_s=1.5)
    rollouts = run(silent_tier, requests, settings, on_done=finished.append)
    assert [r.execution.status for r in rollouts] == 2 * [
        Status.INVALID, Status.UNAVAILABLE, Status.OK
    ]  # fmt: skip
    late = rollouts[1]
    assert late.masked and late.execution.fault_kind is FaultKind.DEADLINE
    assert "rollout.deadline_s=1.5 passed" in late.execution.message
    assert late.reward.total == 0 and not late.score.correct
    assert late.completion is ASKS and (late.group, late.member) == (0, 1)
    assert len(finished) == 4


def test_what_still_waits_for_a_slot_at_the_deadline_is_unavailable_too(silent_tier: Tier) -> None:
    settings = RolloutSettings(concurrency=1, deadline_s=1.5)
    rollouts = run(silent_tier, requests_for(MATH[:1], KNOWS, ASKS, KNOWS), settings)
    statuses = [r.execution.status for r in rollouts]
    assert statuses == [Status.OK, Status.UNAVAILABLE, Status.UNAVAILABLE]


def test_cancelling_a_batch_leaves_nothing_running(silent_tier: Tier) -> None:
    async def batch() -> None:
        async with opened(silent_tier) as world:
            engine = RolloutEngine(world.executor, ScorerSet(world.sandbox), RewardSettings())
            before = asyncio.all_tasks()
            requests = requests_for(MATH[:3], ASKS, RAISES)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.run(requests), timeout=0.4)
            await world.client.aclose()  # until then it keeps what is paid for and on its way
            assert await leftovers(before) == []

    asyncio.run(batch())


class _Counting(WorkflowExecutor):
    """Counts how many of its executions are under way."""

    now = 0
    peak = 0

    async def execute(self, *args: Any, **options: Any) -> Execution:
        kind = type(self)
        kind.now += 1
        kind.peak = max(kind.peak, kind.now)
        try:
            return await super().execute(*args, **options)
        finally:
            kind.now -= 1


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_workflows_run_at_once_than_allowed(uneven_tier: Tier, concurrency: int) -> None:
    class Counting(_Counting):
        pass

    async def batch() -> None:
        async with opened(uneven_tier, executor=Counting) as world:
            settings = RolloutSettings(concurrency=concurrency)
            scorers = ScorerSet(world.sandbox)
            engine = RolloutEngine(world.executor, scorers, RewardSettings(), settings)
            await engine.run(requests_for(MATH, ASKS, RAISES))

    asyncio.run(batch())
    assert (Counting.peak, Counting.now) == (concurrency, 0)


# One by one


def test_a_submitted_workflow_runs_before_the_last_one_is_there(tier: Tier) -> None:
    first, second = requests_for(MATH[:2], ASKS)

    async def batch() -> list[Rollout]:
        async with opened(tier) as world:
            engine = RolloutEngine(world.executor, ScorerSet(world.sandbox), RewardSettings())
            over = asyncio.Event()
            stream = engine.stream(on_done=lambda _: over.set())
            results = asyncio.create_task(stream.results())
            stream.submit(second)
            await asyncio.wait_for(over.wait(), 30)
            assert not results.done(), "one more may come"
            stream.submit(first)
            stream.end()
            return await results

    assert identity(asyncio.run(batch())) == [(1, 0, "math/1"), (0, 0, "math/0")]


def test_batches_that_overlap_share_the_concurrency(uneven_tier: Tier) -> None:
    class Counting(_Counting):
        pass

    async def batches() -> None:
        async with opened(uneven_tier, executor=Counting) as world:
            settings = RolloutSettings(concurrency=2)
            engine = RolloutEngine(
                world.executor, ScorerSet(world.sandbox), RewardSettings(), settings
            )
            await asyncio.gather(*(engine.run(requests_for(MATH, ASKS)) for _ in range(2)))

    asyncio.run(batches())
    assert (Counting.peak, Counting.now) == (2, 0)


def test_the_deadline_counts_from_the_last_submission(silent_tier: Tier) -> None:
    async def batch() -> tuple[list[Rollout], bool, float]:
        async with opened(silent_tier) as world:
            settings = RolloutSettings(deadline_s=0.5)
            scorers = ScorerSet(world.sandbox)
            engine = RolloutEngine(world.executor, scorers, RewardSettings(), settings)
            stream = engine.stream()
            results = asyncio.create_task(stream.results())
            stream.submit(requests_for(MATH[:1], ASKS)[0])
            _, waiting = await asyncio.wait([results], timeout=1.0)
            started = asyncio.get_running_loop().time()
            stream.end()
            rollouts = await results
            return rollouts, bool(waiting), asyncio.get_running_loop().time() - started

    (late,), waited, seconds = asyncio.run(batch())
    assert waited and late.execution.fault_kind is FaultKind.DEADLINE
    assert seconds >= 0.5


def test_the_deadline_does_not_run_while_an_earlier_batch_has_the_slots(silent_tier: Tier) -> None:
    async def batches() -> list[list[Rollout]]:
        async with opened(silent_tier) as world:
            settings = RolloutSettings(concurrency=1, deadline_s=1.0)
            scorers = ScorerSet(world.sandbox)
            engine = RolloutEngine(world.executor, scorers, RewardSettings(), settings)
            earlier = requests_for(MATH[:1], ASKS)
            return await asyncio.gather(
                engine.run(earlier), engine.run(requests_for(MATH[1:2], KNOWS, ASKS))
            )

    statuses = [[r.execution.status for r in rollouts] for rollouts in asyncio.run(batches())]
    # The second batch has the time to itself that the first one took, and then no more of it.
    assert statuses == [[Status.UNAVAILABLE], [Status.OK, Status.UNAVAILABLE]]


class _BrokenFor(ScorerSet):
    """Broken for the first problem alone, or for all others."""

    broken_for_first = True

    async def score(self, problem: Problem, answer: str | None) -> Score:
        if (problem == MATH[0]) == self.broken_for_first:
            raise ZeroDivisionError("a bug of ours")
        return await super().score(problem, answer)


def test_a_batch_that_a_bug_has_ended_is_in_nobodys_way(silent_tier: Tier) -> None:
    async def batches() -> list[Rollout]:
        async with opened(silent_tier) as world:
            settings = RolloutSettings(concurrency=1)
            engine = RolloutEngine(
                world.executor, _BrokenFor(world.sandbox), RewardSettings(), settings
            )
            earlier = asyncio.create_task(engine.run(requests_for(MATH[:1], KNOWS, ASKS)))
            later = asyncio.create_task(engine.run(requests_for(MATH[1:2], KNOWS)))
            with pytest.raises(ZeroDivisionError, match="a bug of ours"):
                await asyncio.wait_for(earlier, 30)
            return await asyncio.wait_for(later, 10)

    assert [r.execution.status for r in asyncio.run(batches())] == [Status.OK]


def test_a_bug_ends_a_batch_at_once_that_waits_for_an_earlier_one(silent_tier: Tier) -> None:
    class Broken(_BrokenFor):
        broken_for_first = False

    async def batches() -> None:
        async with opened(silent_tier) as world:
            engine = RolloutEngine(world.executor, Broken(world.sandbox), RewardSettings())
            before = asyncio.all_tasks()
            earlier = asyncio.create_task(engine.run(requests_for(MATH[:1], ASKS)))
            later = asyncio.create_task(engine.run(requests_for(MATH[1:2], ASKS, KNOWS)))
            with pytest.raises(ZeroDivisionError, match="a bug of ours"):
                await asyncio.wait_for(later, 30)
            assert not earlier.done(), "its call takes minutes, and so may it"
            earlier.cancel()
            await world.client.aclose()
            assert await leftovers(before) == []

    asyncio.run(batches())


def test_a_bug_ends_a_batch_that_is_still_being_submitted(silent_tier: Tier) -> None:
    async def batch() -> None:
        async with opened(silent_tier) as world:
            engine = RolloutEngine(world.executor, _BrokenScorers(world.sandbox), RewardSettings())
            before = asyncio.all_tasks()
            stream = engine.stream()
            asks, knows = requests_for(MATH[:1], ASKS, KNOWS)
            stream.submit(asks)
            stream.submit(knows)
            with pytest.raises(ZeroDivisionError, match="a bug of ours"):
                await asyncio.wait_for(stream.results(), 30)
            stream.submit(asks)  # too late: nothing is started any more
            await world.client.aclose()
            assert await leftovers(before) == []

    asyncio.run(batch())


# Bugs, and what is nobody's fault


class _BrokenScorers(ScorerSet):
    async def score(self, problem: Problem, answer: str | None) -> Score:
        raise ZeroDivisionError("a bug of ours")


def test_a_bug_of_ours_ends_the_batch_at_once_and_cancels_the_rest(silent_tier: Tier) -> None:
    async def batch() -> None:
        async with opened(silent_tier) as world:
            engine = RolloutEngine(world.executor, _BrokenScorers(world.sandbox), RewardSettings())
            before = asyncio.all_tasks()
            with pytest.raises(ZeroDivisionError, match="a bug of ours"):
                # The others would wait for minutes, the deadline is 600 s.
                await asyncio.wait_for(engine.run(requests_for(MATH[:2], ASKS, KNOWS)), 30)
            await world.client.aclose()  # until then it keeps what is paid for and on its way
            assert await leftovers(before) == []

    asyncio.run(batch())


def test_a_row_without_gold_is_an_error_of_the_data(tier: Tier) -> None:
    with pytest.raises(DataError, match=r"'math/0' .*has no answer"):
        run(tier, requests_for([replace(MATH[0], answer=" ")], KNOWS))


def test_a_dead_endpoint_masks_every_rollout_that_needs_it() -> None:
    rollouts = run(closed_port_tier(), requests_for(MATH[:2], ASKS, KNOWS))
    assert [r.masked for r in rollouts] == [True, False] * 2
    assert rollouts[0].execution.fault_kind is FaultKind.ENDPOINT


# Scores, rewards and the fallback


def test_the_answer_is_scored_and_paid_by_domain(tier: Tier) -> None:
    right = [
        (MATH[0], written(f"return '{MATH[0].answer}', COST")),
        (QA[0], written("return 'Old Harbour', COST")),
        (CODE[0], written(f"return {CODE[0].answer!r}, COST")),
    ]
    requests = [RolloutRequest(p, c, 1, n, 0) for n, (p, c) in enumerate(right)]
    rollouts = run(tier, requests)
    assert [r.score.correct for r in rollouts] == [True, True, True]
    assert [r.reward.total for r in rollouts] == [10.0, 10.0, 10.0]
    crossed = [replace(request, completion=KNOWS) for request in requests]
    wrong = run(tier, crossed)
    assert [r.score.correct for r in wrong] == [False, False, False]
    assert [r.reward.total for r in wrong] == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("setting", "evaluation", "expected"),
    [
        ("never", True, False),
        ("evaluation", False, False),
        ("evaluation", True, True),
        ("always", False, True),
    ],
)
def test_the_fallback_answers_when_it_is_asked_for(
    tier: Tier, setting: Any, evaluation: bool, expected: bool
) -> None:
    (rollout,) = run(
        tier,
        requests_for(QA, RAISES),
        RolloutSettings(fallback=setting),
        evaluation=evaluation,
    )
    assert (rollout.execution.fallback_answer is not None) == expected
    assert (rollout.execution.fallback_usage.calls > 0) == expected


def test_the_fallback_is_never_rewarded(tier: Tier) -> None:
    requests = requests_for([*MATH, *QA, *CODE], RAISES, PROSE)
    alone = run(tier, requests, RolloutSettings(fallback="never"))
    rescued = run(tier, requests, RolloutSettings(fallback="always"))
    gold = {p.id: p.answer for p in WORLD}
    assert any(r.execution.fallback_answer == gold[r.problem.id] for r in rescued)
    assert [r.reward for r in rescued] == [r.reward for r in alone]
    assert [r.score for r in rescued] == [r.score for r in alone]
    assert not any(r.score.correct or r.execution.direct for r in rescued)


def test_inspection_asks_nobody_and_answers_nothing() -> None:
    async def batch() -> list[Rollout]:
        async with opened(closed_port_tier()) as world:
            engine = RolloutEngine(world.executor, ScorerSet(world.sandbox), RewardSettings())
            return await engine.inspect(requests_for(MATH[:1], ASKS, PROSE))

    sound, prose = asyncio.run(batch())
    assert sound.execution.direct and sound.execution.answer is None
    assert prose.execution.status is Status.INVALID
    assert sound.reward.total > prose.reward.total


def test_an_empty_batch_has_no_rollouts() -> None:
    assert run(closed_port_tier(), []) == []
