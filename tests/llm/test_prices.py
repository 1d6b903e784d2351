"""Prices: exact names, decimal arithmetic, no free unknown model."""

from __future__ import annotations

import pytest

from aflow_grpo.errors import ExecutorError
from aflow_grpo.llm.prices import PRICES, find_price


def test_a_million_tokens_cost_what_the_list_says() -> None:
    price = find_price("gpt-4o-mini", None, key="rollout.tiers[0].price")
    assert price.list_cost_usd(1_000_000, 0) == 0.15
    assert price.list_cost_usd(0, 1_000_000) == 0.60
    assert price.list_cost_usd(159, 152) == pytest.approx(159 * 0.15e-6 + 152 * 0.6e-6, rel=1e-12)


def test_cached_input_lowers_the_bill_but_not_the_list_cost() -> None:
    price = PRICES["gpt-4o-mini"]
    assert price.billed_usd(1_000_000, 0, 400_000) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075)
    assert price.list_cost_usd(1_000_000, 0) == 0.15


def test_more_cached_than_sent_is_not_a_refund() -> None:
    assert PRICES["gpt-4o-mini"].billed_usd(1000, 0, 10**9) == pytest.approx(1000 * 0.075e-6)


def test_an_override_without_cached_price_gives_no_discount() -> None:
    price = find_price("my-model", (1.0, 2.0), key="k")
    assert price.billed_usd(1_000_000, 1_000_000, 1_000_000) == 3.0


@pytest.mark.parametrize("model", ["gpt-4o-mini-x", "gpt-4o-mini ", "GPT-4o-mini", "gpt", ""])
def test_an_unknown_model_names_itself_and_the_config_key(model: str) -> None:
    with pytest.raises(ExecutorError, match=r"rollout\.tiers\[3\]\.price") as caught:
        find_price(model, None, key="rollout.tiers[3].price")
    assert repr(model) in str(caught.value)


def test_an_override_wins_and_may_be_zero() -> None:
    assert find_price("gpt-4o", (0, 0), key="k").list_cost_usd(10**6, 10**6) == 0.0


def test_the_simulated_model_costs_what_it_imitates() -> None:
    assert PRICES["simulated/gpt-4o-mini"] == PRICES["gpt-4o-mini"]
