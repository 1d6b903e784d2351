"""Rewards: the order that `ordered` promises, worked totals, and the mistakes it must not make."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import (
    Completion,
    Domain,
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Problem,
    Score,
    Status,
    Usage,
    WorkflowSource,
    to_dict,
)
from aflow_grpo.rewards import (
    RewardPenalties,
    RewardSettings,
    RewardWeights,
    compute_reward,
    efficiency_share,
    one_call_cost,
    repeated_share,
    repetition_share,
    simplicity_share,
)

PROBLEM = Problem("gsm8k/train/1", "gsm8k", "math", "What is 9 + 9?", "18")
ONE_CALL = 0.00018
SOURCE = WorkflowSource("class Workflow: ...", {"custom": "Solve it."})
RIGHT, WRONG = Score(1.0, True), Score(0.0, False)
ORDERED = RewardSettings()
PLAIN_TEXT = '{"prompts": {}, "graph_code": "class Workflow: ..."}'


def completion(text: str = PLAIN_TEXT) -> Completion:
    return Completion(text, (1,), (2,), (-0.1,), finished=True)


def ran(calls: int = 1, ratio: float = 1.0, **changes: Any) -> Execution:
    """A workflow that ran to an answer: operator calls, and cost in one-call costs."""
    call = OperatorCall("custom", {}, {}, Usage(), seconds=0.1)
    fields: dict[str, Any] = {
        "answer": "18",
        "source": SOURCE,
        "calls": (call,) * calls,
        "usage": Usage(calls=max(calls, 1), cost_usd=ratio * ONE_CALL),
    }
    return Execution(Status.OK, **{**fields, **changes})


def failed(status: Status, kind: FaultKind, *more: FaultKind, **changes: Any) -> Execution:
    findings: tuple[Finding, ...] = ()
    if status is Status.INVALID:
        findings = tuple(Finding(k, "x") for k in (kind, *more))
    source = None if kind in (FaultKind.NO_WORKFLOW, FaultKind.LENGTH_LIMIT) else SOURCE
    fields: dict[str, Any] = {"fault_kind": kind, "findings": findings, "source": source}
    return Execution(status, **{**fields, **changes})


def total(execution: Execution, score: Score = WRONG, settings: RewardSettings = ORDERED) -> float:
    return compute_reward(PROBLEM, completion(), execution, score, settings).total


FORBIDDEN = failed(Status.INVALID, FaultKind.FORBIDDEN_OPERATOR)
TIERS: list[tuple[str, list[Execution]]] = [
    (
        "failed",
        [
            failed(Status.ERROR, FaultKind.EXCEPTION),
            failed(Status.ERROR, FaultKind.BAD_ANSWER),
            failed(Status.TIMEOUT, FaultKind.TIME_LIMIT),
            failed(Status.TIMEOUT, FaultKind.CALL_BUDGET),
        ],
    ),
    ("forbidden", [FORBIDDEN]),
    (
        "invalid",
        [
            failed(Status.INVALID, FaultKind.BAD_ARGUMENTS),
            failed(Status.INVALID, FaultKind.BAD_SIGNATURE, FaultKind.FORBIDDEN_OPERATOR),
            failed(Status.INVALID, FaultKind.SYNTAX_ERROR),
            failed(Status.INVALID, FaultKind.NO_WORKFLOW),
            failed(Status.CUT, FaultKind.LENGTH_LIMIT),
        ],
    ),
]
texts = st.sampled_from([PLAIN_TEXT, "", "la " * 200, "x" * 900]) | st.text(max_size=60)
ran_executions = st.builds(
    ran,
    calls=st.integers(0, 40),
    ratio=st.floats(0, 1e6),
    source=st.sampled_from([SOURCE, dataclasses.replace(SOURCE, repaired=True)]),
    seconds=st.floats(0, 1e4),
)
settings_in_both_modes = st.sampled_from([ORDERED, RewardSettings(mode="additive")])


@given(st.data(), settings_in_both_modes)
def test_ordered_keeps_its_order_whatever_the_other_dimensions_say(
    data: st.DataObject, settings: RewardSettings
) -> None:
    def reward(execution: Execution, score: Score) -> float:
        text = completion(data.draw(texts))
        return compute_reward(PROBLEM, text, execution, score, settings).total

    near_miss = Score(data.draw(st.floats(0, 1, exclude_max=True)), False)
    totals = [
        reward(data.draw(ran_executions), RIGHT),
        reward(data.draw(ran_executions), near_miss),
    ]
    for _, executions in TIERS:
        totals.append(reward(data.draw(st.sampled_from(executions)), data.draw(scores)))
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == 5
    assert all(-10 <= value <= 10 for value in totals)


scores = st.sampled_from([RIGHT, WRONG])
presets = st.sampled_from(["ordered", "literal", "custom"])


@given(st.data(), presets, st.sampled_from(["gated", "additive"]), scores, texts)
def test_total_stays_within_ten_and_parts_within_their_weights(
    data: st.DataObject, preset: Any, mode: Any, score: Score, text: str
) -> None:
    settings = RewardSettings(preset=preset, mode=mode)
    faults = [execution for _, executions in TIERS for execution in executions]
    execution = data.draw(ran_executions | st.sampled_from(faults))
    parts = compute_reward(PROBLEM, completion(text), execution, score, settings)
    assert -10 <= parts.total <= 10
    assert parts.penalty <= 0
    for name, weight in to_dict(settings.weights).items():
        assert 0 <= getattr(parts, name) <= weight


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 20))
def test_of_two_right_rollouts_the_cheaper_earns_at_least_as_much(
    one: float, other: float, calls: int
) -> None:
    cheap, dear = sorted((one, other))
    assert total(ran(calls, cheap), RIGHT) >= total(ran(calls, dear), RIGHT)


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


def test_near_miss_earns_no_correctness() -> None:
    parts = compute_reward(PROBLEM, completion(), ran(), Score(0.99, False), ORDERED)
    assert (parts.correctness, parts.efficiency, parts.simplicity) == (0.0, 0.0, 0.0)


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


def test_wall_clock_time_is_in_no_dimension() -> None:
    assert total(ran(seconds=0.1), RIGHT) == total(ran(seconds=179.0), RIGHT)


def test_executor_text_is_in_no_dimension() -> None:
    noisy = OperatorCall("custom", {}, {"response": "\\boxed " * 500}, Usage(), 0.1)
    quiet = OperatorCall("custom", {}, {"response": ""}, Usage(), 0.1)
    one, other = (dataclasses.replace(ran(), calls=(call,)) for call in (noisy, quiet))
    assert total(one, RIGHT) == total(other, RIGHT)


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
        (lambda: RewardWeights(correctness=70), r"reward\.weights: .*sum to 100, got 105"),
        (lambda: RewardWeights(75, 15, 10, 5, -5), r"reward\.weights\.repetition"),
        (lambda: RewardWeights(correctness=float("nan")), r"reward\.weights\.correctness"),
        (lambda: RewardPenalties(execution=3), r"reward\.penalties\.execution"),
        (lambda: RewardPenalties(partial_credit=11), r"reward\.penalties\.partial_credit"),
        (lambda: RewardSettings(io_cost_usd={"gsm8k": 0.0}), r"reward\.io_cost_usd\.gsm8k"),
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
