"""Metrics: worked numbers, masked rollouts in nothing, and exactly the documented names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from made_rollouts import DIRECT, REPAIRED, call, rollout

from aflow_grpo.intervals import wilson_interval
from aflow_grpo.records import (
    DOMAINS,
    Completion,
    Domain,
    FaultKind,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.training import metrics as module
from aflow_grpo.training.metrics import (
    HEADLINE,
    REWARD_PARTS,
    interval_metrics,
    rollout_metrics,
    valid_rate,
)


def tokens(count: int, *, context_cut: bool = False) -> Completion:
    return Completion("{}", (1,) * 10, (2,) * count, (-1.0,) * count, True, context_cut=context_cut)


RIGHT = rollout(
    "math", total=9.0, correct=True, parts=(65, 10, 10, 5, 0, 0), completion=tokens(10),
    calls=(call("custom"), call("review")),
    usage=Usage(calls=3, prompt_tokens=100, completion_tokens=50, cost_usd=2e-4),
)  # fmt: skip
REPAIRED_AND_WRONG = rollout(
    "math", total=-2.0, parts=(0, 0, 0, 0, 5, -2), completion=tokens(20), source=REPAIRED,
    calls=(call("custom"),),
    usage=Usage(calls=1, prompt_tokens=20, completion_tokens=10, cost_usd=4e-4),
)  # fmt: skip
INVALID = rollout(
    "code", total=-8.0, parts=(0, 0, 0, 0, 0, -8), status=Status.INVALID,
    completion=tokens(30, context_cut=True),
    fault_kind=FaultKind.BAD_RETURN, fallback_answer="def f(): return 42",
    fallback_usage=Usage(calls=9, prompt_tokens=999, cost_usd=1.0),
)  # fmt: skip
FAILED = rollout(
    "code", total=-5.0, parts=(0, 0, 0, 5, 5, -6), status=Status.ERROR, completion=tokens(40),
    fault_kind=FaultKind.EXCEPTION, calls=(call("test"),) * 5,
    usage=Usage(calls=4, prompt_tokens=40, completion_tokens=20, cost_usd=2e-4),
)  # fmt: skip
MASKED = rollout(
    "qa", total=-1e9, correct=True, parts=(1e9,) * 6, status=Status.UNAVAILABLE,
    completion=tokens(5000, context_cut=True), fault_kind=FaultKind.ENDPOINT,
    calls=(call("custom"),) * 50,
    usage=Usage(calls=50, prompt_tokens=10**9, completion_tokens=10**9, cost_usd=1e9),
)  # fmt: skip
BATCH = [RIGHT, REPAIRED_AND_WRONG, INVALID, FAILED]

WORKED: dict[str, float] = {
    "reward": (9 - 2 - 8 - 5) / 4,
    "reward/math": 3.5,
    "reward/code": -6.5,
    "reward/correctness": 65 / 4,
    "reward/efficiency": 2.5,
    "reward/simplicity": 2.5,
    "reward/format": 2.5,
    "reward/repetition": 2.5,
    "reward/penalty": -4.0,
    "reward/correctness.math": 32.5,
    "reward/efficiency.math": 5.0,
    "reward/simplicity.math": 5.0,
    "reward/format.math": 2.5,
    "reward/repetition.math": 2.5,
    "reward/penalty.math": -1.0,
    "reward/format.code": 2.5,
    "reward/repetition.code": 2.5,
    "reward/penalty.code": -7.0,
    # Each problem is a group of its own domain: (9, -2) and (-8, -5), half their distance
    # One of two is right; none of two is
    "pass_at/2": 0.5,
    "pass_at/2.math": 1.0,
    "reward_spread": (5.5 + 1.5) / 2,
    "reward_spread/math": 5.5,
    "reward_spread/code": 1.5,
    "zero_variance_groups": 0.0,
    "zero_variance_groups/math": 0.0,
    "zero_variance_groups/code": 0.0,
    "penalty/wrong": 0.25,
    "penalty/wrong.math": 0.5,
    "penalty/execution": 0.25,
    "penalty/execution.code": 0.5,
    "penalty/validation": 0.25,
    "penalty/validation.code": 0.5,
    "direct_execution_rate": 0.25,
    "direct_execution_rate/math": 0.5,
    "direct_execution_rate/code": 0.0,
    "repaired_execution_rate": 0.25,
    "repaired_execution_rate/math": 0.5,
    "repaired_execution_rate/code": 0.0,
    "accuracy": 0.25,
    "accuracy/math": 0.5,
    "accuracy/code": 0.0,
    "fallback_rate": 0.5,
    "fallback_rate/math": 0.0,
    "fallback_rate/code": 1.0,
    "validation_failure_rate": 0.25,
    "validation_failure_rate/math": 0.0,
    "validation_failure_rate/code": 0.5,
    "cost_usd_per_problem": 2e-4,
    "cost_usd_per_problem/math": 3e-4,
    "cost_usd_per_problem/code": 1e-4,
    "llm_calls_per_problem": 2.0,
    "tokens/prompt": 40.0,
    "tokens/completion": 20.0,
    "status/ok": 0.5,
    "status/cut": 0.0,
    "status/invalid": 0.25,
    "status/error": 0.25,
    "status/timeout": 0.0,
    "status/unavailable": 0.0,
    "fault/bad_return": 0.25,
    "fault/exception": 0.25,
    "operators/custom": 1.0,
    "operators/review": 0.5,
    "operators/test": 0.0,
    "length/completion_tokens": 25.0,
    "length/completion_tokens.p50": 20.0,
    "length/completion_tokens.p90": 40.0,
    "length/completion_tokens.max": 40.0,
    "length/prompt_tokens": 10.0,
    "length/prompt_tokens.p50": 10.0,
    "length/prompt_tokens.p90": 10.0,
    "length/prompt_tokens.max": 10.0,
    "length/context_cut": 0.25,
}


def test_worked_numbers() -> None:
    found = rollout_metrics(BATCH, "val")
    assert {name: found[f"val/{name}"] for name in WORKED} == pytest.approx(WORKED)
    unused = {name for name in found if name.removeprefix("val/") not in WORKED}
    assert {found[name] for name in unused} == {0.0}
    groups = ("val/operators/", "val/pass_at/", "val/structure/", "val/reward/", "val/penalty/")
    assert all(name.startswith(groups) for name in unused)


def test_masked_rollouts_count_in_their_own_share_and_in_nothing_else() -> None:
    without = rollout_metrics(BATCH, "train")
    found = rollout_metrics([MASKED, *BATCH, MASKED, MASKED, MASKED], "train")
    assert found.pop("train/status/unavailable") == 0.5
    del without["train/status/unavailable"]
    assert found == without


def test_only_masked_rollouts_say_nothing_but_that() -> None:
    assert rollout_metrics([MASKED], "val") == {"val/status/unavailable": 1.0}
    assert rollout_metrics([], "val") == {}


def test_greedy_figures_have_names_of_their_own() -> None:
    sampled = rollout_metrics(BATCH, "val")
    greedy = rollout_metrics(BATCH, "val", greedy=True)
    assert not sampled.keys() & greedy.keys()
    assert len(sampled) == len(greedy)
    assert greedy["val/direct_execution_rate_greedy/math"] == 0.5
    assert {name.replace("_greedy", "") for name in greedy} == set(sampled)


def test_a_domain_without_rollouts_has_no_figure() -> None:
    names = rollout_metrics([RIGHT], "val")
    assert "val/accuracy/math" in names
    assert not [name for name in names if name.endswith(("/code", "/qa"))]


def test_a_repair_that_may_have_lost_text_counts_in_neither_rate() -> None:
    lossy = replace(RIGHT, execution=replace(RIGHT.execution, source=replace(REPAIRED, lossy=True)))
    failed = replace(FAILED, execution=replace(FAILED.execution, source=REPAIRED))
    figures = rollout_metrics([lossy, failed, REPAIRED_AND_WRONG, RIGHT], "val")
    assert figures["val/repaired_execution_rate"] == 0.25
    assert figures["val/direct_execution_rate"] == 0.25


def test_without_a_workflow_that_ran_no_operator_is_counted() -> None:
    assert not [name for name in rollout_metrics([INVALID, FAILED], "val") if "operators" in name]


def test_valid_rate_is_the_share_valid_as_written() -> None:
    repaired = replace(RIGHT, execution=replace(RIGHT.execution, source=REPAIRED))
    found = valid_rate([RIGHT, repaired, INVALID, RIGHT], "val")
    assert found == pytest.approx(
        {
            "val/valid_rate_greedy": 0.5,
            "val/valid_rate_greedy/math": 2 / 3,
            "val/valid_rate_greedy/code": 0.0,
        }
    )


@pytest.mark.parametrize(
    ("count", "p50", "p90"), [(1, 1, 1), (2, 1, 2), (9, 5, 9), (10, 5, 9), (110, 55, 99)]
)
def test_quantiles_are_lengths_that_occurred(count: int, p50: int, p90: int) -> None:
    lengths = [rollout(completion=tokens(n)) for n in range(count, 0, -1)]
    found = rollout_metrics(lengths, "val")
    names = [f"val/length/completion_tokens.{q}" for q in ("p50", "p90", "max")]
    assert [found[name] for name in names] == [p50, p90, count]


def test_a_cut_completion_is_cut_and_failed_validation_and_is_not_invalid() -> None:
    cut = rollout("qa", status=Status.CUT, fault_kind=FaultKind.LENGTH_LIMIT)
    found = rollout_metrics([cut, RIGHT], "val")
    assert (found["val/status/cut"], found["val/status/invalid"]) == (0.5, 0.0)
    assert found["val/fault/length_limit"] == found["val/validation_failure_rate"] == 0.5


def structured(code: str, *, domain: Domain = "math", **changes: Any) -> Rollout:
    return rollout(domain, source=WorkflowSource(code), **changes)


CALL = (
    "class Workflow:\n    async def __call__(self, problem):\n"
    "        r = await self.custom({})\n        return r['response'], 0\n"
)


def test_structure_is_measured_apart_from_the_answer() -> None:
    right = structured(CALL.format("input=problem"), correct=False)
    wrong = structured(CALL.format("text=problem"), domain="qa", correct=True)
    found = rollout_metrics([right, wrong], "train")
    names = ("validity", "operator_choice", "argument_match", "constraint_adherence")
    assert [found[f"train/structure/{name}.math"] for name in names] == [1, 1, 1, 1]
    assert [found[f"train/structure/{name}.qa"] for name in names] == [1, 1, 0, 1]
    assert [found[f"train/structure/{name}"] for name in names] == [1, 1, 0.5, 1]


def test_what_scorers_report_is_averaged_over_those_that_report_it() -> None:
    def scored(domain: Domain, **measures: float) -> Rollout:
        return replace(rollout(domain), score=Score(0.0, False, measures=measures))

    batch = [
        scored("qa", f1=0.5, exact_match=0.0),
        scored("qa", f1=1.0, exact_match=1.0),
        scored("qa"),
        scored("code", tests_passed=0.25),
        scored("code", **{"odd name/§": 1.0}),
    ]
    found = {k: v for k, v in rollout_metrics(batch, "val").items() if "/score/" in k}
    assert found == {
        "val/score/f1": 0.75,
        "val/score/f1.qa": 0.75,
        "val/score/exact_match": 0.5,
        "val/score/exact_match.qa": 0.5,
        "val/score/tests_passed": 0.25,
        "val/score/tests_passed.code": 0.25,
        "val/score/odd_name__": 1.0,
        "val/score/odd_name__.code": 1.0,
    }


def test_several_datasets_have_figures_of_their_own() -> None:
    def of(dataset: str, one: Rollout) -> Rollout:
        return replace(one, problem=replace(one.problem, dataset=dataset))

    both = [of("gsm8k", RIGHT), of("gsm8k", REPAIRED_AND_WRONG), of("my set/β", INVALID)]
    found = rollout_metrics(both, "val", greedy=True)
    assert found["val/by_dataset_greedy/accuracy/gsm8k"] == 0.5
    assert found["val/by_dataset_greedy/direct_execution_rate/gsm8k"] == 0.5
    assert found["val/by_dataset_greedy/reward/gsm8k"] == 3.5
    assert found["val/by_dataset_greedy/cost_usd_per_problem/gsm8k"] == pytest.approx(3e-4)
    assert found["val/by_dataset_greedy/reward/my_set__"] == -8.0
    alone = rollout_metrics([of("gsm8k", RIGHT)] * 2, "val")
    assert not [name for name in alone if "by_dataset" in name]


def test_groups_are_told_apart_by_their_problem_and_need_two_members() -> None:
    batches = [
        replace(rollout("math", total=total, group=group), group=0)
        for group, totals in ((0, (1.0, 3.0)), (1, (5.0, 5.0)), (2, (7.0,)))
        for total in totals
    ]
    found = rollout_metrics(batches, "val")
    assert found["val/reward_spread/math"] == 0.5  # (1 + 0) / 2
    assert found["val/zero_variance_groups/math"] == pytest.approx(2 / 3)
    assert not [n for n in rollout_metrics([RIGHT, INVALID], "val") if "spread" in n or "zero" in n]


# Intervals


def of_group(group: int, *totals: float, right: int = 0, domain: Domain = "math") -> list[Rollout]:
    """A problem's samples, the first `right` of which are right."""
    return [
        rollout(domain, total=total, correct=k < right, group=group, member=k)
        for k, total in enumerate(totals)
    ]


def test_intervals_are_over_problems_and_leave_masked_workflows_out() -> None:
    down = [rollout(group=9, status=Status.UNAVAILABLE, fault_kind=FaultKind.DEADLINE)]
    math = of_group(0, 4.0, 6.0, right=2) + of_group(1, 1.0, 1.0) + down
    everything = math + of_group(2, 3.0, 3.0, right=2, domain="qa")
    found = interval_metrics(everything, "val")
    assert (found["val/problems"], found["val/problems/math"], found["val/problems/qa"]) == (
        3,
        2,
        1,
    )
    assert "val/problems/code" not in found
    ends = {
        name: (found[f"val/ci95_low/{name}"], found[f"val/ci95_high/{name}"])
        for name in ("accuracy.math", "direct_execution_rate", "reward.math", "reward.qa")
    }
    # Two problems, one wholly right, one wholly wrong: worth two trials.
    assert ends["accuracy.math"] == pytest.approx(wilson_interval(1, 2))
    assert ends["direct_execution_rate"] == pytest.approx(wilson_interval(3, 3))
    assert ends["reward.math"] == (1.0, 5.0) and ends["reward.qa"] == (3.0, 3.0)
    assert interval_metrics(everything, "val") == found
    greedy = interval_metrics(of_group(0, 4.0), "test", greedy=True)
    assert greedy["test/problems_greedy"] == 1 and "test/ci95_low/reward_greedy.math" in greedy
    assert interval_metrics(down, "val") == {}


# The documented names

DOMAIN_SUFFIX = f"(?:/(?:{'|'.join(DOMAINS)}))?"
DOTTED_SUFFIX = DOMAIN_SUFFIX.replace("/", "[.]")


def documented() -> dict[str, re.Pattern[str]]:
    """Every name in the first table of the module's docstring, as a pattern."""
    assert module.__doc__ is not None
    table = module.__doc__.split("The update")[0]
    patterns = {}
    for names in re.findall(r"^\| (``.*?) \| .*\|$", table, re.M):
        ends = {"(``/": DOMAIN_SUFFIX, "(``.": DOTTED_SUFFIX}
        per_domain = next((end for mark, end in ends.items() if mark in names), "")
        for name in re.findall(r"``([^/.`][^`]*)``", names):
            wild = re.sub(r"<\w+>", "[a-z_0-9]+", name)
            patterns[name] = re.compile(wild + per_domain)
    return patterns


def produced() -> set[str]:
    kinds: list[Rollout] = [
        rollout(domain, status=status, fault_kind=kind)
        for domain in DOMAINS
        for status, kind in [(Status.OK, None), *((kind.status, kind) for kind in FaultKind)]
    ]
    # Written by an endpoint, so that what writing costs is a figure too.
    kinds += [rollout(d, completion=replace(tokens(1), usage=Usage(calls=1))) for d in DOMAINS]
    # Scored with a measure besides, and of a second dataset.
    for domain in DOMAINS:
        plain = rollout(domain)
        other = replace(plain.problem, dataset="other")
        kinds.append(replace(plain, problem=other, score=Score(0.5, False, measures={"f1": 0.5})))
    names = rollout_metrics(kinds, "val") | valid_rate(kinds, "val")
    names |= interval_metrics(kinds, "val")
    return {name.removeprefix("val/") for name in names}


def test_every_produced_name_is_documented_and_every_documented_one_produced() -> None:
    patterns = documented()
    names = produced()
    for name in names:
        assert [p for p in patterns.values() if p.fullmatch(name)], f"{name} is not documented"
    for row, pattern in patterns.items():
        matching = [name for name in names if pattern.fullmatch(name)]
        assert matching, f"{row} is documented, but nothing produces it"
        for suffix, mark in ((DOMAIN_SUFFIX, "/"), (DOTTED_SUFFIX, ".")):
            for domain in DOMAINS if suffix in pattern.pattern else ():
                assert [n for n in matching if n.endswith(f"{mark}{domain}")], (row, domain)


def test_the_lists_of_names_are_those_of_the_records() -> None:
    assert {f"val/{name}" for name in HEADLINE} <= rollout_metrics([RIGHT], "val").keys()
    assert {*REWARD_PARTS, "total"} == set(vars(RIGHT.reward))
    assert RIGHT.execution.source is DIRECT


def test_pass_at_k_is_the_mean_of_the_unbiased_estimates() -> None:
    def problem_of(name: str, *right: bool) -> list[Rollout]:
        return [
            replace(
                RIGHT,
                problem=replace(RIGHT.problem, id=name),
                member=member,
                score=Score(float(yes), yes),
            )
            for member, yes in enumerate(right)
        ]

    rollouts = [
        *problem_of("one of four", True, False, False, False),
        *problem_of("none of two", False, False),
        *problem_of("alone", True),
    ]
    logged = rollout_metrics(rollouts, "val")
    # One of four: 1 - C(3, 2) / C(4, 2) = 1/2. A problem with fewer samples does not count.
    assert logged["val/pass_at/2"] == pytest.approx((1 / 2 + 0) / 2)
    assert logged["val/pass_at/4.math"] == 1.0
    assert "val/pass_at/8" not in logged
