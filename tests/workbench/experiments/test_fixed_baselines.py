"""What is made of the executions of fixed workflows."""

from collections import Counter

import pytest
from made_rows import made

from aflow_grpo.records import Domain
from aflow_grpo.workbench.experiments.fixed import (
    balanced,
    choose,
    mixed,
    per_problem,
    ranking,
)
from aflow_grpo.workbench.experiments.rows import Row
from aflow_grpo.workbench.experiments.trained_vs_fixed import _matched


def executed(name: str, values: str, usd: float, domain: str = "math", **told: object) -> list[Row]:
    """A workflow's rows on problems 0, 1, ...; it solved those where `values` has a 1."""
    return [
        made(arm=name, domain=domain, problem=f"{domain}/{n}", value=float(v), correct=v == "1",
             cost_usd=usd, **told)
        for n, v in enumerate(values)
    ]  # fmt: skip


def value(row: Row) -> float:
    return row.value


FIXED = [
    *executed("io", "0011", 0.001),
    *executed("sc", "0111", 0.005),
    *executed("cascade", "1110", 0.003),
    *executed("io", "11", 0.002, "qa"),
]


def test_the_best_and_among_equals_the_cheaper() -> None:
    chosen = choose(FIXED, "accuracy", value)
    assert chosen.names == {"math": "cascade", "qa": "io"}
    assert chosen.cost_usd == pytest.approx(4 * 0.009 + 2 * 0.002)
    assert ranking(FIXED, "math", value) == ["cascade", "sc", "io"]


def test_what_is_left_out_is_neither_chosen_nor_paid() -> None:
    chosen = choose(FIXED, "accuracy", value, without=["cascade"])
    assert chosen.names == {"math": "sc", "qa": "io"}
    assert chosen.cost_usd == pytest.approx(4 * 0.006 + 2 * 0.002)


def test_nothing_executed_chooses_nothing() -> None:
    assert choose([], "accuracy", value).names == {}
    assert ranking(FIXED, "code", value) == []


def test_the_oracle_takes_the_best_of_each_problem() -> None:
    best = per_problem(FIXED, "oracle", lambda members: max(members, key=value))
    assert [(row.arm, row.problem, row.value) for row in best] == [
        ("oracle", f"math/{n}", 1.0) for n in range(4)
    ] + [("oracle", f"qa/{n}", 1.0) for n in range(2)]


def test_a_mix_draws_in_proportion() -> None:
    rows = executed("cheap", "0" * 2000, 1.0) + executed("dear", "1" * 2000, 2.0)
    shares: dict[Domain, dict[str, float]] = {"math": {"cheap": 0.3, "dear": 0.7}}
    drawn = mixed(rows, "mix", shares)
    assert len(drawn) == 2000
    assert sum(map(value, drawn)) / 2000 == pytest.approx(0.7, abs=0.04)
    assert Counter(row.arm for row in drawn) == {"mix": 2000}
    assert drawn == mixed(rows, "mix", shares)
    assert drawn != mixed(rows, "mix", shares, seed=1)


def test_replicates_draw_apart() -> None:
    picks = []
    for replicate in range(2):
        rows = executed("a", "0" * 50, 1.0, replicate=replicate)
        rows += executed("b", "1" * 50, 1.0, replicate=replicate)
        picks.append([row.value for row in mixed(rows, "mix", {"math": {"a": 1.0, "b": 1.0}})])
    assert picks[0] != picks[1]


def test_a_share_of_0_is_never_drawn() -> None:
    alone = [row for row in FIXED if row.arm == "io"]
    shares: dict[Domain, dict[str, float]] = {"math": {"io": 0.0, "sc": 1.0}, "qa": {"io": 1.0}}
    assert {row.value for row in mixed(FIXED, "mix", shares)[:4]} == {0.0, 1.0}
    # No endpoint answered what would be drawn: the problem is left out.
    assert [row.domain for row in mixed(alone, "mix", shares)] == ["qa", "qa"]


def test_a_domain_without_shares_is_left_out() -> None:
    assert [row.domain for row in mixed(FIXED, "mix", {"qa": {"io": 1.0}})] == ["qa", "qa"]


@pytest.mark.parametrize(
    ("spent", "dear"), [(0.001, 0.0), (0.002, 0.25), (0.005, 1.0), (0.009, 1.0), (0.0001, 0.0)]
)
def test_a_mix_at_the_policys_cost(spent: float, dear: float) -> None:
    policy = [*executed("grpo", "1", spent), *executed("grpo", "1", 1.0, mode="sampled")]
    shares = _matched(FIXED, {"math": "sc"}, policy)
    assert shares["math"] == pytest.approx({"io": 1 - dear, "sc": dear})


def test_the_best_may_be_the_cheapest() -> None:
    assert _matched(FIXED, {"qa": "io"}, [])["qa"] == {"io": 1.0}


def test_where_nothing_costs_anything_the_best_is_the_mix() -> None:
    free = executed("io", "00", 0.0) + executed("sc", "11", 0.0)
    assert _matched(free, {"math": "sc"}, []) == {"math": {"sc": 1.0}}


def test_selection_problems_are_balanced() -> None:
    generated = {"dataset": "generated", "split": "train", "limit": 60, "seed": 901}
    problems = balanced([generated], 5)
    assert Counter(problem.domain for problem in problems) == {"math": 5, "code": 5, "qa": 5}
    assert balanced([generated], 0) == []
