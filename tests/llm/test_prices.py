"""Prices: exact names, decimal arithmetic, no free unknown model."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.prices import PRICES, PRICES_AS_OF, find_price


def test_a_million_tokens_cost_what_the_list_says() -> None:
    price = find_price("gpt-4o-mini", None, key="llm.tiers[0].price")
    assert price.list_cost(1_000_000, 0) == Decimal("0.15")
    assert price.list_cost(0, 1_000_000) == Decimal("0.60")
    assert price.list_cost(159, 152) == Decimal("0.00011505")
    assert sum(price.list_cost(1, 0) for _ in range(10**4)) == Decimal("0.0015"), "no rounding"


def test_cached_input_lowers_the_bill_but_not_the_list_cost() -> None:
    price = PRICES["gpt-4o-mini"]
    assert price.billed(1_000_000, 0, 400_000) == Decimal("0.12")
    assert price.list_cost(1_000_000, 0) == Decimal("0.15")


def test_more_cached_than_sent_is_not_a_refund() -> None:
    assert PRICES["gpt-4o-mini"].billed(1000, 0, 10**9) == Decimal("0.000075")


def test_an_override_may_have_a_cached_price() -> None:
    without = find_price("my-model", (1.0, 2.0), key="k")
    assert without.billed(1_000_000, 1_000_000, 1_000_000) == 3
    price = find_price("my-model", (1.0, 2.0, 0.1), key="k")
    assert price.billed(1_000_000, 1_000_000, 1_000_000) == Decimal("2.1")
    assert price.list_cost(1_000_000, 1_000_000) == 3


def test_every_price_of_the_table_has_its_date() -> None:
    assert {price.as_of for price in PRICES.values()} == {PRICES_AS_OF}
    assert find_price("gpt-4o-mini", (1.0, 2.0), key="k").as_of is None, "the user's own"


@pytest.mark.parametrize("model", ["gpt-4o-mini-x", "gpt-4o-mini ", "GPT-4o-mini", "gpt", ""])
def test_an_unknown_model_names_itself_and_the_config_key(model: str) -> None:
    with pytest.raises(ExecutorError, match=r"llm\.tiers\[3\]\.price") as caught:
        find_price(model, None, key="llm.tiers[3].price")
    assert repr(model) in str(caught.value)


def test_an_override_wins_and_may_be_zero() -> None:
    assert find_price("gpt-4o", (0, 0), key="k").list_cost(10**6, 10**6) == 0


def test_the_simulated_model_costs_what_it_imitates() -> None:
    assert PRICES["simulated/gpt-4o-mini"] == PRICES["gpt-4o-mini"]
