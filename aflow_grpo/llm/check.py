"""Do the endpoints answer? Asked once, before a run begins, with little patience.

A wrong key, a mistyped model or a server that is not running would otherwise show only as masked
rollouts, minutes later. What passes here has the form of every later request, so parameters that
an endpoint does not take are found as well. Not here: retries and tiers during a run (`client`).

Importing this module imports openai (about a second), so `client` does it on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.breaker import CircuitBreaker
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.endpoint import AttemptFailed, Endpoint, Outcome
from aflow_grpo.llm.prices import Price
from aflow_grpo.llm.tiers import Tier

__all__ = ["ask_once", "busy", "judge", "remedy"]

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_ATTEMPTS = 2
_PATIENCE_S = 2.0


async def ask_once(
    tier: Tier, key: str, price: Price, body: Mapping[str, Any], budget: Budget
) -> Outcome:
    """The tier's answer to `body`; transient trouble gets a second attempt, soon."""
    hasty = replace(
        tier,
        timeout_s=min(tier.timeout_s, _TIMEOUT_S),
        max_attempts=_ATTEMPTS,
        backoff_s=min(tier.backoff_s, _PATIENCE_S / 2),
    )
    breaker = CircuitBreaker(_ATTEMPTS + 1, 0.0, lambda: 0.0)  # stays closed
    endpoint = Endpoint(hasty, key, price, breaker, budget=budget, patience_s=_PATIENCE_S)
    try:
        return await endpoint.ask(body, skippable=False, report=False)
    finally:
        await endpoint.aclose()


def judge(tiers: Sequence[Tier], failures: Sequence[AttemptFailed | None]) -> None:
    """Refuse to begin when no tier works, warn of the tiers that do not.

    Args:
        tiers: All of them, in order.
        failures: What became of each; None when it answered.

    Raises:
        ExecutorError: None can be used.
    """
    told = [
        f"{_line(tier, failure)} {remedy(tier, tier.config_key(index), failure)}"
        for index, (tier, failure) in enumerate(zip(tiers, failures, strict=True))
        if failure is not None
    ]
    # A rate limit is no reason to stop: there is a server, and it knows the key.
    usable = any(failure is None or busy(failure) for failure in failures)
    if usable:
        for line in told:
            _LOG.warning("Tier %s", line)
        return
    whole = tiers[0].config_key("").removesuffix("[]")
    what = "does not answer" if len(tiers) == 1 else "do not answer, none of them"
    lines = "".join(f"\n  {line}" for line in told)
    raise ExecutorError(
        f"{whole}: the endpoint{'' if len(tiers) == 1 else 's'} {what}:{lines}\n"
        "Nothing was run. llm.check_endpoints: false begins without asking, e.g. to answer "
        "from the journal alone."
    )


def _line(tier: Tier, failure: AttemptFailed) -> str:
    return f"{tier.name!r} (model {tier.model} at {tier.base_url}): {str(failure).rstrip('.')}."


def busy(failure: AttemptFailed) -> bool:
    return failure.status == 429 and not failure.misconfigured


def remedy(tier: Tier, where: str, failure: AttemptFailed) -> str:
    """What to do, in the words of the config keys."""
    if failure.status is None:
        if failure.retryable and failure.maybe_billed:
            return f"Wait until it is up, or correct {where}.base_url (it ends with /v1)."
        return f"Start the server, or correct {where}.base_url; check network and proxy."
    if busy(failure):
        return f"It is busy; lower {where}.max_concurrent if that lasts."
    if failure.status == 429:
        return "Add credit to the account, or name another endpoint."
    if failure.status in (401, 403):
        variable = f"the variable {tier.api_key_env} or " if tier.api_key_env else ""
        return f"Put a valid key into {variable}{where}.api_key."
    if failure.status == 404:
        return f"Correct {where}.model, or {where}.base_url (it ends with /v1)."
    if failure.status >= 500:
        return "The server has trouble of its own; try again later."
    return f"It does not take this kind of request; compare {where} with its manual."
