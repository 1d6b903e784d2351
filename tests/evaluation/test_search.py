"""The searches on a table of known rewards: what they pay, what they choose, and when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.search import (
    AflowSettings,
    HalvingSettings,
    Outcome,
    Progress,
    aflow_search,
    exhaustive,
    halving_schedule,
    mixed_shares,
    successive_halving,
    take_turns,
)
from aflow_grpo.evaluation.search_space import Candidate, Edit, EditSpace
from aflow_grpo.policy.structures import Plan

PROBLEMS = [f"p{i}" for i in range(8)]


class Table:
    """Rewards by workflow and problem; every execution costs a cent."""

    def __init__(self, rewards: dict[str, dict[str, float]] | None = None) -> None:
        self.rewards = rewards
        self.paid: list[tuple[str, str, int]] = []

    def __call__(self, text: str, problems: Sequence[str], repeat: int) -> list[Outcome]:
        self.paid += [(text, problem, repeat) for problem in problems]
        return [self.outcome(text, problem) for problem in problems]

    def outcome(self, text: str, problem: str) -> Outcome:
        if self.rewards is not None:
            reward = self.rewards[text][problem]
        else:  # any workflow: decided by its text
            reward = random.Random(f"{text} {problem}").uniform(-10, 10)
        return Outcome(reward, reward > 0, 0.01)


def table_of(levels: dict[str, float]) -> Table:
    return Table({text: dict.fromkeys(PROBLEMS, level) for text, level in levels.items()})


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate(text, text) for text in texts]


def test_exhaustive_tries_everything_and_keeps_the_best_so_far() -> None:
    table = table_of({"a": 1.0, "b": 5.0, "c": 5.0, "d": 3.0})
    found = list(exhaustive(candidates("a", "b", "c", "d"), PROBLEMS, table))
    assert [p.incumbent.name for p in found] == ["a", "b", "b", "b"]  # a tie keeps the earlier
    assert [p.executions for p in found] == [8, 16, 24, 32]
    assert [p.cost_usd for p in found] == pytest.approx([0.08, 0.16, 0.24, 0.32])
    assert found[-1].validation_reward == 5.0
    assert len(set(table.paid)) == 32


@pytest.mark.parametrize(
    ("arms", "problems", "eta", "first", "expected"),
    [
        (16, 32, 2, 4, [(16, 4), (8, 8), (4, 16), (2, 32)]),
        (17, 20, 2, 4, [(17, 4), (8, 8), (4, 16), (2, 20)]),
        (9, 100, 3, 5, [(9, 5), (3, 15)]),
        (16, 6, 2, 4, [(16, 4), (8, 6)]),  # the problems end first
        (4, 3, 2, 10, [(4, 3)]),
        (1, 5, 2, 4, [(1, 4)]),
    ],
)
def test_the_halving_schedule(
    arms: int, problems: int, eta: int, first: int, expected: list[tuple[int, int]]
) -> None:
    assert halving_schedule(arms, problems, HalvingSettings(eta, first)) == expected


def test_halving_pays_only_for_what_goes_on() -> None:
    levels = {"a": 1.0, "b": 2.0, "c": 9.0, "d": 3.0}
    table = table_of(levels)
    found = list(
        successive_halving(
            candidates(*levels), PROBLEMS, table, random.Random(0), HalvingSettings(2, 2)
        )
    )
    # (4, 2), (2, 4): 4 x 2, then 2 x 2 more.
    assert [p.executions for p in found] == [8, 12]
    assert found[-1].incumbent.name == "c"
    counts = {text: sum(paid[0] == text for paid in table.paid) for text in levels}
    assert counts == {"a": 2, "b": 2, "c": 4, "d": 4}
    assert len(set(table.paid)) == len(table.paid)  # no problem twice


def test_selection_is_the_papers_formula() -> None:
    # lambda / n + (1 - lambda) e^(alpha (s - max)) / sum, by hand: e^-2 = .13534
    assert mixed_shares([60.0, 55.0]) == pytest.approx([0.8046, 0.1954], abs=5e-5)
    assert mixed_shares([1.0, 1.0, 1.0]) == pytest.approx([1 / 3] * 3)
    assert mixed_shares([0.0, 90.0], uniform_share=1.0) == pytest.approx([0.5, 0.5])
    assert mixed_shares([0.0, 100.0], uniform_share=0.0) == pytest.approx([0.0, 1.0])


def test_aflow_begins_with_one_call_and_pays_for_failures() -> None:
    parents = []

    class Watched(EditSpace):
        def edit(self, parent: Plan, rng: random.Random, known: set[str]) -> Edit | None:
            parents.append(parent)
            return super().edit(parent, rng, known)

    class FailuresLookGood(Table):
        def outcome(self, text: str, problem: str) -> Outcome:
            return Outcome(9.0 if "{}[" in text else 1.0, correct=True, cost_usd=0.01)

    space, table = Watched("math", crash_share=1.0, disaster_share=0.0), FailuresLookGood()
    found = list(
        aflow_search(space, PROBLEMS, table, random.Random(1), AflowSettings(rounds=6, patience=9))
    )
    assert table.paid[0][0] == space.write(space.start())
    assert found[-1].executions == 6 * len(PROBLEMS)
    texts = list(dict.fromkeys(text for text, _, _ in table.paid))
    assert all("{}[" in text for text in texts[1:])
    assert len(texts) == 6
    assert parents == [space.start()] * 5  # what failed is nobody's parent


def test_aflow_ends_when_its_best_do_not_change() -> None:
    class Flat(Table):
        def outcome(self, text: str, problem: str) -> Outcome:
            return Outcome(1.0, correct=True, cost_usd=0.0)

    found = list(
        aflow_search(
            EditSpace("qa"), PROBLEMS, Flat(), random.Random(0), AflowSettings(top=3, patience=5)
        )
    )
    assert len(found) == 8  # three to have a mean, five in which it stays
    assert found[-1].improved == 0


def test_repeats_are_paid_for() -> None:
    table = Table()
    settings = AflowSettings(rounds=2, repeats=5)
    found = list(aflow_search(EditSpace("code"), PROBLEMS, table, random.Random(0), settings))
    assert found[-1].executions == 2 * 5 * len(PROBLEMS)
    assert {repeat for _, _, repeat in table.paid} == {0, 1, 2, 3, 4}


@given(
    strategy=st.sampled_from(["exhaustive", "halving", "aflow"]),
    limit=st.integers(0, 120),
    seed=st.integers(0, 50),
)
def test_no_search_passes_its_limit_or_forgets_its_best(
    strategy: str, limit: int, seed: int
) -> None:
    table, rng = Table(), random.Random(seed)
    names = [f"w{seed}-{i}" for i in range(7)]
    if strategy == "exhaustive":
        search = exhaustive(candidates(*names), PROBLEMS, table, most_executions=limit)
    elif strategy == "halving":
        search = successive_halving(candidates(*names), PROBLEMS, table, rng, most_executions=limit)
    else:
        search = aflow_search(EditSpace("math"), PROBLEMS, table, rng, most_executions=limit)
    found = list(search)
    assert len(table.paid) <= limit
    assert [p.executions for p in found] == sorted({p.executions for p in found})
    if found:
        assert found[-1].executions == len(table.paid)
        assert found[-1].cost_usd == pytest.approx(0.01 * len(table.paid))
    if strategy != "halving":  # halving's comparisons are among survivors
        assert all(a.validation_reward <= b.validation_reward for a, b in pairwise(found))
        seen: dict[str, list[float]] = {}
        for text, problem, _ in table.paid:
            seen.setdefault(text, []).append(table.outcome(text, problem).reward)
        best = max((sum(v) / len(v) for v in seen.values()), default=None)
        assert best is None or found[-1].validation_reward == pytest.approx(best)


def test_domains_take_turns_and_begin_with_what_is_free() -> None:
    table = table_of({"a": 1.0, "b": 2.0, "c": 3.0})
    standings = list(
        take_turns(
            {
                "math": exhaustive(candidates("a", "b"), PROBLEMS, table),
                "qa": exhaustive(candidates("c"), PROBLEMS, table),
            },
            {"math": Candidate("a", "a"), "qa": Candidate("x", "x")},
        )
    )
    spent = [sum(p.executions for p in standing.values()) for standing in standings]
    assert spent == [0, 8, 16, 24]
    assert [s["qa"].incumbent.name for s in standings] == ["x", "x", "c", "c"]
    assert isinstance(standings[-1]["math"], Progress)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: HalvingSettings(eta=1), "search.halving.eta=1"),
        (lambda: HalvingSettings(first_problems=0), "search.halving.first_problems=0"),
        (lambda: AflowSettings(rounds=0), "search.aflow.rounds=0"),
        (lambda: AflowSettings(uniform_share=1.5), "search.aflow.uniform_share=1.5"),
        (lambda: AflowSettings(sharpness=-1), "search.aflow.sharpness=-1"),
    ],
)
def test_wrong_settings_are_refused(make: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make()  # type: ignore[operator]
