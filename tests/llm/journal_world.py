"""One row of a journal for all tests that need one; imported by child processes too."""

from __future__ import annotations

from aflow_grpo.llm.journal import Entry, request_key


def key(number: int) -> bytes:
    """The key of a made-up request."""
    return request_key({"number": number})


ENTRY = Entry(
    key=key(1), run="r", execution=7, place="3.0", operator="custom", model="gpt-4o-mini",
    tier="main", attempts=2, answered=True, reply="Grüße \x00 😀", finish_reason="stop",
    prompt_tokens=12, completion_tokens=3, cached_tokens=4, cost_usd=1.5e-6, billed_usd=2.5e-6,
    started_s=1_700_000_000.25, seconds=1.5,
)  # fmt: skip
