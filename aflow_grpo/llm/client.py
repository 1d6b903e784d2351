"""The chain of tiers behind one call, with the journal in front of it.

A call is looked up in the journal, joins an equal call that is already in flight, or asks the tiers
in order until one answers. When none does, it is `unavailable`: nobody's fault. Not here: HTTP and
retries (`endpoint`), seeds and a rollout's own counts (`session`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aflow_grpo.errors import Unavailable, WorkflowFault
from aflow_grpo.llm.breaker import CircuitBreaker
from aflow_grpo.llm.journal import Entry, Journal, request_key
from aflow_grpo.llm.prices import find_price
from aflow_grpo.llm.session import Formatter, LLMSession, Reply, Request
from aflow_grpo.llm.tiers import Tier, check_tiers, resolve_key
from aflow_grpo.records import FaultKind, Usage

if TYPE_CHECKING:
    from aflow_grpo.llm.endpoint import AttemptFailed, Endpoint, Outcome

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


@dataclass
class _Flight:
    """One request on its way, and how many wait for it."""

    task: asyncio.Task[Reply]
    waiting: int = 0
    paid: bool = False
    """Whether a waiter has been charged for it."""


class ExecutorClient:
    """The executor of a whole run; used inside one event loop.

    Args:
        tiers: Asked in this order.
        journal: Answers what was asked before, and keeps every answer; the caller closes it.
        scope: Of this client's keys in the journal; see `journal.request_key`.
        api_keys: Tier name -> key, the last of the three places that are looked in.
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
        scope: str = "",
        api_keys: Mapping[str, str] | None = None,
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
        self._journal = journal
        self._scope = scope
        self._endpoints: list[Endpoint] | None = None
        self._flights: dict[bytes, _Flight] = {}
        self._usage = Usage()
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
        return dict(self._counters)

    def session(self, seed: int) -> LLMSession:
        """A session whose calls' seeds are derived from `seed`; sessions share no counts."""
        return LLMSession(self.ask, seed)

    async def check(self) -> None:
        """Ask every tier for one token by a request like any other, but not journaled.

        Some nine tokens a tier, 0.000002 USD for gpt-4o-mini; `usage` counts what was billed. A
        tier that fails while another one answers is warned of.

        Raises:
            ExecutorError: No tier answered; the message says of each why, and what to do.
        """
        from aflow_grpo.llm.check import ask_once, judge  # imports openai

        parts = zip(self._tiers, self._keys, self._prices, strict=True)
        outcomes = await asyncio.gather(
            *(ask_once(*part, _body(part[0], _CHECK)) for part in parts)
        )
        for outcome in outcomes:
            self._count_spending(outcome.usage)
        judge(self._tiers, [outcome.failure for outcome in outcomes])

    async def aclose(self) -> None:
        """Cancel what is in flight, close the connections, flush the journal."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        endpoints, self._endpoints = self._endpoints or [], None
        for endpoint in endpoints:
            await endpoint.aclose()
        if self._journal is not None:
            await asyncio.to_thread(self._journal.flush)

    async def ask(self, request: Request) -> Reply:
        """The reply to one request with a seed of its own; a fault is returned, not raised."""
        bodies = [_body(tier, request) for tier in self._tiers]
        keys = [request_key(body, self._scope) for body in bodies]
        reply = self._recall(keys)
        if reply is None:
            reply = await self._join(bodies, keys)
        self._usage += replace(reply.usage, attempts=0, billed_usd=0.0)
        return reply

    def _count_spending(self, usage: Usage) -> None:
        """At the moment of an outcome: whoever waits for it may be cancelled, paid it is."""
        self._usage += Usage(attempts=usage.attempts, billed_usd=usage.billed_usd)

    def _recall(self, keys: Sequence[bytes]) -> Reply | None:
        """The journal's answer. All tiers' keys are tried: a lower tier may have stood in."""
        if self._journal is None:
            return None
        for key in keys:
            entry = self._journal.get(key)
            if entry is not None:
                tokens = (entry.prompt_tokens, entry.completion_tokens)
                usage = Usage(1, 0, *tokens, cost_usd=entry.cost_usd, billed_usd=0.0)
                return Reply(entry.reply, usage, entry.tier, finish_reason=entry.finish_reason)
        return None

    async def _join(self, bodies: Sequence[dict[str, Any]], keys: Sequence[bytes]) -> Reply:
        """Send the request, or wait for an equal one; the first to be served pays."""
        flight = self._flights.get(keys[0])
        if flight is None:
            flight = _Flight(asyncio.create_task(self._ask_tiers(bodies, keys)))
            self._flights[keys[0]] = flight
        flight.waiting += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:  # answered, or nobody is left who wants to know
                self._flights.pop(keys[0], None)
                flight.task.cancel()
        if flight.paid:
            return replace(reply, usage=replace(reply.usage, attempts=0, billed_usd=0.0))
        flight.paid = True
        return reply

    async def _ask_tiers(self, bodies: Sequence[dict[str, Any]], keys: Sequence[bytes]) -> Reply:
        spent = Usage()
        failures: list[tuple[str, AttemptFailed]] = []
        last = len(self._tiers) - 1
        for index, endpoint in enumerate(self._open()):
            name = endpoint.tier.name
            outcome = await endpoint.ask(bodies[index], skippable=index < last)
            spent += outcome.usage
            self._count_spending(outcome.usage)
            self._tally(name, outcome.usage)
            if outcome.text is not None:
                self._keep(keys[index], endpoint.tier, outcome, outcome.text)
                return Reply(outcome.text, spent, name, finish_reason=outcome.finish_reason)
            assert outcome.failure is not None
            failures.append((name, outcome.failure))
            level = logging.INFO if index < last else logging.WARNING
            _LOG.log(level, "Tier %r gave no answer: %s.", name, outcome.failure)
        return Reply("", spent, fault=_fault(failures))

    def _open(self) -> list[Endpoint]:
        if self._endpoints is None:
            # Here, not above: openai takes a second to import, and its client wants the loop.
            from aflow_grpo.llm.endpoint import Endpoint

            parts = zip(self._tiers, self._keys, self._prices, self._breakers, strict=True)
            self._endpoints = [Endpoint(*part) for part in parts]
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

    def _keep(self, key: bytes, tier: Tier, outcome: Outcome, text: str) -> None:
        if self._journal is None:
            return
        usage = outcome.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens)
        entry = Entry(tier.model, tier.name, text, *tokens, usage.cost_usd, outcome.finish_reason)
        self._journal.put(key, entry)


def _body(tier: Tier, request: Request) -> dict[str, Any]:
    messages = [{"role": "user", "content": _sendable(request.prompt)}]
    if request.system:
        messages.insert(0, {"role": "system", "content": _sendable(request.system)})
    return {
        "model": tier.model,
        "messages": messages,
        "temperature": tier.temperature if request.temperature is None else request.temperature,
        "top_p": tier.top_p,
        "max_tokens": tier.max_tokens if request.max_tokens is None else request.max_tokens,
        "seed": request.seed,
    }


def _sendable(text: str) -> str:
    """`text` without lone surrogates, which a workflow may write and JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()


def _fault(failures: Sequence[tuple[str, AttemptFailed]]) -> Unavailable | WorkflowFault:
    if all(failure.too_long for _, failure in failures):
        message = "The workflow's prompt does not fit the executor's context."
        return WorkflowFault(FaultKind.EXCEPTION, message)
    told = "; ".join(f"{name}: {failure}" for name, failure in failures)
    return Unavailable(FaultKind.ENDPOINT, f"No endpoint answered ({told}).")
