"""Worked numbers for what one step says about a run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rollouts import rollout

from aflow_grpo.records import Completion, Rollout, Status, Usage
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.training.forecast import (
    ASSUMED_CALLS,
    Phases,
    Plan,
    StepFigures,
    forecast,
    plan_run,
    quantile,
    setting_warnings,
    step_figures,
    step_warnings,
)
from aflow_grpo.training.settings import EvaluationSettings

SAMPLE_MATH_USD = 0.00012


def completion(tokens: int, prompt: int, *, finished: bool = True, cut: bool = False) -> Completion:
    return Completion(
        "{}", (1,) * prompt, (2,) * tokens, (-1.0,) * tokens, finished, context_cut=cut
    )


def figures_of(*rollouts: Rollout) -> StepFigures:
    return step_figures(rollouts, RewardSettings())


# Statistics


@given(st.lists(st.integers(0, 99), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_enough_values_do_not_exceed(
    values: list[int], q: float
) -> None:
    found = quantile(values, q)
    assert found in values
    assert sum(v <= found for v in values) >= q * len(values) - 1e-6
    assert sum(v < found for v in values) < q * len(values)


def test_quantiles_by_hand() -> None:
    ten = range(10, 110, 10)
    assert (quantile(ten, 0.5), quantile(ten, 0.9), quantile(ten, 1)) == (50, 90, 100)
    assert quantile([], 0.5) == 0


# One step


def test_the_figures_of_a_step_by_hand() -> None:
    paid = Usage(calls=2, attempts=2, cost_usd=0.004)
    helped = Usage(calls=1, attempts=1, cost_usd=0.001)
    found = figures_of(
        rollout(group=0, total=9, correct=True, usage=paid, seconds=3,
                completion=completion(10, 100, cut=True)),
        rollout(group=0, member=1, total=-8, status=Status.INVALID, fallback_usage=helped,
                completion=completion(20, 100, cut=True)),
        rollout("qa", group=1, total=-10, status=Status.CUT,
                completion=completion(90, 50, finished=False)),
        rollout("qa", group=1, member=1, total=-10, status=Status.INVALID,
                completion=completion(30, 50)),
        rollout("code", group=2, status=Status.UNAVAILABLE, usage=Usage(1, 1, cost_usd=0.002),
                seconds=1, completion=completion(40, 70)),
    )  # fmt: skip
    assert (found.workflows, found.counted, found.direct, found.correct) == (5, 4, 1, 1)
    assert found.statuses == {"invalid": 2, "ok": 1, "cut": 1, "unavailable": 1}
    assert next(iter(found.statuses)) == "invalid"
    assert sorted(found.prompt_tokens) == [50, 70, 100]
    assert found.completion_tokens == (10, 20, 90, 30, 40)
    assert (found.cut, found.shortened) == (1, 1)
    # The masked group is none; the second one's rewards are equal.
    assert (found.groups, found.signals) == (2, 1)
    assert (found.ran, found.ran_s) == (2, 2)
    assert found.ran_usd == pytest.approx(0.003)
    assert found.total_usd == pytest.approx(0.007)


def test_where_nothing_ran_the_cost_is_assumed_from_the_one_call_costs() -> None:
    found = figures_of(rollout(status=Status.INVALID), rollout("qa", status=Status.INVALID))
    assert (found.ran, found.total_usd) == (0, 0)
    assert found.ran_usd == pytest.approx(ASSUMED_CALLS * (SAMPLE_MATH_USD + 0.0001) / 2)


# The plan


def plan_of(**changes: object) -> Plan:
    given: dict[str, object] = {
        "first_iteration": 0, "iterations": 60, "workflows_per_iteration": 64,
        "evaluation": EvaluationSettings(), "val_problems": 100, "quick_problems": 50,
        "quick_every": 10, "fallback": True,
    }  # fmt: skip
    return plan_run(**(given | changes))  # type: ignore[arg-type]


def test_the_plan_of_the_quickstart_by_hand() -> None:
    # Two full evaluations of 100 problems x (5 sampled + 1 greedy); six quick validations of 50
    # problems, of which the fourth executes.
    assert plan_of() == Plan(60, 3840, 1200 + 50, 200 + 50, 5 * 50)


def test_what_a_resumed_run_has_behind_it_is_not_planned() -> None:
    # From 35 to 60: validations after 40 (the fourth: executes), 50 and 60; no evaluation at start.
    assert plan_of(first_iteration=35, iterations=25) == Plan(25, 1600, 650, 150, 100)


@pytest.mark.parametrize(
    ("changes", "judged", "answered", "checked"),
    [
        ({"fallback": False}, 1250, 0, 250),
        ({"val_problems": 0, "quick_problems": 0}, 0, 0, 0),
        ({"quick_every": math.inf}, 1200, 200, 0),
        ({"evaluation": EvaluationSettings(execute_every=0)}, 1200, 200, 300),
        ({"evaluation": EvaluationSettings(execute_every=1, samples=0)}, 500, 500, 0),
        ({"evaluation": EvaluationSettings(at_start=False, at_end=False)}, 50, 50, 250),
    ],
)
def test_the_settings_that_change_the_plan(
    changes: dict[str, object], judged: int, answered: int, checked: int
) -> None:
    assert plan_of(**changes) == Plan(60, 3840, judged, answered, checked)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 12), st.integers(0, 5))
def test_quick_validations_are_counted_as_a_run_counts_them(
    first: int, iterations: int, every: int, execute_every: int
) -> None:
    quick = executed = 0
    for iteration in range(1, first + iterations + 1):
        if iteration % every == 0:
            quick += 1
            if iteration > first and execute_every and quick % execute_every == 0:
                executed += 1
    behind = first // every
    settings = EvaluationSettings(execute_every=execute_every, at_start=False, at_end=False)
    plan = plan_of(
        first_iteration=first, iterations=iterations, quick_every=every, evaluation=settings
    )
    assert plan.judged == 50 * executed
    assert plan.checked == 50 * (quick - behind - executed)


# The forecast


def step(**changes: object) -> StepFigures:
    figures = {
        "workflows": 10, "counted": 10, "direct": 2, "correct": 1, "statuses": {"ok": 2},
        "prompt_tokens": (5,), "completion_tokens": (7,) * 10, "cut": 0, "shortened": 0,
        "groups": 5, "signals": 5, "ran": 2, "ran_s": 8.0, "ran_usd": 0.5, "total_usd": 1.0,
    }  # fmt: skip
    return StepFigures(**(figures | changes))  # type: ignore[arg-type]


PHASES = Phases(load_s=100, sample_s=20, execute_s=10, update_s=5)
PLAN = Plan(iterations=4, trained=40, judged=30, answered=10, checked=20)


def test_a_forecast_by_hand() -> None:
    found = forecast(step(), PHASES, PLAN, concurrency=4)
    # 100 to load, (70 + 20) x 2 to sample, 4 x 5 to update; executing 70 x 1, or 70 x 8 / 4.
    assert (found.low_s, found.high_s) == (300 + 70, 300 + 140)
    # Of 70 executed workflows 60 cost 0.1 and 10 are answered at 0.5, or all cost 0.5.
    assert (found.low_usd, found.high_usd) == pytest.approx((6 + 5, 35))


def test_an_execution_that_was_slower_than_its_workflows_stays_as_slow() -> None:
    found = forecast(step(ran_s=0.1), PHASES, PLAN, concurrency=16)
    assert found.low_s == found.high_s == 370


@given(st.floats(0, 9), st.floats(0, 9), st.floats(0, 99), st.integers(1, 64))
def test_the_low_end_is_never_above_the_high_end(
    ran_usd: float, total_usd: float, ran_s: float, concurrency: int
) -> None:
    figures = step(ran_usd=ran_usd, total_usd=total_usd, ran_s=ran_s)
    found = forecast(figures, PHASES, PLAN, concurrency)
    assert found.low_s <= found.high_s and found.low_usd <= found.high_usd


# Warnings

SOUND = {
    "preset": "ordered", "group_size": 4, "temperature": 0.31, "learning_rate": 2e-5, "lora": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, None),
        ({"learning_rate": 1e-6, "lora": False}, None),
        ({"preset": "custom"}, None),
        ({"preset": "literal"}, "rollout.reward.preset: ordered"),
        ({"group_size": 3}, "model.grpo.group_size: 8"),
        ({"temperature": 0.3}, "model.policy.sampling.temperature: 1.0"),
        ({"learning_rate": 1.9e-5}, "model.optimizer.learning_rate: 5.0e-5"),
    ],
)
def test_settings_known_to_fail_are_named_with_their_remedy(
    changes: dict[str, object], key: str | None
) -> None:
    found = setting_warnings(**(SOUND | changes))  # type: ignore[arg-type]
    assert len(found) == (key is not None)
    assert all(f"Set {key}" in text for text in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workflows": 30, "cut": 3, "prompt_tokens": (5,) * 10, "shortened": 1,
          "counted": 30, "signals": 1}, None),
        ({"workflows": 30, "counted": 30, "cut": 4}, "4 of 30 completions were cut"),
        ({"prompt_tokens": (5,) * 10, "shortened": 2}, "2 of 10 problems lost part"),
        ({"signals": 0}, "Equal rewards within every group"),
        ({"counted": 9}, "1 of 10 workflows could not be judged"),
        ({"counted": 0, "groups": 0, "signals": 0}, "10 of 10 workflows could not be judged"),
    ],
)  # fmt: skip
def test_what_the_step_showed_to_be_wrong(changes: dict[str, object], said: str | None) -> None:
    found = step_warnings(step(**changes))
    assert len(found) == (said is not None)
    assert all(str(said) in text for text in found)
