"""Executions: every status by its real cause, the fallback kept apart, usage that adds up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
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
    opened,
    written,
)

from aflow_grpo.errors import ConfigError
from aflow_grpo.execution import ExecutionSettings, inspect_completion
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Completion, Execution, FaultKind, Problem, Status, Usage
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.interpreter import InterpreterLimits

ANSWER = ("r = await self.answer_generate(input=problem)", 'return r["answer"], COST')
SOUND = written(*ANSWER)
LIMITS = InterpreterLimits(max_feed_s=0.2, max_operator_calls=4, max_memory_mb=16)


@pytest.fixture(scope="module")
def tier() -> Iterator[Tier]:
    with Simulator(WORLD, MARKERS) as simulator:
        yield simulator.tier()


@pytest.fixture(scope="module")
def silent_tier() -> Iterator[Tier]:
    """An endpoint whose replies take minutes."""
    with Simulator(WORLD, MARKERS, SimulatorSettings(latency_ms=1e6)) as simulator:
        yield simulator.tier()


def execute(
    tier: Tier,
    wanted: Completion,
    problem: Problem = MATH[0],
    *,
    fallback: bool = False,
    settings: ExecutionSettings | None = None,
) -> Execution:
    async def run() -> Execution:
        async with opened(tier, settings, LIMITS) as world:
            return await world.executor.execute(wanted, problem.visible, seed=7, fallback=fallback)

    return asyncio.run(run())


BUDGETS: list[tuple[str, Completion, InterpreterLimits, ExecutionSettings, Status, FaultKind]] = [
    (
        "interpreter time",
        written("while problem:", "    pass", "return problem, 0"),
        InterpreterLimits(max_feed_s=0.2),
        ExecutionSettings(),
        Status.TIMEOUT,
        FaultKind.TIME_LIMIT,
    ),
    (
        "operator calls",
        written("for _ in problem[:3]:", "    await self.custom(problem)", "return problem, 0"),
        InterpreterLimits(max_operator_calls=2),
        ExecutionSettings(),
        Status.TIMEOUT,
        FaultKind.CALL_BUDGET,
    ),
    (
        "memory",
        written("return len('x' * 10**8), 0"),
        InterpreterLimits(max_memory_mb=16),
        ExecutionSettings(),
        Status.ERROR,
        FaultKind.MEMORY_LIMIT,
    ),
    (
        "recursion",
        written("f = lambda n: 0 if n == 0 else f(n - 1)", "return f(60), 0"),
        InterpreterLimits(max_recursion=50),
        ExecutionSettings(),
        Status.ERROR,
        FaultKind.RECURSION_LIMIT,
    ),
    (
        "output",
        written("return 'x' * 101, 0"),
        InterpreterLimits(max_answer_chars=100),
        ExecutionSettings(),
        Status.ERROR,
        FaultKind.OUTPUT_LIMIT,
    ),
    (
        "wall time",
        SOUND,
        InterpreterLimits(),
        ExecutionSettings(timeout_s=0.3, total_timeout_s=0.4),
        Status.UNAVAILABLE,
        FaultKind.DEADLINE,
    ),
]
"""A budget, a workflow that goes over it, and how that ends."""


@pytest.mark.parametrize(
    ("wanted", "limits", "settings", "status", "kind"),
    [case[1:] for case in BUDGETS],
    ids=[case[0] for case in BUDGETS],
)
def test_every_budget_has_a_fault_kind_of_its_own(
    tier: Tier,
    silent_tier: Tier,
    wanted: Completion,
    limits: InterpreterLimits,
    settings: ExecutionSettings,
    status: Status,
    kind: FaultKind,
) -> None:
    async def run() -> Execution:
        endpoint = silent_tier if status is Status.UNAVAILABLE else tier
        async with opened(endpoint, settings, limits) as world:
            return await world.executor.execute(wanted, MATH[0].visible, seed=7, fallback=False)

    execution = asyncio.run(run())
    assert (execution.status, execution.fault_kind) == (status, kind)
    assert execution.answered_by == "none"


def test_every_budget_is_hit_by_one_case() -> None:
    kinds = [case[-1] for case in BUDGETS]
    assert len(set(kinds)) == len(kinds)


FAILING: list[tuple[str, Completion, Status, FaultKind, str]] = [
    (
        "raises",
        written("r = await self.answer_generate(input=problem)", "return r['answer'][9999], 0"),
        Status.ERROR,
        FaultKind.EXCEPTION,
        "line 4: IndexError",
    ),
    (
        "answers with a list",
        written("f = lambda: [problem]", "return f(), COST"),
        Status.ERROR,
        FaultKind.BAD_ANSWER,
        "list",
    ),
    (
        "hoards memory",
        written("x = 'y' * 10**6", "while problem:", "    x += x", "return x, 0"),
        Status.ERROR,
        FaultKind.MEMORY_LIMIT,
        "memory",
    ),
    (
        "spends its calls",
        written(
            "for _ in problem[:5]:",
            "    r = await self.custom(input=problem)",
            "return problem, COST",
        ),
        Status.TIMEOUT,
        FaultKind.CALL_BUDGET,
        "more than 4 operator calls",
    ),
    (
        "loops for ever",
        written("n = 0", "while problem:", "    n += 1", "return n, COST"),
        Status.TIMEOUT,
        FaultKind.TIME_LIMIT,
        "computed longer than allowed",
    ),
]


@pytest.mark.parametrize(
    ("wanted", "status", "kind", "message"),
    [case[1:] for case in FAILING],
    ids=[case[0] for case in FAILING],
)
def test_what_a_workflow_does_wrong_while_running_is_its_own_status(
    tier: Tier, wanted: Completion, status: Status, kind: FaultKind, message: str
) -> None:
    execution = execute(tier, wanted)
    assert (execution.status, execution.fault_kind) == (status, kind)
    assert message in execution.message
    assert execution.answer is None
    assert execution.source is not None
    assert not execution.findings
    assert not execution.direct


def test_a_workflow_that_runs_as_written_is_direct(tier: Tier) -> None:
    execution = execute(tier, SOUND)
    assert execution.status is Status.OK
    assert execution.fault_kind is None and execution.message == ""
    assert execution.answer == execution.calls[0].result["answer"]
    assert execution.direct
    assert execution.seconds > 0
    assert execution.fallback_answer is None and execution.fallback_usage == Usage()


INVALID: list[tuple[str, str, Problem, FaultKind, str]] = [
    ("prose", "I would ask the model.", MATH[0], FaultKind.NO_WORKFLOW, "found neither"),
    ("no return", body("x = 1"), MATH[0], FaultKind.BAD_RETURN, "return"),
    (
        "operator of another domain",
        body("r = await self.test(problem, 'x', 'f')", "return r['solution'], COST"),
        MATH[0],
        FaultKind.FORBIDDEN_OPERATOR,
        "test",
    ),
    (
        "imports",
        "import os\n" + body("return os.sep, 0"),
        MATH[0],
        FaultKind.FORBIDDEN_SYNTAX,
        "os",
    ),
]


@pytest.mark.parametrize(
    ("text", "problem", "kind", "message"),
    [case[1:] for case in INVALID],
    ids=[case[0] for case in INVALID],
)
def test_invalid_text_has_findings_and_runs_nothing(
    text: str, problem: Problem, kind: FaultKind, message: str
) -> None:
    # The endpoint is dead: an executor call would show as `unavailable`.
    execution = execute(closed_port_tier(), completion(text), problem)
    assert (execution.status, execution.fault_kind) == (Status.INVALID, kind)
    assert kind in {finding.kind for finding in execution.findings}
    assert message in execution.message
    assert execution.calls == () and execution.usage == Usage()


def test_a_cut_completion_does_not_run_even_where_its_text_is_whole(tier: Tier) -> None:
    execution = execute(tier, completion(SOUND.text, finished=False))
    assert (execution.status, execution.fault_kind) == (Status.CUT, FaultKind.LENGTH_LIMIT)
    assert execution.source is not None and execution.usage == Usage()
    cut_early = inspect_completion(completion(SOUND.text[:12], finished=False), MATH[0].visible)
    assert cut_early.status is Status.CUT and cut_early.source is None


def test_inspection_finds_what_execution_finds_and_has_no_answer() -> None:
    sound = inspect_completion(SOUND, MATH[0].visible)
    assert (sound.status, sound.answer, sound.calls) == (Status.OK, None, ())
    text = body("return (await self.test(problem, 'x', 'f'))['solution'], 0")
    assert inspect_completion(completion(text), MATH[0].visible).status is Status.INVALID
    assert inspect_completion(completion(text), CODE[0].visible).status is Status.OK


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_dead_endpoint_is_nobodys_fault(attempts: int) -> None:
    execution = execute(closed_port_tier(max_attempts=attempts, backoff_s=0.01), SOUND)
    assert (execution.status, execution.fault_kind) == (Status.UNAVAILABLE, FaultKind.ENDPOINT)
    assert "dead: no connection" in execution.message
    assert execution.answer is None
    assert execution.usage == Usage(attempts=attempts)


def test_a_workflow_cannot_catch_a_dead_endpoint() -> None:
    catching = written(
        "try:", "    r = await self.custom(input=problem)", "except Exception:", "    pass",
        "return problem, 0",
    )  # fmt: skip
    assert execute(closed_port_tier(), catching).status is Status.UNAVAILABLE


def test_a_slow_endpoint_is_nobodys_fault(silent_tier: Tier) -> None:
    settings = ExecutionSettings(timeout_s=0.3, total_timeout_s=0.5)
    execution = execute(silent_tier, SOUND, settings=settings, fallback=True)
    assert (execution.status, execution.fault_kind) == (Status.UNAVAILABLE, FaultKind.DEADLINE)
    assert execution.message == "The executor had not answered within 0.3 s."
    assert execution.fallback_answer is None and execution.answered_by == "none"
    assert execution.fallback_message.startswith("The executor had not answered within 0.")
    assert 0.5 <= execution.seconds < 5


def test_time_spent_computing_is_the_workflows_own_even_beside_a_slow_endpoint(
    silent_tier: Tier,
) -> None:
    loop = written(
        "task = self.custom(input=problem)", "while problem:", "    pass", "r = await task",
        "return r['response'], COST",
    )  # fmt: skip
    assert execute(silent_tier, loop).fault_kind is FaultKind.TIME_LIMIT


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the workflow:\n\n{SOUND.text}\n\nIt asks once.",
        json.dumps({"graph_code": "```python\n" + body(*ANSWER) + "```"}),
        SOUND.text[:-1] + ",}",
    ],
    ids=["prose around", "fence inside", "trailing comma"],
)
def test_a_repaired_workflow_runs_but_is_not_direct(tier: Tier, text: str) -> None:
    execution = execute(tier, completion(text))
    assert execution.status is Status.OK
    assert execution.answer is not None
    assert execution.source is not None and execution.source.repaired
    assert not execution.direct


@pytest.mark.parametrize("problem", [MATH[0], QA[0], CODE[0]], ids=lambda p: p.domain)
def test_the_fallback_answers_for_the_user_and_stays_apart(tier: Tier, problem: Problem) -> None:
    raising = written("r = await self.custom(input=problem)", "return r['response'][99999], 0")
    alone = execute(tier, raising, problem)
    rescued = execute(tier, raising, problem, fallback=True)
    assert rescued.status is Status.ERROR and rescued.answer is None and not rescued.direct
    assert rescued.fallback_answer
    assert (rescued.answered_by, rescued.fallback_message) == ("fallback", "")
    assert (rescued.fault_kind, rescued.message) == (alone.fault_kind, alone.message)
    assert alone.answered_by == "none"
    assert rescued.fallback_usage.calls >= 1
    assert rescued.usage == alone.usage and rescued.usage.calls == 1
    assert [call.operator for call in rescued.calls] == ["custom"]
    assert alone.fallback_answer is None and alone.fallback_usage == Usage()


@pytest.mark.parametrize("wanted", [completion("no"), completion(SOUND.text, finished=False)])
def test_the_fallback_also_answers_for_text_that_never_ran(tier: Tier, wanted: Completion) -> None:
    execution = execute(tier, wanted, fallback=True)
    assert execution.fallback_answer is not None and execution.fallback_usage.calls == 1
    assert execution.answered_by == "fallback"
    assert execution.answer is None and execution.usage == Usage()


def test_no_fallback_runs_beside_a_workflow_that_does() -> None:
    execution = execute(closed_port_tier(), written('return "42", COST'), fallback=True)
    assert (execution.status, execution.answer) == (Status.OK, "42")
    assert execution.answered_by == "own"
    assert execution.fallback_answer is None and execution.fallback_usage == Usage()


def test_calls_are_recorded_in_the_order_in_which_the_workflow_made_them(tier: Tier) -> None:
    # The programmer's code runs in the sandbox, so it ends after the two that were made later.
    wanted = written(
        "p, a, c = await asyncio.gather(self.programmer(problem=problem), "
        "self.answer_generate(input=problem), self.custom(input=problem, instruction='Briefly.'))",
        "last = await self.review(problem=problem, solution=p['output'])",
        "return a['answer'] if last['review_result'] else c['response'], COST",
    )
    code = json.loads(wanted.text)["graph_code"]
    execution = execute(tier, completion("import asyncio\n" + code))
    assert execution.status is Status.OK
    names = [call.operator for call in execution.calls]
    assert names == ["programmer", "answer_generate", "custom", "review"]
    assert execution.calls[2].arguments == {"input": MATH[0].text, "instruction": "Briefly."}
    assert all(call.usage.calls >= 1 and call.tiers for call in execution.calls)
    assert sum((call.usage for call in execution.calls), Usage()) == rounded(execution.usage)


def test_prompts_reach_their_operators(tier: Tier) -> None:
    wanted = written(
        "r = await self.custom(input=problem)", "return r['response'], COST", custom="Be terse."
    )
    (call,) = execute(tier, wanted).calls
    assert call.arguments["instruction"] == "Be terse."


def test_usage_of_a_failing_workflow_is_counted(tier: Tier) -> None:
    wanted = written(
        "a = await self.custom(input=problem)", "b = await self.custom(input=problem)",
        "return a['response'][99999], COST",
    )  # fmt: skip
    execution = execute(tier, wanted)
    assert execution.status is Status.ERROR
    assert execution.usage.calls == 2 and execution.usage.cost_usd > 0
    assert sum((call.usage for call in execution.calls), Usage()) == rounded(execution.usage)


def test_a_workflow_sees_its_own_cost_and_no_other(tier: Tier) -> None:
    busy = written("for _ in range(3):", "    r = await self.custom(problem)", "return COST, COST")
    idle = written("return COST, COST")

    async def run() -> tuple[list[Execution], Usage]:
        async with opened(tier) as world:
            first = await world.executor.execute(busy, MATH[0].visible, seed=1, fallback=False)
            together = await asyncio.gather(
                *(
                    world.executor.execute(wanted, MATH[n].visible, seed=n, fallback=False)
                    for n, wanted in enumerate((busy, idle, busy, idle))
                )
            )
            return [first, *together], world.client.usage

    executions, spent = asyncio.run(run())
    for execution in executions:
        assert execution.answer is not None
        assert float(execution.answer) == pytest.approx(execution.usage.cost_usd)
    costs = [execution.usage.cost_usd for execution in executions]
    assert costs[2] == costs[4] == 0 < min(costs[0], costs[1], costs[3])
    assert spent.cost_usd == pytest.approx(sum(costs))


def test_the_same_seed_gives_the_same_execution_and_another_seed_another_draw(tier: Tier) -> None:
    wanted = written(
        "rs = [await self.answer_generate(input=problem) for _ in range(3)]",
        "return ' | '.join(r['thought'] for r in rs), COST",
    )

    async def run() -> list[str | None]:
        async with opened(tier) as world:
            runs = [
                await world.executor.execute(wanted, MATH[2].visible, seed=seed, fallback=False)
                for seed in (5, 5, 6)
            ]
            return [execution.answer for execution in runs]

    first, again, other = asyncio.run(run())
    assert first == again != other


class _BrokenSandbox(Sandbox):
    """Fails in a way that the clock of an execution could be taken for."""

    async def evaluate(self, *args: Any, **options: Any) -> Any:
        raise TimeoutError("a bug of ours")


def test_a_bug_of_ours_is_not_taken_for_the_endpoints_slowness(tier: Tier) -> None:
    wanted = written("r = await self.programmer(problem=problem)", "return r['output'], COST")

    async def run() -> None:
        async with opened(tier, sandbox=_BrokenSandbox(workers=1)) as world:
            await world.executor.execute(wanted, MATH[0].visible, seed=1, fallback=True)

    with pytest.raises(TimeoutError, match="a bug of ours"):
        asyncio.run(run())


@pytest.mark.parametrize(("timeout_s", "total_timeout_s"), [(0, 10), (-1, 10), (20, 10)])
def test_clocks_that_contradict_each_other_are_refused(
    timeout_s: float, total_timeout_s: float
) -> None:
    with pytest.raises(ConfigError, match=r"execution\.timeout_s=.*0 < timeout_s <= total_timeout"):
        ExecutionSettings(timeout_s, total_timeout_s)


def rounded(usage: Usage) -> Usage:
    """`usage`, with costs that may differ by rounding."""
    return Usage(
        usage.calls, usage.attempts, usage.prompt_tokens, usage.completion_tokens,
        pytest.approx(usage.cost_usd), pytest.approx(usage.billed_usd),
    )  # fmt: skip
