"""What the reward promises for every setting that the config accepts and for any record at all."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reward_world import (
    ONE_CALL,
    PROBLEM,
    RIGHT,
    WRONG,
    any_executions,
    any_scores,
    completion,
    failed,
    faults_by_outcome,
    ordered_settings,
    ran,
    ran_executions,
    texts,
)

from aflow_grpo.records import (
    Execution,
    FaultKind,
    OperatorCall,
    Score,
    Status,
    Usage,
    WorkflowSource,
    to_dict,
)
from aflow_grpo.rewards import (
    REHEARSED,
    RewardSettings,
    compute_reward,
    efficiency_share,
)

presets = st.sampled_from(["ordered", "additive", "v1", "literal", "custom"])
stages = st.sampled_from(["structure", "full"])
below_right = math.nextafter(1 - 1e-9, 0)
"""The largest score that is not right: from 1 - 1e-9 on a quotient of floats counts as 1."""
near_right = st.floats(0, below_right) | st.just(below_right)


def totals_of(data: st.DataObject, settings: RewardSettings, stage: Any) -> list[float]:
    """One total per outcome, best first, from records drawn at random."""

    def reward(execution: Execution, score: Score) -> float:
        text = completion(data.draw(texts))
        return compute_reward(PROBLEM, text, execution, score, settings, stage=stage).total

    found = []
    if stage == "full":
        found.append(reward(data.draw(ran_executions), Score(1.0, data.draw(st.booleans()))))
    partly = Score(data.draw(near_right), data.draw(st.booleans()))
    found.append(reward(data.draw(ran_executions), partly))
    found += [reward(data.draw(e), data.draw(any_scores)) for e in faults_by_outcome.values()]
    return found


@given(st.data(), ordered_settings(), stages)
def test_better_outcomes_earn_more_for_every_setting_accepted_and_any_record(
    data: st.DataObject, settings: RewardSettings | None, stage: Any
) -> None:
    assume(settings is not None)
    assert settings is not None
    totals = totals_of(data, settings, stage)
    assert all(better > worse for better, worse in pairwise(totals)), totals
    assert all(-10 <= total <= 10 for total in totals)


@given(any_executions, any_scores, texts, presets, st.sampled_from([None, "additive"]), stages)
def test_total_is_finite_and_in_range_and_parts_within_their_weights_for_any_record(
    execution: Execution, score: Score, text: str, preset: Any, mode: Any, stage: Any
) -> None:
    settings = RewardSettings(preset=preset, mode=mode)
    parts = compute_reward(PROBLEM, completion(text), execution, score, settings, stage=stage)
    assert -10 <= parts.total <= 10
    assert -10 <= parts.penalty <= 0
    for name, weight in to_dict(settings.effective_weights).items():
        assert 0 <= getattr(parts, name) <= weight


@given(any_executions, any_scores, ordered_settings(), texts, st.data())
def test_time_attempts_bills_tiers_and_messages_change_nothing(
    execution: Execution,
    score: Score,
    settings: RewardSettings | None,
    text: str,
    data: st.DataObject,
) -> None:
    assume(settings is not None)
    assert settings is not None
    noisy = dataclasses.replace(
        execution,
        seconds=data.draw(st.floats()),
        message=data.draw(st.text()),
        usage=dataclasses.replace(
            execution.usage,
            attempts=data.draw(st.integers(0, 999)),
            billed_usd=data.draw(st.floats()),
        ),
        calls=tuple(
            OperatorCall("review", {"x": 1}, {"response": "\\boxed{1}"}, Usage(9), 1e9, ("b",))
            for _ in execution.calls
        ),
        fallback_answer="18",
        fallback_usage=Usage(calls=99, cost_usd=9.0),
    )
    told = dataclasses.replace(score, detail="told otherwise", measures={"f1": 1.0})
    one = compute_reward(PROBLEM, completion(text), execution, score, settings)
    assert compute_reward(PROBLEM, completion(text), noisy, told, settings) == one


positive = st.floats(1e-9, 1e6)
values = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])


@given(positive, positive, st.integers(0, 20), values, ordered_settings())
def test_more_cost_never_pays(
    one: float, other: float, calls: int, value: float, settings: RewardSettings | None
) -> None:
    assume(settings is not None)
    assert settings is not None
    cheap, dear = (
        compute_reward(PROBLEM, completion(), ran(calls, c), Score(value, value == 1), settings)
        for c in sorted((one, other))
    )
    assert cheap.total >= dear.total


@given(st.integers(0, 60), st.integers(0, 60), positive, values, ordered_settings())
def test_more_calls_never_pay(
    one: int, other: int, ratio: float, value: float, settings: RewardSettings | None
) -> None:
    assume(settings is not None)
    assert settings is not None
    few, many = (
        compute_reward(PROBLEM, completion(), ran(n, ratio), Score(value, value == 1), settings)
        for n in sorted((one, other))
    )
    assert few.total >= many.total


steps = st.integers(0, 1000)


@given(steps, steps, ran_executions, texts, ordered_settings())
def test_a_higher_score_pays_strictly_more(
    one: int, other: int, execution: Execution, text: str, settings: RewardSettings | None
) -> None:
    assume(settings is not None and one != other)
    assert settings is not None
    low, high = (
        compute_reward(PROBLEM, completion(text), execution, Score(n / 1000, False), settings)
        for n in sorted((one, other))
    )
    assert low.total < high.total


@given(steps, ran_executions, ordered_settings())
def test_the_total_does_not_jump_below_a_right_answer(
    step: int, execution: Execution, settings: RewardSettings | None
) -> None:
    assume(settings is not None and step < 1000)
    assert settings is not None
    near = [step / 1000, step / 1000 + 1e-7]
    totals = [
        compute_reward(PROBLEM, completion(), execution, Score(v, False), settings).total
        for v in near
    ]
    assert totals[1] - totals[0] < 21e-7  # no slope is steeper than the whole range


@given(faults_by_outcome["failed"] | faults_by_outcome["invalid"], any_scores, ordered_settings())
def test_fallback_answer_earns_nothing(
    execution: Execution, score: Score, settings: RewardSettings | None
) -> None:
    assume(settings is not None)
    assert settings is not None
    answered = dataclasses.replace(execution, fallback_answer="18")
    silent = dataclasses.replace(execution, fallback_answer=None)
    paid = compute_reward(PROBLEM, completion(), answered, RIGHT, settings)
    assert paid == compute_reward(PROBLEM, completion(), silent, score, settings)
    assert (paid.correctness, paid.efficiency, paid.simplicity) == (0, 0, 0)


# The mistakes of a published system, by name


def test_near_miss_in_math_earns_no_more_than_any_wrong_answer() -> None:
    """(c) An answer that is off by one scores 0, and what is measured beside it is not paid."""
    off_by_one = Score(0.0, False, measures={"f1": 0.99, "relative_error": 0.05})
    one, other = (
        compute_reward(PROBLEM, completion(), ran(), score, RewardSettings())
        for score in (off_by_one, WRONG)
    )
    assert one == other
    assert one.correctness == one.efficiency == one.simplicity == 0


def test_executor_text_does_not_change_format() -> None:
    """(e) What the executor writes is nothing that the policy could have written better."""

    def reward(text: str) -> Any:
        call = OperatorCall("custom", {"input": text}, {"response": text}, Usage(calls=1), 0.1)
        execution = dataclasses.replace(ran(), calls=(call,), answer=text)
        return compute_reward(PROBLEM, completion(), execution, RIGHT, RewardSettings())

    texts = ("18", "\\boxed{18}", "```python\n```", "la " * 999, '{"broken": ', "")
    assert len({reward(text) for text in texts}) == 1


def test_unpriced_call_does_not_beat_a_priced_one() -> None:
    """(f) Cost 0 is an unknown cost wherever the executor was asked; bands are relative."""
    unpriced = ran(1, usage=Usage(calls=1, cost_usd=0.0))
    tokens_only = ran(1, usage=Usage(calls=0, prompt_tokens=9, cost_usd=0.0))
    for dear in (1.0, 19.0, 1e6):
        priced = ran(1, dear)
        for free in (unpriced, tokens_only):
            assert efficiency_share(free, ONE_CALL) <= efficiency_share(priced, ONE_CALL)
    no_call = efficiency_share(ran(0, usage=Usage()), ONE_CALL)
    assert no_call == efficiency_share(ran(1, 1.0), ONE_CALL) == 1.0


def test_wall_time_earns_nothing() -> None:
    """(h) A slow endpoint is not the policy's doing."""
    rewards = {
        compute_reward(PROBLEM, completion(), ran(seconds=s), RIGHT, RewardSettings())
        for s in (0.0, 0.1, 179.0, math.inf, math.nan)
    }
    assert len(rewards) == 1


@pytest.mark.parametrize(
    ("score", "like"),
    [
        (Score(0.0, True), WRONG),
        (Score(1.0, False), RIGHT),
        (Score(1 - 1e-10, False), RIGHT),
        (Score(7.0, False), RIGHT),
        (Score(-3.0, True), WRONG),
        (Score(math.nan, True), WRONG),
        (Score(math.inf, True), WRONG),
    ],
)
def test_of_a_contradictory_score_the_value_decides(score: Score, like: Score) -> None:
    one, other = (
        compute_reward(PROBLEM, completion(), ran(), s, RewardSettings()) for s in (score, like)
    )
    assert one == other


def test_structure_rewards_are_known_by_their_records_and_not_by_the_settings() -> None:
    staged = RewardSettings(stage="structure")
    for settings in (RewardSettings(), staged):
        full = compute_reward(PROBLEM, completion(), ran(), RIGHT, settings)
        assert full.total == 10 and full.correctness == 65
        structure = compute_reward(PROBLEM, completion(), ran(), REHEARSED, settings)
        assert structure.correctness == 0


CODE = (
    "class Workflow:\n    async def __call__(self, problem):\n"
    '        r = await self.custom(input=problem)\n        return r["response"], 0\n'
)


def test_worked_totals_of_the_structure_stage() -> None:
    source = WorkflowSource(CODE)

    def total(execution: Execution) -> float:
        settings = RewardSettings(stage="structure")
        return compute_reward(PROBLEM, completion(), execution, REHEARSED, settings).total

    assert total(ran(source=source)) == 10.0
    # Measures 1, 1, 1, 1: -5 + .5
    assert total(failed(Status.ERROR, FaultKind.EXCEPTION, source=source)) == pytest.approx(-4.5)
    # 1 - 1/8, 1, 1, 1: mean 31/32; -10 + 2 for one kind of flaw
    invalid = failed(Status.INVALID, FaultKind.BAD_RETURN, source=source)
    assert total(invalid) == pytest.approx(-8 + 0.5 * 31 / 32)
    assert total(failed(Status.CUT, FaultKind.LENGTH_LIMIT)) == -10.0
    assert total(Execution(Status.UNAVAILABLE, fault_kind=FaultKind.DEADLINE)) == 0.0
