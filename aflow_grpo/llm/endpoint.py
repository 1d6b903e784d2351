"""One tier: HTTP through the openai client, retries by tenacity, a semaphore, a circuit breaker.

Retries have one owner. The openai client's own are off (``max_retries=0``); tenacity retries what
may pass by itself (429, 408, 409, 5xx, no connection, no answer in time, a malformed body) and
never what cannot (400, 401, 403, 404, a spent quota). The chain of tiers is `client`'s affair.

Requests go through the openai client's generic ``post`` and its aiohttp transport: measured against
``chat.completions.create`` on httpx2 they take a third of the CPU, since nothing is validated
against a schema on the way; `_read` checks the few fields that matter.

Importing this module imports openai (about a second), so `client` does it on first use.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import tenacity

from aflow_grpo.llm.breaker import CircuitBreaker
from aflow_grpo.llm.prices import Price
from aflow_grpo.llm.tiers import Tier, is_loopback
from aflow_grpo.records import Usage

__all__ = ["AttemptFailed", "Endpoint", "Outcome"]

_LOG = logging.getLogger(__name__)
_MAX_WAIT_S = 20.0
_MAX_RETRY_AFTER_S = 60.0
_CHARS_PER_TOKEN = 4
_REAL_KEY_CHARS = 16
"""Shorter ones are made up for servers that want none, and may be ordinary words."""


@dataclass(eq=False)  # an exception has to stay hashable
class AttemptFailed(Exception):
    """One HTTP attempt without a usable reply."""

    reason: str
    """One line for a person, without the key."""
    retryable: bool
    """The same request may pass a little later."""
    alive: bool | None
    """What it says of the endpoint: it works, it is down, or (None) nothing."""
    retry_after_s: float | None = None
    """What the endpoint asked for."""
    maybe_billed: bool = False
    """The endpoint may have worked on it, so its prompt may be charged."""
    misconfigured: bool = False
    """Only a change of settings mends it."""
    too_long: bool = False
    """The request does not fit the model's context."""
    status: int | None = None
    """HTTP status; None when there was no HTTP answer."""

    def __str__(self) -> str:
        return self.reason


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


@dataclass(frozen=True)
class _Answer:
    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    finish_reason: str


@dataclass
class _Spent:
    attempts: int = 0
    billed_usd: float = 0.0


class Endpoint:
    """Asks one tier; used inside one event loop.

    Args:
        tier: Its settings.
        key: Its resolved API key.
        price: Of its model.
        breaker: Decides whether attempts go out.
        patience_s: Longest Retry-After that is waited for.
    """

    def __init__(
        self,
        tier: Tier,
        key: str,
        price: Price,
        breaker: CircuitBreaker,
        *,
        patience_s: float = _MAX_RETRY_AFTER_S,
    ) -> None:
        self.tier = tier
        self.breaker = breaker
        self._patience_s = patience_s
        self._key = key
        self._price = price
        self._slots = asyncio.Semaphore(tier.max_concurrent)
        self._reported: set[str] = set()
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=tier.base_url,
            max_retries=0,
            timeout=tier.timeout_s,
            # No proxy of the environment for an endpoint on this machine.
            http_client=openai.DefaultAioHttpClient(trust_env=not is_loopback(tier.base_url)),
        )
        self._retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(tier.max_attempts),
            wait=_Wait(tier.backoff_s),
            retry=tenacity.retry_if_exception(_may_pass),
            before_sleep=self._log_retry,
            reraise=True,
        )

    async def ask(
        self, body: Mapping[str, Any], *, skippable: bool, report: bool = True
    ) -> Outcome:
        """Send `body`, retrying as the tier says.

        Args:
            body: The JSON body of a chat completion.
            skippable: Whether an open circuit breaker may refuse (there is another tier).
            report: Log that settings are wrong, once; False where the caller says so itself.
        """
        spent = _Spent()
        try:
            answer: _Answer = await self._retrying.copy()(self._attempt, body, spent, skippable)
        except AttemptFailed as failure:
            if report:
                self._report(failure)
            usage = Usage(attempts=spent.attempts, billed_usd=spent.billed_usd)
            return Outcome(None, usage, failure)
        tokens = (answer.prompt_tokens, answer.completion_tokens)
        usage = Usage(
            calls=1,
            attempts=spent.attempts,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=self._price.list_cost_usd(*tokens),
            billed_usd=spent.billed_usd + self._price.billed_usd(*tokens, answer.cached_tokens),
        )
        return Outcome(answer.text, usage, finish_reason=answer.finish_reason)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _attempt(self, body: Mapping[str, Any], spent: _Spent, skippable: bool) -> _Answer:
        async with self._slots:
            if not self.breaker.admit() and skippable:
                raise AttemptFailed("skipped, it failed too often", False, alive=None)
            spent.attempts += 1
            try:
                answer = await self._post(body)
            except AttemptFailed as failure:
                self._judge(failure)
                if failure.maybe_billed:
                    # The endpoint never said what it counted: an estimate of the prompt alone.
                    spent.billed_usd += self._price.list_cost_usd(_estimate(body), 0)
                raise
            except BaseException:
                self.breaker.release()
                raise
            if self.breaker.is_open:
                _LOG.warning("Tier %r answers again.", self.tier.name)
            self.breaker.success()
            return answer

    async def _post(self, body: Mapping[str, Any]) -> _Answer:
        try:
            async with asyncio.timeout(self.tier.timeout_s):
                text = await self._client.post("/chat/completions", cast_to=str, body=body)
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            # The aiohttp transport reports a refused connection as a timeout: its causes tell.
            causes = _causes(error)
            if any(isinstance(cause, TimeoutError) for cause in causes):
                reason = f"no answer within {self.tier.timeout_s:g} s"
                raise AttemptFailed(reason, True, alive=False, maybe_billed=True) from None
            reason = f"no connection ({type(causes[-1]).__name__})"
            raise AttemptFailed(reason, True, alive=False) from None
        try:
            return _read(text, body)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            reason = "the endpoint's reply is no chat completion"
            raise AttemptFailed(reason, True, alive=False, maybe_billed=True) from error

    def _status_failure(self, error: openai.APIStatusError) -> AttemptFailed:
        status, code = error.status_code, str(error.code or "")
        misconfigured = status in (401, 403, 404) or code == "insufficient_quota"
        transient = status in (408, 409, 429) or status >= 500
        retry_after_s = _retry_after_s(error.response.headers) if transient else None
        patience = retry_after_s is None or retry_after_s <= self._patience_s
        alive: bool | None = not (misconfigured or status >= 500 or status == 408)
        if status == 429 and not misconfigured:
            alive = None
        return AttemptFailed(
            f"HTTP {status}{' ' + code if code else ''}: {self._clean(error)}",
            retryable=transient and not misconfigured and patience,
            alive=alive,
            retry_after_s=retry_after_s,
            misconfigured=misconfigured,
            too_long=code == "context_length_exceeded",
            status=status,
        )

    def _clean(self, error: openai.APIStatusError) -> str:
        if error.status_code in (401, 403):
            return "the endpoint refused the key"  # its own words repeat parts of the key
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return _without(self._key, str(message or "no message"))[:300]

    def _judge(self, failure: AttemptFailed) -> None:
        if failure.alive is None:
            self.breaker.release()
        elif failure.alive:
            self.breaker.success()
        elif self.breaker.failure():
            _LOG.warning("Tier %r is down: %s.", self.tier.name, failure)

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


class _Wait(tenacity.wait.wait_base):
    """Exponential with jitter, but what the endpoint asks for comes first."""

    def __init__(self, backoff_s: float) -> None:
        exponential = tenacity.wait_exponential(multiplier=backoff_s, max=_MAX_WAIT_S)
        self._backoff = exponential + tenacity.wait_random(0, backoff_s)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, AttemptFailed) and error.retry_after_s is not None:
            return error.retry_after_s
        return self._backoff(retry_state)


def _causes(error: BaseException) -> list[BaseException]:
    """`error` and what it was raised from, down to the first cause."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


def _without(key: str, text: str) -> str:
    """`text` without the key, and without words that show the beginning or end of a real one."""
    text = text.replace(key, "***")
    if len(key) < _REAL_KEY_CHARS:
        return text
    ends = f"{re.escape(key[:8])}|{re.escape(key[-4:])}"
    return re.sub(rf"\S*(?:{ends})\S*", "***", text)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, AttemptFailed) and error.retryable


def _retry_after_s(
    headers: Mapping[str, str], clock: Callable[[], float] = time.time
) -> float | None:
    """Seconds that the endpoint asks to wait: a number, milliseconds, or an HTTP date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        if not value:
            return None
        try:
            return max(0.0, float(value))
        except ValueError:
            date = email.utils.parsedate_to_datetime(value)
            if date.tzinfo is None:
                date = date.replace(tzinfo=datetime.UTC)
            return max(0.0, date.timestamp() - clock())
    except ValueError:
        return None


def _estimate(body: Mapping[str, Any]) -> int:
    return sum(len(message["content"]) for message in body["messages"]) // _CHARS_PER_TOKEN


def _read(text: str, body: Mapping[str, Any]) -> _Answer:
    reply = json.loads(text)
    choice = reply["choices"][0]
    content = choice["message"].get("content")
    finish = str(choice.get("finish_reason") or "")
    if content is None:
        content = ""  # a refusal, or nothing but tool calls
    if not isinstance(content, str):
        raise TypeError("content is not text")
    content = content.encode("utf-8", "replace").decode()  # a lone surrogate fits in no database
    usage = reply.get("usage") or {}
    prompt_tokens = usage.get("prompt_tokens")
    if prompt_tokens is None:  # some servers do not count; never free, so estimated
        return _Answer(content, _estimate(body), len(content) // _CHARS_PER_TOKEN, 0, finish)
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    tokens = (int(prompt_tokens), int(usage["completion_tokens"]), int(cached))
    return _Answer(content, *tokens, finish)
