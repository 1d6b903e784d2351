"""What a token costs: data with a date, never a guess.

An unknown model is an error that names the key where its price is set. Names are matched whole:
``gpt-4o`` is no price for ``gpt-4o-mini-x``. Not here: counting tokens (the endpoint reports them).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from aflow_grpo.errors import ExecutorError

__all__ = ["PRICES", "PRICES_AS_OF", "Price", "find_price"]

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Price:
    """USD per million tokens of one model."""

    usd_per_m_input: Decimal
    usd_per_m_output: Decimal
    usd_per_m_cached_input: Decimal | None = None
    """For prompt tokens that the endpoint served from its prompt cache; None: no discount."""
    as_of: datetime.date | None = None
    """The day of the price list that it was taken from; None: the user's own."""

    def list_cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """USD without any discount, so that it does not depend on the endpoint's cache."""
        total = self.usd_per_m_input * prompt_tokens + self.usd_per_m_output * completion_tokens
        return total / _MILLION

    def billed(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> Decimal:
        """USD that the endpoint charges: `cached_tokens` of the prompt at the cached price."""
        total = self.list_cost(prompt_tokens, completion_tokens)
        if self.usd_per_m_cached_input is None:
            return total
        discount = self.usd_per_m_input - self.usd_per_m_cached_input
        return total - discount * min(cached_tokens, prompt_tokens) / _MILLION


PRICES_AS_OF = datetime.date(2025, 4, 14)
"""The day of OpenAI's price list that `PRICES` repeats."""


def _price(input_usd: str, cached_usd: str, output_usd: str) -> Price:
    return Price(Decimal(input_usd), Decimal(output_usd), Decimal(cached_usd), PRICES_AS_OF)


PRICES: dict[str, Price] = {
    "gpt-4o-mini": _price("0.15", "0.075", "0.60"),
    "gpt-4o-mini-2024-07-18": _price("0.15", "0.075", "0.60"),
    "gpt-4o": _price("2.50", "1.25", "10.00"),
    "gpt-4.1-mini": _price("0.40", "0.10", "1.60"),
    "gpt-4.1-nano": _price("0.10", "0.025", "0.40"),
    # The simulator costs nothing; it is priced as what it imitates, so that rewards mean the same.
    "simulated/gpt-4o-mini": _price("0.15", "0.075", "0.60"),
}


def find_price(model: str, override: Sequence[float] | None, *, key: str) -> Price:
    """The price of `model`: the user's own if given, else the table's.

    Args:
        model: Model name, matched whole.
        override: USD per million input tokens, output tokens and, if there is a discount, cached
            input tokens.
        key: Config key where an override is set, for the message.

    Raises:
        ExecutorError: Neither the user nor the table has a price.
    """
    if override is not None:
        per_m_input, per_m_output, *cached = (Decimal(str(usd)) for usd in override)
        return Price(per_m_input, per_m_output, cached[0] if cached else None)
    if model in PRICES:
        return PRICES[model]
    raise ExecutorError(
        f"No price is known for model {model!r} (prices as of {PRICES_AS_OF}: "
        f"{', '.join(PRICES)}). Set {key} to [USD per million input tokens, USD per million "
        "output tokens], and as a third figure that of cached input tokens if they cost less; an "
        "endpoint of your own that costs nothing has [0, 0]."
    )
