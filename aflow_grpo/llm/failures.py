"""What goes wrong in one HTTP attempt, sorted by what it means, without a key in any word of it.

The errors of the HTTP client carry the request with its headers, and an endpoint may repeat the key
in its own words; so a failure is a new exception that holds nothing of them, neither as cause nor
as context. Not here: what follows from it (`endpoint` retries, `breaker` counts).
"""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import openai

from aflow_grpo.llm.tiers import REAL_KEY_CHARS

__all__ = [
    "AttemptFailed",
    "connection_failure",
    "malformed_reply",
    "status_failure",
    "without_key",
]

_MAX_REASON_CHARS = 300
_FORMAT_REFUSED = (400, 404, 422)


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
    """The endpoint may have worked on it, so it may be charged."""
    misconfigured: bool = False
    """Only a change of settings mends it."""
    too_long: bool = False
    """The request does not fit the model's context."""
    form_refused: bool = False
    """Perhaps because it asked for a JSON object."""
    status: int | None = None
    """HTTP status; None when there was no HTTP answer."""

    def __str__(self) -> str:
        return self.reason


def status_failure(error: openai.APIStatusError, key: str, patience_s: float) -> AttemptFailed:
    """What an HTTP error status means.

    Args:
        error: The client's error.
        key: The API key, which must not be repeated.
        patience_s: Longest Retry-After that is waited for.
    """
    status, code = error.status_code, str(error.code or "")
    misconfigured = status in (401, 403, 404) or code == "insufficient_quota"
    transient = status in (408, 409, 429) or status >= 500
    retry_after_s = _retry_after_s(error.response.headers) if transient else None
    patience = retry_after_s is None or retry_after_s <= patience_s
    alive: bool | None = not (misconfigured or status >= 500 or status == 408)
    if status == 429 and not misconfigured:
        alive = None
    shown = without_key(key, f"{' ' + code if code else ''}: {_told(error)}")
    too_long = code == "context_length_exceeded"
    return AttemptFailed(
        f"HTTP {status}{shown[:_MAX_REASON_CHARS]}",
        retryable=transient and not misconfigured and patience,
        alive=alive,
        retry_after_s=retry_after_s,
        misconfigured=misconfigured,
        too_long=too_long,
        form_refused=status in _FORMAT_REFUSED and not too_long,
        status=status,
    )


def connection_failure(error: BaseException, timeout_s: float) -> AttemptFailed:
    """What it means that there was no HTTP answer."""
    # The aiohttp transport reports a refused connection as a timeout: its causes tell.
    causes = _causes(error)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        reason = f"no answer within {timeout_s:g} s"
        return AttemptFailed(reason, True, alive=False, maybe_billed=True)
    never_sent = any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)
    what = "no connection" if never_sent else "the connection broke"
    reason = f"{what} ({type(causes[-1]).__name__})"
    return AttemptFailed(reason, True, alive=False, maybe_billed=not never_sent)


def malformed_reply() -> AttemptFailed:
    """A status of success, and a body that is none of a chat completion."""
    reason = "the endpoint's reply is no chat completion"
    return AttemptFailed(reason, True, alive=False, maybe_billed=True)


def without_key(key: str, text: str) -> str:
    """`text` without the key, and without words that show the beginning or end of a real one."""
    text = text.replace(key, "***")
    if len(key) < REAL_KEY_CHARS:
        return text
    ends = f"{re.escape(key[:8])}|{re.escape(key[-4:])}"
    return re.sub(rf"\S*(?:{ends})\S*", "***", text)


def _told(error: openai.APIStatusError) -> str:
    if error.status_code in (401, 403):
        return "the endpoint refused the key"  # its own words repeat parts of the key
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or "no message")


def _causes(error: BaseException) -> list[BaseException]:
    """`error` and what it was raised from, down to the first cause."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


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
