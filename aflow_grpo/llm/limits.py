"""How fast one tier may be asked: requests and tokens per minute.

Two leaky buckets of aiolimiter, filled one caller at a time, so that a long request is not
overtaken for ever by short ones. A bucket holds a tenth of the limit and leaks the rest, so no 60
seconds ever see more than the limit, the first ones included; the price is a tenth of the steady
rate.

A call's tokens are known afterwards only. They are estimated as the prompt (a token is about four
characters) plus the mean of the replies so far: counting `max_tokens` in full, as OpenAI does when
it admits a request, would leave nine tenths of the limit unused on replies of 200 tokens. What the
estimate missed is added to (or taken off) the next call. Not here: how many at once (`endpoint`).
"""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

__all__ = ["RateLimits"]

_MINUTE_S = 60.0
_FIRST_REPLY_TOKENS = 256
"""Guess for the first call's reply, about what gpt-4o-mini writes on these prompts."""


class RateLimits:
    """Lets calls of one tier through at its rates; used inside one event loop.

    Args:
        requests_per_min: HTTP attempts in any 60 s; None for no limit.
        tokens_per_min: Prompt and reply tokens in any 60 s; None for no limit.
    """

    def __init__(self, requests_per_min: int | None, tokens_per_min: int | None) -> None:
        self._requests = _bucket(requests_per_min)
        self._tokens = _bucket(tokens_per_min)
        self._order = asyncio.Lock()
        self._owed_tokens = 0.0
        self._replies = 0
        self._mean_reply_tokens = float(_FIRST_REPLY_TOKENS)

    async def admit(self, prompt_tokens: int, max_tokens: int) -> float:
        """Wait until one more attempt may leave; returns the tokens counted for it.

        Args:
            prompt_tokens: Estimated.
            max_tokens: Longest reply.
        """
        if self._requests is None and self._tokens is None:
            return 0.0
        estimate = prompt_tokens + min(self._mean_reply_tokens, max_tokens)
        async with self._order:
            if self._tokens is not None:
                await self._take_tokens(self._tokens, estimate)
            if self._requests is not None:
                await self._requests.acquire()
        return estimate

    def settle(self, estimate: float, prompt_tokens: int, reply_tokens: int) -> None:
        """Correct the count of an answered attempt.

        Args:
            estimate: What `admit` returned.
            prompt_tokens: As the endpoint counted.
            reply_tokens: As the endpoint counted.
        """
        self._replies += 1
        self._mean_reply_tokens += (reply_tokens - self._mean_reply_tokens) / self._replies
        if self._tokens is not None:
            self._owed_tokens += prompt_tokens + reply_tokens - estimate

    async def _take_tokens(self, bucket: AsyncLimiter, estimate: float) -> None:
        """In pieces: a call may be larger than the bucket."""
        while (amount := estimate + self._owed_tokens) > 0:
            piece = min(amount, bucket.max_rate)
            await bucket.acquire(piece)
            self._owed_tokens -= piece
        self._owed_tokens += estimate


def _bucket(per_min: int | None) -> AsyncLimiter | None:
    """A bucket of a tenth that leaks the rest in a minute."""
    if per_min is None:
        return None
    size = max(1, per_min // 10)
    # The minute that opens with a full burst of `size` ends before the last one that leaks.
    leak_per_min = per_min - size + 1
    return AsyncLimiter(size, size * _MINUTE_S / leak_per_min)
