"""The editor: every workflow it writes is one that the policy could have written."""

from __future__ import annotations

import random

import pytest

from aflow_grpo.evaluation.search_space import (
    CRASH_SHARE,
    DISASTER_SHARE,
    EditSpace,
    library_candidates,
)
from aflow_grpo.policy.structures import MOST_STEPS, Plan, draft_of, draft_workflow
from aflow_grpo.records import DOMAINS, Domain
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.validate import is_valid, validate


@pytest.mark.parametrize("domain", DOMAINS)
def test_chains_of_edits_stay_valid_and_in_the_policys_space(domain: Domain) -> None:
    space, rng = EditSpace(domain, crash_share=0.0, disaster_share=0.0), random.Random(0)
    plan, known = space.start(), set[str]()
    for _ in range(150):
        edit = space.edit(plan, rng, known)
        assert edit is not None
        assert edit.failure == ""
        known.add(edit.text)
        plan = edit.plan
        assert len(plan.steps) <= MOST_STEPS
        source = parse_completion(edit.text).source
        assert source is not None
        assert is_valid(validate(source, domain)), edit.text
    assert len(known) == 150  # none twice


def test_an_edit_changes_one_choice() -> None:
    space, rng = EditSpace("math"), random.Random(3)
    parent = Plan((0, 0), steps=((1, 7),))
    for _ in range(60):
        edit = space.edit(parent, rng, set())
        assert edit is not None
        changed = edit.plan
        kinds = [
            changed.source[0] != parent.source[0],
            changed.vote != parent.vote,
            [which for which, _ in changed.steps] != [1],
        ]
        assert sum(kinds) <= 1, edit.key
        assert (sum(kinds) == 0) == edit.key.startswith("reword")


def test_failures_come_at_their_share() -> None:
    space, rng = EditSpace("qa"), random.Random(0)
    failures = [space.edit(space.start(), rng, set()) for _ in range(2000)]
    named = [edit.failure for edit in failures if edit is not None]
    assert named.count("crash") / 2000 == pytest.approx(CRASH_SHARE, abs=0.012)
    assert named.count("disaster") / 2000 == pytest.approx(DISASTER_SHARE, abs=0.014)


def test_a_space_that_is_used_up_says_so() -> None:
    space = EditSpace("qa", crash_share=0.0, disaster_share=0.0)
    known: set[str] = set()
    while (edit := space.edit(Plan((0, 0)), random.Random(len(known)), known)) is not None:
        known |= {edit.text}
        assert len(known) < 200
    assert space.edit(Plan((0, 0)), random.Random(0), known) is None


def test_plans_make_what_the_warm_start_draws() -> None:
    """Every sequence of operators that is drawn at random has a plan."""
    rng = random.Random(5)
    drawn = {draft_workflow("code", rng).lines for _ in range(300)}
    planned = set()
    for _ in range(6000):
        steps = tuple((rng.randrange(4), rng.randrange(9)) for _ in range(rng.randrange(3)))
        plan = Plan(
            (rng.randrange(3), rng.randrange(9)), rng.random() < 0.4, steps, rng.random() > 1
        )
        planned.add(draft_of("code", plan).lines)
    without_instruction = {lines for lines in drawn if not any("instruction" in x for x in lines)}
    missing = without_instruction - planned
    assert len(missing) / len(without_instruction) < 0.15  # chance misses the rarest


def test_the_library_is_offered_whole() -> None:
    for domain in DOMAINS:
        offered = library_candidates(domain)
        assert [candidate.name for candidate in offered] == list(library(domain))
        assert parse_completion(offered[0].text).source == library(domain)["direct"]
