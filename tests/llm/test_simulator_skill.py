"""The latent ability: marginal accuracy, bimodality, correlation, visibility, order."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import NormalDist, mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, problems, sections, system

from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.simulator.difficulty import (
    level_accuracies,
    roc_area,
    text_score,
    weight_of,
)
from aflow_grpo.llm.simulator.profile import Scale, Text, profile_of
from aflow_grpo.llm.simulator.skill import Skill
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import Domain, Problem

N = 3000
DOMAINS: dict[str, Domain] = {
    "gsm8k": "math",
    "math": "math",
    "humaneval": "code",
    "mbpp": "code",
    "drop": "qa",
    "hotpotqa": "qa",
}


def of(dataset: str, count: int = N) -> list[Problem]:
    """Problems of a dataset whose text scores are spread as that dataset's are."""
    text = profile_of(Problem("", dataset, DOMAINS[dataset], "", "")).text
    numbers = (math.log(2) - text.log_numbers[0]) / text.log_numbers[1]
    rng = random.Random(dataset)
    made = []
    for number in range(count):
        deviations = text.spread * rng.gauss(0.0, 1.0) - numbers
        chars = int(math.exp(text.log_chars[0] + text.log_chars[1] * deviations))
        question = f"{number} ".ljust(chars, "w")
        made.append(Problem(f"{dataset}/{number}", dataset, DOMAINS[dataset], question, "18"))
    return made


def outcomes(
    skill: Skill, made: list[Problem], runs: int = 1, family: str = "written", wording: str = ""
) -> list[list[bool]]:
    return [
        [
            skill.solves(p, family, wording, 0.0, random.Random(f"{p.id}/{run}"))
            for run in range(runs)
        ]
        for p in made
    ]


@pytest.mark.parametrize("dataset", list(DOMAINS))
def test_accuracy_over_problems_is_the_profiles(dataset: str) -> None:
    made = of(dataset)
    rights = [row[0] for row in outcomes(Skill(3, 1.0, 0.0), made)]
    assert mean(rights) == pytest.approx(profile_of(made[0]).accuracy, abs=0.025)


@pytest.mark.parametrize("dataset", ["gsm8k", "drop", "math"])
def test_most_problems_are_always_right_or_always_wrong(dataset: str) -> None:
    rows = outcomes(Skill(3, 1.0), of(dataset), runs=5)
    mixed = mean(0 < sum(row) < 5 for row in rows)
    assert 0.005 < mixed < {"gsm8k": 0.06, "drop": 0.09, "math": 0.25}[dataset]


def test_without_noise_repeats_never_differ() -> None:
    rows = outcomes(Skill(3, 0.0), of("math", 500), runs=4)
    assert all(len(set(row)) == 1 for row in rows)
    assert mean(row[0] for row in rows) == pytest.approx(0.486, abs=0.06)


def test_other_wordings_differ_less_than_other_families_and_those_less_than_other_problems() -> (
    None
):
    made, skill = of("math"), Skill(3, 1.0)
    one = [row[0] for row in outcomes(skill, made, wording="a")]

    def agreement(others: list[list[bool]]) -> float:
        return mean(a == b[0] for a, b in zip(one, others, strict=True))

    wording = agreement(outcomes(skill, made, wording="b"))
    family = agreement(outcomes(skill, made, family="program", wording="b"))
    shuffled = agreement(outcomes(skill, [*made[1:], made[0]], wording="a"))
    assert shuffled + 0.1 < family < wording - 0.02 < 0.95


def auc(made: list[Problem], rights: list[bool]) -> float:
    """Area under the ROC curve of the text score for failure, by ranks."""
    scores = [text_score(p.question, profile_of(p).text) for p in made]
    order = sorted(range(len(made)), key=scores.__getitem__)
    wrongs = sum(not right for right in rights)
    ranks = sum(rank for rank, index in enumerate(order) if not rights[index])
    return (ranks - wrongs * (wrongs - 1) / 2) / (wrongs * (len(made) - wrongs))


@pytest.mark.parametrize("dataset", ["math", "drop"])
def test_visibility_scales_how_far_the_text_shows_failure(dataset: str) -> None:
    made = of(dataset)
    areas = [
        auc(made, [row[0] for row in outcomes(Skill(3, 1.0, visibility), made)])
        for visibility in (0.0, 1.0, 2.0)
    ]
    excess = profile_of(made[0]).auc - 0.5
    assert areas[0] == pytest.approx(0.5, abs=0.03)
    assert areas[1] == pytest.approx(0.5 + excess, abs=0.04)
    assert areas[2] == pytest.approx(0.5 + 2 * excess, abs=0.06)


def test_the_roc_area_of_a_normal_score() -> None:
    assert roc_area(0.7, 0.0) == pytest.approx(0.5, abs=1e-9)
    # With the threshold in the middle it is an orthant: 1/2 + 2/pi asin(r / sqrt 2).
    for r in (0.2, 0.5, 0.8):
        expected = 0.5 + 2 / math.pi * math.asin(r / math.sqrt(2))
        assert roc_area(0.5, r) == pytest.approx(expected, abs=2e-3)


@given(st.floats(0.0, 2.0))
def test_more_visibility_never_means_less_weight(visibility: float) -> None:
    profile = profile_of(of("drop", 1)[0])
    weight = weight_of(profile, visibility)
    assert 0 <= weight <= weight_of(profile, min(2.0, visibility + 0.2)) <= 0.98


def test_levels_keep_their_mean_and_part_with_visibility() -> None:
    scale = Scale((0.92, 0.75, 0.40), (0.02,) * 3, (0.7,) * 3)
    flat, same, wide = (level_accuracies(scale, v) for v in (0.0, 1.0, 2.0))
    assert flat == pytest.approx((0.69, 0.69, 0.69), abs=1e-6)
    assert same == pytest.approx(scale.accuracy, abs=1e-6)
    assert mean(wide) == pytest.approx(0.69, abs=1e-6)
    assert wide[0] - wide[2] > 1.4 * (0.92 - 0.40)


def test_known_levels_decide_on_sample_problems() -> None:
    skill = Skill(0, 1.0)
    for level, accuracy in ((1, 0.92), (2, 0.75), (3, 0.40)):
        rows = outcomes(skill, problems("math", N, level))
        assert mean(row[0] for row in rows) == pytest.approx(accuracy, abs=0.03)
    unknown = outcomes(skill, problems("math", N, 0))
    assert mean(row[0] for row in unknown) == pytest.approx(0.69, abs=0.05)


@pytest.mark.parametrize("chance", [0.0, 0.05, 0.5, 0.985, 1.0])
@pytest.mark.parametrize("wording", ["", "w"])
def test_a_habit_has_its_share_and_sticks(chance: float, wording: str) -> None:
    made, skill = of("gsm8k"), Skill(1, 1.0)
    first, second = (
        [skill.coin(p, "h", chance, random.Random(f"{p.id}/{run}"), wording=wording) for p in made]
        for run in range(2)
    )
    assert mean(first) == pytest.approx(chance, abs=0.03)
    assert mean(a == b for a, b in zip(first, second, strict=True)) > 0.9


@pytest.mark.parametrize("dataset", list(DOMAINS))
def test_two_wrong_replies_agree_as_often_as_the_profile_says(dataset: str) -> None:
    [made], skill, rng = of(dataset, 1), Skill(0, 1.0), random.Random(5)
    draws = [skill.wrong_choice(made, rng.random()) for _ in range(8000)]
    assert set(draws) == set(range(6))
    same = mean(a == b for a, b in zip(draws[::2], draws[1::2], strict=True))
    assert same == pytest.approx(profile_of(made).same_wrong, abs=0.03)


def test_shares_leave_room_for_the_problem_itself() -> None:
    for dataset in DOMAINS:
        profile = profile_of(of(dataset, 1)[0])
        assert 0.5 < 1 - profile.family - profile.wording - profile.residual < 1
        assert 0.5 <= profile.auc < 0.75
    assert profile_of(replace(of("math", 1)[0], dataset="mine")).scale is not None


@given(st.text(max_size=400))
def test_a_text_score_is_bounded(question: str) -> None:
    assert -3 <= text_score(question, Text()) <= 3


def test_longer_questions_with_more_numbers_look_harder() -> None:
    text = Text()
    easy, long, numbers = "Why?", "Why? " * 40, "Why 1 2 3 4 5 6 7 8?"
    assert text_score(easy, text) < text_score(numbers, text)
    assert text_score(easy, text) < text_score(long, text)


def test_replies_do_not_depend_on_the_order_of_calls_or_on_other_problems() -> None:
    made = [*problems("math", 30), *problems("qa", 30), *problems("code", 30)]
    requests = [
        (system(operator), sections(problem=p.text, solution="x", instruction="Check it."), seed)
        for p in made
        for operator in ("custom", "answer_generate", "review", "programmer")
        for seed in (1, 2)
    ]

    def replies(order: list[int], known: list[Problem]) -> dict[int, str]:
        world = World(known, MARKERS, SimulatorSettings())
        return {index: world.text(*requests[index]) for index in order}

    forth = list(range(len(requests)))
    shuffled = random.Random(1).sample(forth, len(forth))
    assert replies(forth, made) == replies(shuffled, [*made[::-1], *of("gsm8k", 20)])


def test_normal_quantiles_are_what_thresholds_mean() -> None:
    made = of("math", 1)[0]
    skill = Skill(0, 1.0)
    sure = [
        skill.solves(replace(made, id=f"x/{i}"), "written", "", 0.6, random.Random(i))
        for i in range(400)
    ]
    assert mean(sure) > NormalDist().cdf(2)
