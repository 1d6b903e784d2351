"""Rewards: worked totals, shares by hand, and the settings that are refused.

What holds for every setting and record is in `test_reward_order`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from reward_world import (
    FORBIDDEN,
    ONE_CALL,
    PROBLEM,
    RIGHT,
    SOURCE,
    WRONG,
    completion,
    failed,
    ran,
)

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Domain, Execution, FaultKind, Score, Status, Usage
from aflow_grpo.reward_settings import outcome_ranges
from aflow_grpo.rewards import (
    RewardPenalties,
    RewardSchedule,
    RewardSettings,
    RewardWeights,
    compute_reward,
    efficiency_share,
    one_call_cost,
    repeated_share,
    repetition_share,
    simplicity_share,
)

ORDERED = RewardSettings()


def total(execution: Execution, score: Score = WRONG, settings: RewardSettings = ORDERED) -> float:
    return compute_reward(PROBLEM, completion(), execution, score, settings).total


@pytest.mark.parametrize(
    ("execution", "score", "expected"),
    [
        # 65 + 15 + 10 + 5 + 5 = 100 points -> 10
        (ran(1, 1.0), RIGHT, 10.0),
        # 65 + 15 * .5 + 10 * 4/8 + 10 = 87.5 points -> 8.75
        (ran(5, 5.0), RIGHT, 8.75),
        # 65 + 0 + 0 + 10 = 75 points -> 7.5
        (ran(9, 20.0), RIGHT, 7.5),
        # the same, repaired: no format -> 7.0
        (ran(9, 20.0, source=dataclasses.replace(SOURCE, repaired=True)), RIGHT, 7.0),
        # 10 points - 2
        (ran(1, 1.0), WRONG, -1.0),
        # format and repetition - 5
        (failed(Status.ERROR, FaultKind.EXCEPTION), WRONG, -4.0),
        # repetition only - 7: an invalid workflow has no format
        (FORBIDDEN, WRONG, -6.5),
        # one kind of flaw: .5 - 10 + 2; two: + 1.5; a flaw that hides others: + 0
        (failed(Status.INVALID, FaultKind.BAD_RETURN), WRONG, -7.5),
        (failed(Status.INVALID, FaultKind.BAD_RETURN, FaultKind.BAD_SIGNATURE), WRONG, -8.0),
        (failed(Status.INVALID, FaultKind.SYNTAX_ERROR), WRONG, -9.5),
        (failed(Status.CUT, FaultKind.LENGTH_LIMIT), WRONG, -9.5),
        (Execution(Status.UNAVAILABLE, fault_kind=FaultKind.ENDPOINT), WRONG, 0.0),
    ],
)
def test_worked_totals_of_the_ordered_preset(
    execution: Execution, score: Score, expected: float
) -> None:
    assert total(execution, score) == pytest.approx(expected)


LITERAL = RewardSettings(preset="literal", mode="additive")


@pytest.mark.parametrize(
    ("execution", "score", "expected"),
    [
        (ran(1, 1.0), RIGHT, 10.0),  # 100 / 5 - 10
        (ran(1, 1.0), WRONG, -3.0),  # 35 / 5 - 10
        (failed(Status.INVALID, FaultKind.BAD_RETURN), WRONG, -3.0),
        (failed(Status.CUT, FaultKind.LENGTH_LIMIT), WRONG, -3.0),
        (FORBIDDEN, WRONG, -5.0),
        (
            failed(Status.INVALID, FaultKind.BAD_RETURN, FaultKind.FORBIDDEN_OPERATOR),
            WRONG,
            -5.0,  # the most severe one, not the sum
        ),
        (failed(Status.ERROR, FaultKind.EXCEPTION), WRONG, -10.0),
        (failed(Status.TIMEOUT, FaultKind.CALL_BUDGET), WRONG, -10.0),
        (Execution(Status.UNAVAILABLE, fault_kind=FaultKind.DEADLINE), WRONG, 0.0),
    ],
)
def test_literal_preset_has_the_source_documents_numbers(
    execution: Execution, score: Score, expected: float
) -> None:
    assert total(execution, score, LITERAL) == pytest.approx(expected)


def test_fallback_answer_never_earns_even_when_it_is_right() -> None:
    execution = failed(Status.ERROR, FaultKind.EXCEPTION, fallback_answer="18")
    assert total(execution, RIGHT) == total(execution, WRONG) == pytest.approx(-4.0)


@pytest.mark.parametrize(
    ("value", "execution", "expected"),
    [
        # 65/2 + 15/2 + 10/2 + 10 = 55 points, - 2/2: 4.5, but the ceiling is -1 + .5 * 7.5 = 2.75
        (0.5, ran(1, 1.0), 2.75),
        # the same at no efficiency and simplicity: 42.5 points: 3.25, ceiling 2.75
        (0.5, ran(9, 20.0), 2.75),
        # and without format (repaired): 2.75 in any case
        (0.5, ran(9, 20.0, source=dataclasses.replace(SOURCE, repaired=True)), 2.75),
        # 6.5 + 10 = 16.5 points, - 2 * .9: -.15; ceiling -.25
        (0.1, ran(9, 20.0), -0.25),
        # -1 + .999 * 7.5, less than the 6.5 that any right answer has
        (0.999, ran(1, 1.0), 6.4925),
    ],
)
def test_worked_totals_of_partly_right_answers(
    value: float, execution: Execution, expected: float
) -> None:
    assert total(execution, Score(value, False)) == pytest.approx(expected)


def test_the_score_multiplies_correctness_efficiency_and_simplicity() -> None:
    parts = compute_reward(PROBLEM, completion(), ran(5, 5.0), Score(0.4, False), ORDERED)
    assert (parts.correctness, parts.format, parts.repetition) == (26.0, 5.0, 5.0)
    assert parts.efficiency == pytest.approx(0.4 * 15 * 0.5)
    assert parts.simplicity == pytest.approx(0.4 * 10 * 4 / 8)
    assert parts.penalty == pytest.approx(-2 * 0.6)


def test_additive_preset_is_ordered_without_the_gate() -> None:
    additive = RewardSettings(preset="additive")
    gateless = RewardSettings(mode="additive")
    for score in (RIGHT, WRONG, Score(0.5, False)):
        assert total(ran(3, 4.0), score, additive) == total(ran(3, 4.0), score, gateless)
    assert total(ran(), WRONG, additive) == pytest.approx(1.5)
    assert total(ran(9, 20.0), WRONG, additive) == pytest.approx(-1.0)
    assert total(ran(9, 20.0), RIGHT, additive) == pytest.approx(7.5)


def test_v1_preset_has_the_weights_of_version_one() -> None:
    v1 = RewardSettings(preset="v1")
    assert v1.effective_weights == RewardWeights(70, 20, 10, 0, 0)
    assert total(ran(1, 1.0), RIGHT, v1) == pytest.approx(10.0)
    assert total(ran(1, 1.0), WRONG, v1) == pytest.approx(-2.0)


def test_weights_may_be_shares() -> None:
    shares = RewardWeights(0.65, 0.15, 0.10, 0.05, 0.05)
    assert dataclasses.astuple(shares) == pytest.approx((65, 15, 10, 5, 5))
    assert total(ran(), RIGHT, RewardSettings(weights=shares)) == pytest.approx(10.0)


def test_additive_mode_pays_a_wrong_answer_for_being_cheap_and_gated_does_not() -> None:
    assert total(ran(), WRONG, RewardSettings(mode="additive")) == pytest.approx(1.5)
    assert total(ran(9, 20.0), WRONG, RewardSettings(mode="additive")) == pytest.approx(-1.0)
    assert total(ran(), WRONG) == total(ran(9, 20.0), WRONG)


@pytest.mark.parametrize(
    ("ratio", "share"),
    [(0.2, 1.0), (1, 1.0), (2, 0.8), (5, 0.5), (10, 0.25), (20, 0.0), (1e9, 0.0)],
)
def test_efficiency_bands_are_relative_to_one_call(ratio: float, share: float) -> None:
    assert efficiency_share(ran(3, ratio), ONE_CALL) == pytest.approx(share)


def test_efficiency_between_bands_is_smooth_on_a_log_scale() -> None:
    halfway = efficiency_share(ran(3, 2**0.5), ONE_CALL)
    assert halfway == pytest.approx(0.9)


@pytest.mark.parametrize("cost", [0.0, float("nan"), -1.0])
def test_unpriced_calls_earn_no_efficiency(cost: float) -> None:
    execution = ran(1, usage=Usage(calls=1, cost_usd=cost))
    assert efficiency_share(execution, ONE_CALL) == 0.0


def test_no_executor_call_is_never_better_than_one() -> None:
    assert efficiency_share(ran(0, usage=Usage()), ONE_CALL) == 1.0
    assert efficiency_share(ran(1, 1.0), ONE_CALL) == 1.0


@pytest.mark.parametrize(
    ("calls", "share"), [(0, 1), (1, 1), (2, 0.875), (5, 0.5), (9, 0), (99, 0)]
)
def test_simplicity_counts_operator_calls(calls: int, share: float) -> None:
    assert simplicity_share(calls, 9) == share


def test_repeated_share_by_hand() -> None:
    # 200 words have 193 runs of eight, of which 2 differ
    assert repeated_share("a b " * 100) == pytest.approx(191 / 193)
    assert repeated_share("one two three") == 0.0


def test_a_flood_of_one_letter_is_repetition() -> None:
    assert repetition_share("a" * 5000, free=0.25) < 0.05
    assert repetition_share("", free=0.25) == 0.0


def test_three_samples_in_one_workflow_are_no_repetition() -> None:
    head = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"
    sample = (
        "        r{0} = await self.answer_generate(input=problem)\n        s{0} = r{0}['answer']\n"
    )
    tail = (
        "        best = await self.sc_ensemble(solutions=[s0, s1, s2], problem=problem)\n"
        "        return best['response'], self.llm.get_usage_summary()['total_cost']\n"
    )
    text = head + "".join(sample.format(i) for i in range(3)) + tail
    assert repetition_share(text, ORDERED.repetition_free) == 1.0


def test_only_the_form_asked_for_earns_format() -> None:
    code = ran(source=dataclasses.replace(SOURCE, hybrid=False))
    for form, hybrid_points, code_points in (("any", 5, 5), ("hybrid", 5, 0), ("code", 0, 5)):
        settings = RewardSettings(form=form)  # type: ignore[arg-type]
        for execution, points in ((ran(), hybrid_points), (code, code_points)):
            parts = compute_reward(PROBLEM, completion(), execution, RIGHT, settings)
            assert parts.format == points


@pytest.mark.parametrize(
    ("dataset", "domain", "cost"),
    [
        ("gsm8k", "math", 0.00018),
        ("sample", "math", 0.00012),
        ("sample", "code", 0.00018),
        ("sample", "qa", 0.00010),
        ("somebody-elses", "qa", 0.00020),
    ],
)
def test_one_call_cost_by_dataset(dataset: str, domain: Domain, cost: float) -> None:
    problem = dataclasses.replace(PROBLEM, dataset=dataset, domain=domain)
    assert one_call_cost(problem, ORDERED) == cost


def test_one_call_costs_given_add_to_the_built_in_ones() -> None:
    settings = RewardSettings(io_cost_usd={"mine": 0.5})
    mine = dataclasses.replace(PROBLEM, dataset="mine")
    assert one_call_cost(mine, settings) == 0.5
    assert one_call_cost(PROBLEM, settings) == 0.00018


def test_version_one_weights_are_accepted() -> None:
    assert RewardSettings(weights=RewardWeights(70, 20, 10, 0, 0)).preset == "ordered"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardWeights(correctness=70), r"reward\.weights: .*sum to 100 .*, got 105"),
        (lambda: RewardWeights(75, 15, 10, 5, -5), r"reward\.weights\.repetition"),
        (lambda: RewardWeights(correctness=float("nan")), r"reward\.weights\.correctness"),
        (lambda: RewardPenalties(execution=3), r"reward\.penalties\.execution"),
        (lambda: RewardPenalties(partial_credit=11), r"reward\.penalties\.partial_credit"),
        (lambda: RewardSettings(io_cost_usd={"gsm8k": 0.0}), r"reward\.io_cost_usd\.gsm8k"),
        (lambda: RewardWeights(0.65, 0.15, 0.1, 0.05, 0.15), r"or to 1 .*, got 1\.1"),
        (lambda: RewardSettings(preset="additive", mode="gated"), "contradict each other"),
        (lambda: RewardSchedule(full_from_step=-1), r"reward\.schedule\.full_from_step"),
        (lambda: RewardSchedule(full_from_direct_rate=1.5), r"schedule\.full_from_direct_rate"),
        (lambda: RewardSchedule(over_steps=0), r"reward\.schedule\.over_steps"),
        (lambda: RewardSettings(simplicity_zero_at=1), r"reward\.simplicity_zero_at"),
        (lambda: RewardSettings(repetition_free=1.0), r"reward\.repetition_free"),
        (
            lambda: RewardSettings(penalties=RewardPenalties(validation=-3, partial_credit=0)),
            "'forbidden operator' beats 'invalid or cut'",
        ),
        (
            lambda: RewardSettings(weights=RewardWeights(5, 5, 5, 80, 5)),
            "'right answer' beats 'wrong answer'",
        ),
        (
            lambda: RewardSettings(preset="additive", weights=RewardWeights(10, 45, 35, 5, 5)),
            "'right answer' beats 'wrong answer'",
        ),
    ],
)
def test_wrong_settings_are_refused_in_the_words_of_the_key(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_custom_preset_takes_numbers_that_ordered_refuses() -> None:
    settings = RewardSettings(
        preset="custom", penalties=RewardPenalties(validation=-3, partial_credit=0)
    )
    assert total(failed(Status.INVALID, FaultKind.BAD_RETURN), WRONG, settings) == pytest.approx(
        -2.5
    )


# docs/reward.md

PAGE = (Path(__file__).parents[1] / "docs" / "reward.md").read_text(encoding="utf-8")


def cells(row: str) -> list[str]:
    """The cells of the page's one table row that starts with this text."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip(" *").replace("−", "-") for cell in line.strip("|").split("|")]


def test_the_worked_example_of_the_docs_is_what_the_program_computes() -> None:
    execution = ran(3, usage=Usage(calls=3, cost_usd=0.000360))
    for column, value in enumerate((1.0, 0.5, 0.0), start=1):
        score = Score(value, value == 1)
        parts = compute_reward(PROBLEM, completion(), execution, score, ORDERED)
        points = parts.correctness + parts.efficiency + parts.simplicity
        points += parts.format + parts.repetition
        expected = {
            "correctness |": parts.correctness,
            "efficiency: share": parts.efficiency,
            "simplicity: share": parts.simplicity,
            "format, repetition": parts.format + parts.repetition,
            "penalty |": parts.penalty,
            "points / 10": points / 10 + parts.penalty,
            "**total**": parts.total,
        }
        for row, number in expected.items():
            found = [float(c) for c in _numbers(row)]
            assert found[column - 1] == pytest.approx(number), row


def _numbers(row: str) -> list[str]:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    line = rows[-1]  # the example's, after the tables of formulas
    return [cell.strip(" *").replace("−", "-") for cell in line.strip("|").split("|")[1:]]


def test_the_ranges_of_the_docs_are_those_of_the_settings() -> None:
    rows = {
        "right answer": "right answer (v",
        "wrong answer": "wrong answer (v",
        "failed while running": "failed while running",
        "forbidden operator": "forbidden operator",
        "invalid or cut": "invalid or cut",
    }
    for outcome, (lowest, highest) in outcome_ranges(ORDERED).items():
        assert cells(rows[outcome])[2] == f"[{lowest:g}, {highest:g}]"
