"""The outcome model alone: what it chooses among, and by what."""

from __future__ import annotations

import numpy as np
import pytest
from outcome_worlds import made_world

from aflow_grpo.errors import ConfigError
from aflow_grpo.outcomes.router import Executed, Router
from aflow_grpo.records import WorkflowSource

WORLD = made_world(problems=150, by_text=0.2, seed=2)
EXECUTED: list[Executed] = [
    (row, WorkflowSource(f"text {'b' if n % 3 == 0 else 'a'} of {row.structure.key}"))
    for n, row in enumerate(WORLD.rows)
]


def test_it_chooses_what_it_expects_most_of_and_a_text_that_ran() -> None:
    router = Router(EXECUTED)
    chosen = router.choose("math", WORLD.fresh_texts)
    structures = [one.structure for one in router.candidates["math"]]
    expected_QT = router.model.predict("math", WORLD.fresh_texts, structures)
    for q, one in enumerate(chosen):
        assert one.expected_reward == expected_QT[q].max()
        assert one.candidate.source.graph_code == f"text a of {one.candidate.structure.key}"
    assert sum(one.runs for one in router.candidates["math"]) == len(EXECUTED)
    assert len({one.candidate.structure.key for one in chosen}) > 1
    key = {one.key: s for s, one in enumerate(WORLD.structures)}
    rates = WORLD.fresh_rates_QS
    found = np.mean([rates[q, key[c.candidate.structure.key]] for q, c in enumerate(chosen)])
    assert found > rates.mean() + 0.05


def test_a_price_buys_less_accuracy_for_less_money() -> None:
    free, dear = (
        Router(EXECUTED, usd_weight=weight).choose("math", WORLD.fresh_texts)
        for weight in (0.0, 1000.0)
    )
    accuracy, usd = (
        [np.mean([getattr(one, f"expected_{name}") for one in chosen]) for chosen in (free, dear)]
        for name in ("accuracy", "cost_usd")
    )
    assert accuracy[0] > accuracy[1] and usd[0] > usd[1] > 0


def test_what_ran_too_seldom_is_not_chosen_from() -> None:
    seldom = [one for one in EXECUTED if one[0].structure.key == "s0"][:4]
    often = [one for one in EXECUTED if one[0].structure.key == "s1"][:5]
    router = Router([*seldom, *often], min_runs=5)
    assert [one.structure.key for one in router.candidates["math"]] == ["s1"]
    with pytest.raises(ConfigError, match=r"no workflow of domain 'math' ran 9 times or more"):
        Router(often, min_runs=9)
    with pytest.raises(ConfigError, match="no workflow was executed as written"):
        Router([])
