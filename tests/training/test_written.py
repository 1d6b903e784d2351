"""What a checkpoint keeps of workflows written ahead: it comes back to the bit, on any rank."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from executed_world import CODE, MATH, QA
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Completion, Usage
from aflow_grpo.training.written import WrittenBatch

PROBLEMS = [MATH[0], QA[0], CODE[0], MATH[1]]
IDS = st.lists(st.integers(0, 200_000), max_size=5).map(tuple)


def stored(batch: WrittenBatch) -> dict[str, Any]:
    """What is read back from a file, as untrusted data."""
    file = io.BytesIO()
    torch.save(batch.state_dict(), file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def made(count: int, group_size: int, first: int = 0) -> WrittenBatch:
    """Groups for the problems from place `first` on."""
    completions = [
        Completion(f"text {first} {b}", (first, b), (b,) * b, (-0.1 / 3,) * b, b % 2 == 0)
        for b in range(count * group_size)
    ]
    seeds = list(range(len(completions)))
    return WrittenBatch(PROBLEMS[first : first + count], completions, seeds, policy_version=7)


@given(
    st.lists(
        st.builds(
            Completion,
            text=st.text(st.characters(categories=None)),  # lone surrogates too
            prompt_ids=IDS,
            token_ids=IDS,
            logprobs=st.lists(st.floats(allow_nan=False), max_size=5).map(tuple),
            finished=st.booleans(),
            context_cut=st.booleans(),
            usage=st.builds(Usage, calls=st.integers(0, 3), cost_usd=st.floats(0, 1)),
            unavailable=st.text(max_size=5),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_workflows_come_back_to_the_bit(completions: list[Completion]) -> None:
    count = len(completions)
    batch = WrittenBatch(PROBLEMS[:1], completions, [2**31 - 1] * count, policy_version=3)
    assert WrittenBatch.from_states([stored(batch)], PROBLEMS[:1], first=0) == batch


def test_unknown_logprobs_stay_unknown() -> None:
    batch = WrittenBatch(PROBLEMS[:1], [Completion("", (), (5,), (math.nan,), True)], [1], 0)
    (loaded,) = WrittenBatch.from_states([stored(batch)], PROBLEMS[:1], first=0).completions_B
    assert math.isnan(loaded.logprobs[0])


@pytest.mark.parametrize(("saved_by", "read_by"), [(1, 2), (2, 1), (2, 4), (4, 2)])
def test_another_number_of_ranks_finds_its_groups(saved_by: int, read_by: int) -> None:
    each = 4 // saved_by
    saved = [made(each, 3, first=rank * each) for rank in range(saved_by)]
    states = [stored(batch) for batch in saved]
    every = [c for batch in saved for c in batch.completions_B]
    share = 4 // read_by
    for rank in range(read_by):
        first = rank * share
        found = WrittenBatch.from_states(states, PROBLEMS[first : first + share], first=first)
        assert list(found.completions_B) == every[first * 3 : (first + share) * 3]
        assert found.policy_version == 7 and found.group_size == 3


@pytest.mark.parametrize("problems", [[PROBLEMS[1]], [PROBLEMS[0], PROBLEMS[2]]])
def test_groups_of_other_problems_are_refused(problems: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"--ckpt_path: .* written one step ahead for other"):
        WrittenBatch.from_states([stored(made(2, 2))], problems, first=0)


def test_requests_are_problem_major_under_the_given_groups() -> None:
    requests = made(2, 2).requests([5, 1])
    assert [(r.problem.id, r.group, r.member, r.seed) for r in requests] == [
        ("math/0", 5, 0, 0), ("math/0", 5, 1, 1), ("qa/0", 1, 0, 2), ("qa/0", 1, 1, 3)
    ]  # fmt: skip
    assert [r.completion.text for r in requests] == [f"text 0 {b}" for b in range(4)]
