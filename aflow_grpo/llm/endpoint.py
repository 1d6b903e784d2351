"""One tier: HTTP through the openai client, retries by tenacity, limits, a circuit breaker.

Retries have one owner. The openai client's own are off (``max_retries=0``); tenacity retries what
may pass by itself (429, 408, 409, 5xx, no connection, no answer in time, a malformed body) and
never what cannot (400, 401, 403, 404, a spent quota). The chain of tiers is `client`'s affair.

An attempt waits for its turn (a slot, the rates, the budget) before it has a connection and before
its timeout begins, so that neither a long queue nor the budget looks like a slow endpoint, and as
many connections are open as there are slots.

Requests go through the openai client's generic ``post`` and its aiohttp transport: measured against
``chat.completions.create`` on httpx2 they take a third of the CPU, since nothing is validated
against a schema on the way; `chat` checks the few fields that matter.

Importing this module imports openai (about a second), so `client` does it on first use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import aiohttp
import httpx2
import openai
import tenacity

from aflow_grpo.llm.breaker import CircuitBreaker
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.chat import Answer, estimated_tokens, most_tokens, read_answer
from aflow_grpo.llm.failures import (
    AttemptFailed,
    connection_failure,
    malformed_reply,
    status_failure,
)
from aflow_grpo.llm.limits import RateLimits
from aflow_grpo.llm.prices import Price
from aflow_grpo.llm.progress import Progress
from aflow_grpo.llm.tiers import REAL_KEY_CHARS, Tier, is_loopback
from aflow_grpo.records import Usage

__all__ = ["AttemptFailed", "Endpoint", "Outcome", "RetryWait"]

_LOG = logging.getLogger(__name__)
_MAX_WAIT_S = 20.0
_MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What one tier made of a call."""

    text: str | None
    """The reply; None when the tier did not give one."""
    usage: Usage
    failure: AttemptFailed | None = None
    """The last failed attempt, when there is no reply."""
    finish_reason: str = ""
    """Why the reply ended, in the endpoint's word."""
    cached_tokens: int = 0
    """Prompt tokens that the endpoint had in its cache."""
    structured: bool = False
    """Whether a JSON object was asked for."""


class Endpoint:
    """Asks one tier; used inside one event loop.

    Args:
        tier: Its settings.
        key: Its resolved API key.
        price: Of its model.
        breaker: Decides whether attempts go out.
        budget: Decides whether they may cost what they can cost; None for no limit.
        stand_in: Name of the tier that is asked when this one is down; empty for none.
        patience_s: Longest Retry-After that is waited for.
    """

    def __init__(
        self,
        tier: Tier,
        key: str,
        price: Price,
        breaker: CircuitBreaker,
        *,
        budget: Budget | None = None,
        stand_in: str = "",
        patience_s: float = _MAX_RETRY_AFTER_S,
    ) -> None:
        self.tier = tier
        self.breaker = breaker
        self._budget = budget or Budget(None)
        self._stand_in = stand_in
        self._patience_s = patience_s
        self._key = key
        self._price = price
        self._slots = asyncio.Semaphore(tier.max_concurrent)
        self._rates = RateLimits(tier.requests_per_min, tier.tokens_per_min)
        self._takes_forms = True
        self._reported: set[str] = set()
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=tier.base_url,
            max_retries=0,
            timeout=tier.timeout_s,
            http_client=openai.DefaultAioHttpClient(
                # No proxy of the environment for an endpoint on this machine.
                trust_env=not is_loopback(tier.base_url),
                limits=httpx2.Limits(max_connections=tier.max_concurrent),
            ),
        )
        self._retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(tier.max_attempts),
            wait=RetryWait(tier.backoff_s),
            before_sleep=self._log_retry,
            reraise=True,
        )

    async def ask(
        self,
        body: Mapping[str, Any],
        *,
        skippable: bool,
        plain: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        report: bool = True,
    ) -> Outcome:
        """Send `body`, retrying as the tier says.

        Args:
            body: The JSON body of a chat completion.
            skippable: Whether an open circuit breaker may refuse (there is another tier).
            plain: The body that asks for tagged text, for an endpoint that does not take the JSON
                schema of `body`; None: there is no other.
            progress: Told how far the call has come.
            report: Log that settings are wrong, once; False where the caller says so itself.

        Raises:
            BudgetSpent: An attempt could pass the budget.
        """
        progress = progress or Progress()
        sent = plain if plain is not None and not self._takes_forms else body
        result = await self._persist(sent, progress, skippable)
        if isinstance(result, AttemptFailed) and plain is not None and self._refuses(result, sent):
            sent = plain
            result = await self._persist(plain, progress, skippable)
            if isinstance(result, Answer):
                self._takes_forms = False
                _LOG.info("Tier %r takes no JSON schema; it is asked for tags.", self.tier.name)
        if isinstance(result, AttemptFailed):
            if report:
                self._report(result)
            return Outcome(None, progress.usage, result)
        tokens = (result.prompt_tokens, result.completion_tokens)
        usage = Usage(
            1,
            progress.attempts,
            *tokens,
            cost_usd=float(self._price.list_cost(*tokens)),
            billed_usd=float(progress.billed),
        )
        structured = "response_format" in sent
        text, cached = result.text, result.cached_tokens
        return Outcome(text, usage, None, result.finish_reason, cached, structured)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _persist(
        self, body: Mapping[str, Any], progress: Progress, skippable: bool
    ) -> Answer | AttemptFailed:
        """The answer, or the failure after which nothing more is tried."""

        def may_pass(error: BaseException) -> bool:
            retryable = isinstance(error, AttemptFailed) and error.retryable
            return retryable and not progress.abandoned

        retrying = self._retrying.copy(retry=tenacity.retry_if_exception(may_pass))
        try:
            answer: Answer = await retrying(self._attempt, body, progress, skippable)
        except AttemptFailed as failure:
            return failure
        return answer

    async def _attempt(
        self, body: Mapping[str, Any], progress: Progress, skippable: bool
    ) -> Answer:
        if skippable and self.breaker.refuses:  # nobody queues for a tier that is down
            raise _skipped()
        async with self._slots:
            self._budget.check()
            max_tokens = int(body["max_tokens"])
            counted = await self._rates.admit(estimated_tokens(body), max_tokens)
            most = self._price.list_cost(most_tokens(body), max_tokens)
            await self._budget.reserve(most)
            billed = Decimal(0)
            try:
                if not self.breaker.admit() and skippable:
                    raise _skipped()
                progress.send()
                billed = most  # a call that is cut off may be charged in full
                try:
                    answer = await self._post(body)
                except AttemptFailed as failure:
                    billed = most if failure.maybe_billed else Decimal(0)
                    self._judge(failure, body)
                    raise
                except BaseException:
                    self.breaker.release()
                    raise
                tokens = (answer.prompt_tokens, answer.completion_tokens)
                billed = self._price.billed(*tokens, answer.cached_tokens)
            finally:
                progress.sent = False
                progress.billed += billed
                self._budget.settle(most, billed)
            self._rates.settle(counted, *tokens)
            if self.breaker.is_open:
                _LOG.warning("Tier %r answers again; calls return to it.", self.tier.name)
            self.breaker.success()
            return answer

    async def _post(self, body: Mapping[str, Any]) -> Answer:
        # Raised below, not where it is caught: an error of the HTTP client holds the key.
        failure: AttemptFailed
        try:
            async with asyncio.timeout(self.tier.timeout_s):
                text = await self._client.post("/chat/completions", cast_to=str, body=body)
        except openai.APIStatusError as error:
            failure = status_failure(error, self._key, self._patience_s)
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            failure = connection_failure(error, self.tier.timeout_s)
        else:
            try:
                return self._without_key(read_answer(text, body))
            except (ValueError, TypeError, LookupError, AttributeError):
                failure = malformed_reply()
        raise failure

    def _without_key(self, answer: Answer) -> Answer:
        """For an endpoint that repeats what it was sent."""
        if len(self._key) < REAL_KEY_CHARS or self._key not in answer.text + answer.finish_reason:
            return answer
        return replace(
            answer,
            text=answer.text.replace(self._key, "***"),
            finish_reason=answer.finish_reason.replace(self._key, "***"),
        )

    def _refuses(self, failure: AttemptFailed, body: Mapping[str, Any]) -> bool:
        """Whether the endpoint may have refused the JSON schema and not the request."""
        asked = self.tier.structured_outputs == "auto" and "response_format" in body
        return asked and failure.form_refused

    def _judge(self, failure: AttemptFailed, body: Mapping[str, Any]) -> None:
        if failure.alive is None or self._refuses(failure, body):
            self.breaker.release()
        elif failure.alive:
            self.breaker.success()
        elif self.breaker.failure():
            instead = f"; calls go to {self._stand_in!r}" if self._stand_in else ""
            _LOG.warning("Tier %r is down: %s%s.", self.tier.name, failure, instead)

    def _report(self, failure: AttemptFailed) -> None:
        if not failure.misconfigured or failure.reason in self._reported:
            return
        self._reported.add(failure.reason)
        _LOG.error(
            "Tier %r (model %s) cannot be used as it is configured: %s.",
            *(self.tier.name, self.tier.model, failure),
        )

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait_s = state.next_action.sleep if state.next_action else 0.0
        _LOG.info(
            "Tier %r, attempt %d of %d: %s; next in %.2f s.",
            *(self.tier.name, state.attempt_number, self.tier.max_attempts, error, wait_s),
        )


class RetryWait(tenacity.wait.wait_base):
    """Exponential with jitter, but what the endpoint asks for comes first."""

    def __init__(self, backoff_s: float) -> None:
        exponential = tenacity.wait_exponential(multiplier=backoff_s, max=_MAX_WAIT_S)
        self._backoff = exponential + tenacity.wait_random(0, backoff_s)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, AttemptFailed) and error.retry_after_s is not None:
            return error.retry_after_s
        return self._backoff(retry_state)


def _skipped() -> AttemptFailed:
    return AttemptFailed("skipped, it failed too often", False, alive=None)
