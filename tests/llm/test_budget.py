"""The budget: never passed, whoever is in flight; real HTTP against a server that bills in full."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from executed_world import MATH, written
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_endpoint import Response, completion, error, scripted
from switchable_endpoint import switchable, until

from aflow_grpo.errors import AFlowError, BudgetSpent, ConfigError, RolloutFault
from aflow_grpo.execution import WorkflowExecutor
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutEngine, make_requests
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.workflow.interpreter import Interpreter

CENT = Decimal("0.01")


def test_a_call_waits_while_only_others_reservations_are_in_the_way() -> None:
    async def scenario() -> None:
        budget = Budget(0.02)
        await budget.reserve(CENT)
        await budget.reserve(CENT)
        third = asyncio.create_task(budget.reserve(CENT))
        await asyncio.sleep(0)
        assert not third.done() and budget.reserved_usd == 0.02
        budget.settle(CENT, Decimal("0.001"))
        await asyncio.sleep(0)
        assert not third.done(), "0.001 + 0.01 + 0.01 is too much"
        budget.settle(CENT, Decimal("0.002"))
        await third
        assert (budget.spent_usd, budget.reserved_usd) == (0.003, 0.01)

    asyncio.run(scenario())


def test_ranks_divide_what_is_left_and_never_pass_the_limit_together() -> None:
    """0.10 USD, 0.04 spent before, by whichever of then three ranks: 0.03 for each of two."""

    async def scenario() -> str:
        ranks = [Budget(0.10, ranks=2) for _ in range(2)]
        for budget in ranks:
            budget.begin(0.04)
            for _ in range(3):
                await budget.reserve(CENT)
                budget.settle(CENT, CENT)
            with pytest.raises(BudgetSpent) as caught:
                await budget.reserve(Decimal("0.0000001"))
            assert budget.spent_usd == 0.07 and budget.limit_usd == 0.10
        return str(caught.value)

    message = asyncio.run(scenario())
    assert "0.070000 USD are spent and 0.030000 USD are for other ranks, and the next" in message


def test_of_a_spent_budget_no_rank_gets_anything() -> None:
    async def scenario() -> None:
        budget = Budget(0.01, 0.02, ranks=4)
        with pytest.raises(BudgetSpent, match=r"0\.020000 USD are spent, and the next call"):
            await budget.reserve(CENT)

    asyncio.run(scenario())


def test_when_waiting_cannot_help_the_run_is_over_and_is_told_how_to_go_on() -> None:
    async def scenario() -> str:
        budget = Budget(0.02, spent_usd=0.0125)
        with pytest.raises(BudgetSpent) as caught:
            await budget.reserve(CENT)
        with pytest.raises(BudgetSpent):
            budget.check()
        with pytest.raises(BudgetSpent):
            await budget.reserve(Decimal("0.000001"))  # it would fit, but the run is ending
        return str(caught.value)

    message = asyncio.run(scenario())
    assert issubclass(BudgetSpent, AFlowError) and not issubclass(BudgetSpent, RolloutFault)
    for part in ("llm.budget_usd=0.02", "0.012500 USD", "0.010000 USD", "--ckpt_path last"):
        assert part in message


def test_those_who_wait_are_refused_when_what_came_back_was_too_little() -> None:
    async def scenario() -> None:
        budget = Budget(0.02)
        await budget.reserve(2 * CENT)
        waiting = [asyncio.create_task(budget.reserve(CENT)) for _ in range(3)]
        await asyncio.sleep(0)
        budget.settle(2 * CENT, Decimal("0.015"))
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [BudgetSpent] * 3
        assert (budget.spent_usd, budget.reserved_usd) == (0.015, 0.0)

    asyncio.run(scenario())


def test_a_caller_that_leaves_the_queue_holds_nothing() -> None:
    async def scenario() -> None:
        budget = Budget(0.02)
        await budget.reserve(2 * CENT)
        first = asyncio.create_task(budget.reserve(2 * CENT))
        second = asyncio.create_task(budget.reserve(CENT))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        budget.settle(2 * CENT, Decimal(0))
        late = asyncio.create_task(budget.reserve(CENT))
        await second
        await late
        assert budget.reserved_usd == 0.02
        granted = asyncio.create_task(budget.reserve(CENT))
        await asyncio.sleep(0)
        budget.settle(CENT, Decimal(0))  # lets it through ...
        granted.cancel()  # ... in the moment in which it leaves
        await asyncio.gather(granted, return_exceptions=True)
        assert budget.reserved_usd == 0.01

    asyncio.run(scenario())


def test_no_limit_counts_and_never_refuses() -> None:
    async def scenario() -> None:
        budget = Budget(None)
        await budget.reserve(10**9 * CENT)
        budget.settle(10**9 * CENT, CENT)
        assert (budget.spent_usd, budget.limit_usd) == (0.01, None)

    asyncio.run(scenario())
    with pytest.raises(ConfigError, match=r"llm\.budget_usd=0"):
        Budget(0)


@settings(max_examples=12, deadline=None)
@given(
    limit_usd=st.floats(0.0005, 0.01),
    calls=st.integers(1, 30),
    max_tokens=st.integers(50, 2048),
    failing=st.integers(0, 3),
    concurrent=st.integers(1, 20),
)
def test_what_the_server_bills_never_passes_the_limit(
    limit_usd: float, calls: int, max_tokens: int, failing: int, concurrent: int
) -> None:
    """Every reply has `max_tokens` tokens, and a prompt of one token a byte; some break off."""
    billed = [Decimal(0)]

    def script(index: int) -> Response:
        billed[0] += (Decimal("0.15") * 60 + Decimal("0.60") * max_tokens) / 10**6
        if failing and index % (failing + 1) == 0:
            return 200, {}, "<html>half a repl"  # paid for, and no reply
        return completion("x", prompt_tokens=60, completion_tokens=max_tokens)

    async def run() -> tuple[list[BaseException | str], float]:
        budget = Budget(limit_usd)
        async with scripted(script) as endpoint:
            tier = endpoint.tier(max_concurrent=concurrent, max_tokens=max_tokens, backoff_s=0)
            client = ExecutorClient([tier], budget=budget)
            asked = (client.session(n)("é" * 28) for n in range(calls))
            ends = await asyncio.gather(*asked, return_exceptions=True)
            await client.aclose()
        assert budget.reserved_usd == 0.0
        return ends, budget.spent_usd

    ends, spent_usd = asyncio.run(run())
    assert all(isinstance(end, str | BudgetSpent | RolloutFault) for end in ends)
    assert billed[0] <= Decimal(str(limit_usd))
    assert float(billed[0]) <= spent_usd + 1e-12 <= limit_usd + 2e-12


def test_what_is_in_flight_is_finished_and_kept_before_anybody_is_told(tmp_path: Path) -> None:
    """Three calls fit; the fourth ends the run, when the three are in the journal."""
    journal = Journal(tmp_path / "j.db")

    async def run() -> None:
        async with scripted([completion("x", prompt_tokens=10, completion_tokens=1000)]) as server:
            tier = server.tier(max_tokens=1000)
            budget = Budget(0.0019)
            client = ExecutorClient([tier], journal=journal, run="r", budget=budget)
            calls = [asyncio.create_task(client.session(n)("x")) for n in range(6)]
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
            assert any(call.exception() for call in done)
            assert len(journal) == 3
            assert journal.billed_usd("r") == pytest.approx(budget.spent_usd, rel=1e-12)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(end, BudgetSpent) for end in ends) == 3
            assert len(server.requests) == 3
            answered = [n for n, end in enumerate(ends) if end == "x"]
            assert [await client.session(n)("x") for n in answered] == ["x"] * 3, "hits are free"
            await client.aclose()

    asyncio.run(run())
    journal.close()


def test_the_one_that_is_refused_is_told_when_the_others_have_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> None:
        async with switchable() as server:
            client = ExecutorClient([server.tier()], journal=journal, budget=Budget(0.001))
            small = asyncio.create_task(client.session(1)("x", max_tokens=10))
            await until(lambda: server.arrived == 1)
            large = asyncio.create_task(client.session(2)("x", max_tokens=2000))
            await asyncio.sleep(0.05)
            assert not large.done(), "a call is on its way"
            server.open.set()
            with pytest.raises(BudgetSpent):
                await large
            assert len(journal) == 1
            assert await small == "hello"
            await client.aclose()

    asyncio.run(run())
    journal.close()


def test_attempts_before_the_last_one_are_on_the_bill_and_in_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    async def run() -> float:
        async with scripted([(200, {}, "broken"), error(503)]) as server:
            tier = server.tier(max_tokens=1000, max_attempts=9)
            budget = Budget(0.0009)
            client = ExecutorClient([tier], journal=journal, run="r", budget=budget)
            with pytest.raises(BudgetSpent):
                await client.session(1)("x")
            await client.aclose()
            assert len(server.requests) == 1, "the second could pass the limit"
            return budget.spent_usd

    spent_usd = asyncio.run(run())
    assert 0.0006 < spent_usd < 0.0007, "the first may have been charged in full"
    assert journal.billed_usd("r") == pytest.approx(spent_usd, rel=1e-12)
    journal.close()


WORKFLOWS = {
    "caught by the workflow": (
        "try:",
        "    await self.review(problem=problem, solution='1')",
        "except Exception:",
        "    pass",
        "return 'none the wiser', COST",
    ),
    "one of five votes": (
        "r = await self.md_ensemble(solutions=['1', '2', '3'], problem=problem)",
        "return r['solution'], COST",
    ),
    "side by side": (
        "import asyncio",
        "calls = [self.custom(input=problem, instruction=str(n)) for n in range(3)]",
        "r = await asyncio.gather(*calls, return_exceptions=True)",
        "return 'none the wiser', COST",
    ),
}


@pytest.mark.parametrize("lines", list(WORKFLOWS.values()), ids=list(WORKFLOWS))
def test_no_workflow_and_no_operator_can_hide_that_the_money_is_spent(
    lines: tuple[str, ...],
) -> None:
    """From the call through session, operator, interpreter, execution and batch to the run."""

    async def run() -> int:
        async with scripted([completion("x", prompt_tokens=10, completion_tokens=1000)]) as server:
            budget = Budget(0.0015)  # two calls
            client = ExecutorClient([server.tier(max_tokens=1000)], budget=budget)
            async with Sandbox(workers=1) as sandbox, Interpreter(workers=4) as interpreter:
                executor = WorkflowExecutor(client, interpreter, sandbox)
                async with ScorerSet(sandbox) as scorers:
                    engine = RolloutEngine(executor, scorers, RewardSettings())
                    requests = make_requests(
                        MATH[:1], [written(*lines)] * 6, list(range(6)), group_size=6
                    )
                    with pytest.raises(BudgetSpent, match=r"llm\.budget_usd"):
                        await engine.run(requests)
            await client.aclose()
            assert budget.reserved_usd == 0.0
            return len(server.requests)

    assert asyncio.run(run()) == 2
