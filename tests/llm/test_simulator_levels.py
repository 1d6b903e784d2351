"""How far known levels show: all that hangs on them, by visibility, and how much was recorded."""

from __future__ import annotations

import random
from dataclasses import fields
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, problems, sections, system

from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.simulator.levels import Three, level_area, recorded_visibility, seen_at
from aflow_grpo.llm.simulator.profile import Lengths, Profile, Scale, profile_of
from aflow_grpo.llm.simulator.skill import Skill
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import Domain, Problem

DOMAINS: tuple[Domain, ...] = ("math", "code", "qa")
RECORDED = ("gsm8k", "math", "humaneval", "mbpp", "drop", "hotpotqa")
AS_RECORDED = 0.375
"""The visibility at which the levels of generated problems show as much as recorded texts."""


def made_of(domain: Domain) -> Profile:
    return profile_of(problems(domain, 1, 1)[0])


def scale_of(domain: Domain) -> Scale:
    scale = made_of(domain).scale
    assert scale is not None
    return scale


@pytest.mark.parametrize("domain", DOMAINS)
def test_at_one_nothing_changes(domain: Domain) -> None:
    scale, seen = scale_of(domain), seen_at(scale_of(domain), 1.0)
    assert seen.accuracy == pytest.approx(scale.accuracy, abs=1e-9)
    for name in ("residual", "same_wrong", "program", "lengths"):
        assert getattr(seen, name) == getattr(scale, name)


@pytest.mark.parametrize("domain", DOMAINS)
def test_at_zero_every_level_is_the_same(domain: Domain) -> None:
    scale, seen = scale_of(domain), seen_at(scale_of(domain), 0.0)
    for name in ("accuracy", "residual", "same_wrong", "program"):
        values = getattr(seen, name)
        assert len(set(values)) == 1, name
        assert values[0] == pytest.approx(mean(getattr(scale, name)))
    assert seen.lengths is None or len(set(seen.lengths)) == 1
    if domain == "math":
        assert seen.lengths is not None
        assert (seen.lengths[0].free, seen.lengths[0].thought) == (150, 57)


def test_half_way_is_half_the_distance() -> None:
    seen = seen_at(scale_of("math"), 0.5)
    assert seen.program == pytest.approx((0.125 / 3, 0.23 / 3, 0.305 / 3))
    assert seen.lengths is not None
    assert [lengths.free for lengths in seen.lengths] == [118, 145, 188]


def of_three(low: float, high: float) -> st.SearchStrategy[Three]:
    return st.tuples(*[st.floats(low, high)] * 3)


@given(
    of_three(0.02, 0.98),
    of_three(0.001, 0.2),
    of_three(0.2, 0.95),
    of_three(-0.3, 0.3),
    st.floats(0.0, 2.0),
)
def test_figures_stay_within_their_bounds(
    accuracy: Three, residual: Three, same: Three, program: Three, visibility: float
) -> None:
    lengths = (Lengths(10, 20), Lengths(30, 20), Lengths(200, 20))
    seen = seen_at(Scale(accuracy, residual, same, program, lengths), visibility)
    assert all(0 < value < 1 for value in (*seen.accuracy, *seen.same_wrong, *seen.residual))
    assert mean(seen.accuracy) == pytest.approx(mean(accuracy), abs=1e-6)
    assert seen.lengths is not None
    assert all(each.free >= 8 and each.thought == 20 for each in seen.lengths)


def test_the_area_of_levels_is_a_count_of_pairs() -> None:
    assert level_area((0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert level_area((1.0, 1.0, 0.0)) == pytest.approx(1.0)
    # Of 10 problems a level .9, .6 and .3 are right: 12 wrong and 18 right ones, ties count half.
    rights = [level for level, count in enumerate((9, 6, 3)) for _ in range(count)]
    wrongs = [level for level, count in enumerate((1, 4, 7)) for _ in range(count)]
    pairs = [0.5 + 0.5 * ((w > r) - (w < r)) for w in wrongs for r in rights]
    assert level_area((0.9, 0.6, 0.3)) == pytest.approx(mean(pairs))


def simulated_area(domain: Domain, visibility: float, count: int = 1000) -> float:
    """The area of the level for "one call fails", of single calls to that many a level."""
    skill = Skill(903, 1.0, visibility)
    gain = made_of(domain).gains.get("custom", 0.0)
    shares = [
        mean(
            skill.solves(problem, "written", "", gain, random.Random(problem.id))
            for problem in problems(domain, count, level)
        )
        for level in (1, 2, 3)
    ]
    return level_area((shares[0], shares[1], shares[2]))


@pytest.mark.parametrize(
    ("domain", "whole", "as_recorded"),
    [("math", 0.770, 0.612), ("code", 0.702, 0.581), ("qa", 0.672, 0.567)],
)
def test_levels_show_far_more_than_was_recorded(
    domain: Domain, whole: float, as_recorded: float
) -> None:
    assert simulated_area(domain, 1.0) == pytest.approx(whole, abs=0.02)
    assert simulated_area(domain, AS_RECORDED) == pytest.approx(as_recorded, abs=0.025)
    assert simulated_area(domain, 0.0) == pytest.approx(0.5, abs=0.025)


def test_the_visibility_at_which_levels_show_as_much_as_recorded_texts() -> None:
    areas = [profile_of(Problem("", name, "math", "", "")).auc for name in RECORDED]
    assert mean(areas) == pytest.approx(0.587)
    given = [(scale_of(domain), made_of(domain).gains.get("custom", 0.0)) for domain in DOMAINS]
    assert recorded_visibility(given, mean(areas)) == pytest.approx(AS_RECORDED, abs=0.002)
    assert recorded_visibility(given, 0.5) == pytest.approx(0.0, abs=1e-6)


def test_at_zero_replies_are_as_long_on_every_level() -> None:
    world = World(
        [p for level in (1, 2, 3) for p in problems("math", 40, level)],
        MARKERS,
        SimulatorSettings(visibility=0.0, noise=0.0),
    )

    def chars(level: int) -> float:
        prompts = [sections(problem=p.text) for p in problems("math", 40, level)]
        return mean(len(world.text(system("custom"), prompt, 0)) for prompt in prompts)

    assert chars(1) == pytest.approx(chars(3), rel=0.05)


def test_every_length_of_a_reply_is_moved() -> None:
    """One that is added to `Lengths` must not keep showing the level."""
    levels = tuple(Lengths(**{f.name: 100 * (i + 1) for f in fields(Lengths)}) for i in range(3))
    seen = seen_at(
        Scale((0.9, 0.7, 0.5), (0.02,) * 3, (0.7,) * 3, lengths=(levels[0], levels[1], levels[2])),
        0.0,
    )
    assert seen.lengths == (levels[1],) * 3
