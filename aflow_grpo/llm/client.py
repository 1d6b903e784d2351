"""The chain of tiers behind one call, with the journal in front of it.

A call is looked up in the journal, joins an equal call that is already in flight, or asks the tiers
in order until one answers. When none does, it is `unavailable`: nobody's fault. What each tier made
of it is in the journal before anybody uses it. A caller may leave at any time (a deadline passes):
what is on its way then is paid for, so it is awaited and kept all the same.

Not here: HTTP and retries (`endpoint`), seeds and a rollout's own counts (`session`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from aflow_grpo.errors import BudgetSpent, Unavailable, WorkflowFault
from aflow_grpo.llm.breaker import CircuitBreaker
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.chat import request_body
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.ledger import Ledger
from aflow_grpo.llm.prices import find_price
from aflow_grpo.llm.progress import Progress
from aflow_grpo.llm.session import Formatter, LLMSession, Reply, Request, SpendLimits
from aflow_grpo.llm.tiers import Tier, check_tiers, resolve_key
from aflow_grpo.records import FaultKind, Usage

if TYPE_CHECKING:
    from aflow_grpo.llm.endpoint import AttemptFailed, Endpoint

__all__ = ["ExecutorClient", "Formatter", "LLMSession", "TierCounters"]

_LOG = logging.getLogger(__name__)
_CHECK = Request("Hi", "", seed=0, max_tokens=1)
_BREAKER_THRESHOLD = 5
_BREAKER_COOLDOWN_S = 30.0


@dataclass(frozen=True)
class TierCounters:
    """What one tier did since the client was made."""

    answered: int = 0
    failed: int = 0
    """Calls that went on to the next tier, or got no answer at all."""
    attempts: int = 0
    """HTTP attempts."""
    share: float = 0.0
    """Of all answered calls, those that this tier answered; 0 to 1."""


@dataclass
class _Flight:
    """One request on its way, and how many wait for it."""

    task: asyncio.Task[Reply]
    progress: Progress
    waiting: int = 0
    paid: bool = False
    """Whether a waiter has been charged for it."""


class ExecutorClient:
    """The executor of a whole run; used inside one event loop.

    Args:
        tiers: Asked in this order.
        journal: Answers what was asked before, and keeps every call; the caller closes it.
        cache: Which of its rows may answer: none, those of `run`, or those of any run.
        run: Whose rows the calls are.
        scope: Of this client's keys in the journal; see `journal.request_key`.
        api_keys: Tier name -> key, the last of the three places that are looked in.
        budget: What the run may pay, perhaps shared with another client; None for no limit.
        limits: What each session and its branches may consume.
        breaker_threshold: Failures in a row that take a tier out of use; the last tier stays in
            use, since failing at once would turn a short outage into lost rollouts.
        breaker_cooldown_s: For how long.
        clock: Monotonic seconds, for the circuit breakers.

    Raises:
        ConfigError: The chain is empty or has doubled names.
        ExecutorError: A tier has no key, or its model no price.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        *,
        journal: Journal | None = None,
        cache: Literal["off", "run", "shared"] = "run",
        run: str = "",
        scope: str = "",
        api_keys: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        limits: SpendLimits = SpendLimits(),
        breaker_threshold: int = _BREAKER_THRESHOLD,
        breaker_cooldown_s: float = _BREAKER_COOLDOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_tiers(tiers)
        self._tiers = tuple(tiers)
        self._prices = [
            find_price(tier.model, tier.price, key=f"{tier.config_key(index)}.price")
            for index, tier in enumerate(tiers)
        ]
        self._keys = [resolve_key(tier, index, keys=api_keys) for index, tier in enumerate(tiers)]
        self._breakers = [
            CircuitBreaker(breaker_threshold, breaker_cooldown_s, clock) for _ in tiers
        ]
        self._ledger = Ledger(journal, cache, run, scope)
        self._budget = budget or Budget(None)
        self._limits = limits
        self._endpoints: list[Endpoint] | None = None
        self._flights: dict[bytes, _Flight] = {}
        self._usage = Usage()
        self._told = False
        self._counters = {tier.name: TierCounters() for tier in tiers}

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The chain, in order."""
        return self._tiers

    @property
    def usage(self) -> Usage:
        """What all sessions consumed so far."""
        return self._usage

    @property
    def counters(self) -> dict[str, TierCounters]:
        """Tier name -> what it did."""
        answered = sum(counters.answered for counters in self._counters.values())
        return {
            name: replace(counters, share=counters.answered / max(1, answered))
            for name, counters in self._counters.items()
        }

    def join_run(self, run: str) -> None:
        """The calls from here on are rows of `run`."""
        self._ledger.run = run

    def session(self, seed: int) -> LLMSession:
        """A session whose calls' seeds are derived from `seed`; sessions share no counts."""
        return LLMSession(self.ask, seed, self._limits)

    async def check(self) -> None:
        """Ask every tier for one token by a request like any other, but not journaled.

        Some nine tokens a tier, 0.000002 USD for gpt-4o-mini; `usage` counts what was billed. A
        tier that fails while another one answers is warned of.

        Raises:
            ExecutorError: No tier answered; the message says of each why, and what to do.
            BudgetSpent: There is no money left even for that.
        """
        from aflow_grpo.llm.check import ask_once, judge  # imports openai

        parts = zip(self._tiers, self._keys, self._prices, strict=True)
        outcomes = await asyncio.gather(
            *(
                ask_once(*part, request_body(part[0], _CHECK, structured=False), self._budget)
                for part in parts
            )
        )
        for outcome in outcomes:
            self._count_spending(outcome.usage)
        judge(self._tiers, [outcome.failure for outcome in outcomes])

    async def drain(self) -> None:
        """Wait until nothing is in flight any more, what nobody waits for included."""
        tasks = [flight.task for flight in self._flights.values()]
        if tasks:
            await asyncio.wait(tasks)

    async def aclose(self) -> None:
        """Cancel what is in flight, close the connections, flush the journal."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        endpoints, self._endpoints = self._endpoints or [], None
        for endpoint in endpoints:
            await endpoint.aclose()
        await self._ledger.flush()

    async def ask(self, request: Request) -> Reply:
        """The reply to one request with a seed of its own; a fault is returned, not raised.

        Raises:
            BudgetSpent: The run may pay no more; what else was in flight has ended by then.
            ExecutorError: The journal cannot be written.
        """
        bodies = [
            request_body(tier, request, structured=tier.structured_outputs != "off")
            for tier in self._tiers
        ]
        keys = self._ledger.keys(bodies)
        reply = self._ledger.recall(keys, request)
        if reply is not None:
            _LOG.debug("The journal answers %s, call %s.", request.operator, request.place)
        else:
            try:
                reply = await self._join(request, bodies, keys)
            except BudgetSpent:
                await self.drain()
                raise
        self._usage += replace(reply.usage, attempts=0, billed_usd=0.0)
        return reply

    def _count_spending(self, usage: Usage) -> None:
        """At the moment of an outcome: whoever waits for it may be cancelled, paid it is."""
        self._usage += Usage(attempts=usage.attempts, billed_usd=usage.billed_usd)

    async def _join(
        self, request: Request, bodies: Sequence[dict[str, Any]], keys: Sequence[bytes]
    ) -> Reply:
        """Send the request, or wait for an equal one; the first to be served pays."""
        key = keys[0]
        flight = self._flights.get(key)
        if flight is None:
            progress = Progress()
            task = asyncio.create_task(self._ask_tiers(request, bodies, keys, progress))
            flight = self._flights[key] = _Flight(task, progress)
            task.add_done_callback(partial(self._landed, key))
        flight.waiting += 1
        flight.progress.abandoned = False
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._abandon(key, flight)
        if flight.paid:
            return replace(reply, usage=replace(reply.usage, attempts=0, billed_usd=0.0))
        flight.paid = True
        return reply

    def _abandon(self, key: bytes, flight: _Flight) -> None:
        """Nobody is left who wants to know."""
        if flight.progress.sent:
            flight.progress.abandoned = True
        else:
            del self._flights[key]  # an equal call from now on needs a flight of its own
            flight.task.cancel()

    def _landed(self, key: bytes, task: asyncio.Task[Reply]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # told to those who waited; perhaps nobody did

    async def _ask_tiers(
        self,
        request: Request,
        bodies: Sequence[dict[str, Any]],
        keys: Sequence[bytes],
        progress: Progress,
    ) -> Reply:
        spent = Usage()
        failures: list[tuple[str, AttemptFailed]] = []
        last = len(self._tiers) - 1
        for index, endpoint in enumerate(self._open()):
            tier = endpoint.tier
            progress.begin()
            keep = partial(self._ledger.keep, keys[index], tier, request, progress)
            try:
                outcome = await endpoint.ask(
                    bodies[index],
                    skippable=index < last,
                    plain=_plain(tier, request),
                    progress=progress,
                )
            except (asyncio.CancelledError, BudgetSpent) as error:
                self._count_spending(progress.usage)
                await keep(progress.usage, fault=f"cut off ({type(error).__name__})")
                raise
            spent += outcome.usage
            self._count_spending(outcome.usage)
            self._tally(tier.name, outcome.usage)
            await keep(
                outcome.usage,
                reply=outcome.text,
                finish_reason=outcome.finish_reason,
                cached_tokens=outcome.cached_tokens,
                fault=str(outcome.failure or ""),
            )
            if outcome.text is not None:
                self._told = False
                _LOG.debug(
                    "Tier %r answers %s, call %s, attempt %d.",
                    *(tier.name, request.operator or "the policy", request.place),
                    outcome.usage.attempts,
                )
                return Reply(
                    outcome.text,
                    spent,
                    tier.name,
                    tier.model,
                    finish_reason=outcome.finish_reason,
                    structured=outcome.structured,
                )
            assert outcome.failure is not None
            failures.append((tier.name, outcome.failure))
            # Once, not for every call of an outage: the rollouts that are lost are counted.
            level = logging.INFO if index < last or self._told else logging.WARNING
            self._told = self._told or index == last
            _LOG.log(level, "Tier %r gave no answer: %s.", tier.name, outcome.failure)
            if progress.abandoned:
                break
        return Reply("", spent, fault=_fault(failures))

    def _open(self) -> list[Endpoint]:
        if self._endpoints is None:
            # Here, not above: openai takes a second to import, and its client wants the loop.
            from aflow_grpo.llm.endpoint import Endpoint

            stand_ins = [*(tier.name for tier in self._tiers[1:]), ""]
            parts = zip(self._tiers, self._keys, self._prices, self._breakers, strict=True)
            self._endpoints = [
                Endpoint(*part, budget=self._budget, stand_in=stand_in)
                for part, stand_in in zip(parts, stand_ins, strict=True)
            ]
        return self._endpoints

    def _tally(self, name: str, usage: Usage) -> None:
        old = self._counters[name]
        self._counters[name] = TierCounters(
            old.answered + usage.calls,
            old.failed + (usage.calls == 0),
            old.attempts + usage.attempts,
        )
        if usage.calls and not old.answered:
            _LOG.info("Tier %r answers.", name)


def _plain(tier: Tier, request: Request) -> dict[str, Any] | None:
    """The body without a JSON schema, where there is one that may be refused."""
    if request.form is None or tier.structured_outputs != "auto":
        return None
    return request_body(tier, request, structured=False)


def _fault(failures: Sequence[tuple[str, AttemptFailed]]) -> Unavailable | WorkflowFault:
    if all(failure.too_long for _, failure in failures):
        message = "The workflow's prompt does not fit the executor's context."
        return WorkflowFault(FaultKind.EXCEPTION, message)
    told = "; ".join(f"{name}: {failure}" for name, failure in failures)
    return Unavailable(FaultKind.ENDPOINT, f"No endpoint answered ({told}).")
