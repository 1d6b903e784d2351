"""A rollout comes back from its bytes as it was, whatever a model wrote into it."""

from __future__ import annotations

import json
import math
import zlib
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.errors import DataError
from aflow_grpo.records import (
    Completion,
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Problem,
    RewardBreakdown,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.stored import pack_rollout, unpack_rollout

TEXTS = st.text(st.characters(), max_size=12)  # lone surrogates and NUL included
FLOATS = st.floats(allow_nan=False)
FREE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS | st.binary(max_size=5)
    | st.integers(4000, 6000).map(lambda digits: -(10**digits)),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(TEXTS | st.integers() | st.tuples(TEXTS), parts, max_size=3)
        | st.frozensets(TEXTS | st.tuples(st.integers()), max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
USAGES = st.builds(
    Usage, st.integers(), st.integers(), st.integers(), st.integers(), FLOATS, FLOATS
)
CALLS = st.builds(
    OperatorCall, TEXTS, st.dictionaries(TEXTS, FREE, max_size=3),
    st.dictionaries(TEXTS, FREE, max_size=3), USAGES, FLOATS, st.tuples(TEXTS, TEXTS) | st.just(()),
    st.none() | st.sampled_from(FaultKind), TEXTS,
)  # fmt: skip
CALL_TUPLES = st.lists(CALLS, max_size=2).map(tuple)
ROLLOUTS = st.builds(
    Rollout,
    st.builds(
        Problem, TEXTS, TEXTS, st.sampled_from(["math", "code", "qa"]), TEXTS, TEXTS,
        alternatives=st.lists(TEXTS, max_size=2).map(tuple), context=TEXTS,
        hidden_tests=st.lists(TEXTS, max_size=2).map(tuple), difficulty=st.integers(0, 3),
    ),
    st.builds(
        Completion, TEXTS, st.lists(st.integers(), max_size=3).map(tuple),
        st.lists(st.integers(), max_size=3).map(tuple), st.lists(FLOATS, max_size=3).map(tuple),
        st.booleans(), context_cut=st.booleans(), usage=USAGES, unavailable=TEXTS,
    ),
    st.builds(
        Execution, st.sampled_from(Status), st.none() | TEXTS,
        st.none() | st.sampled_from(FaultKind), TEXTS,
        st.none() | st.builds(
            WorkflowSource, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2), st.booleans(),
        ),
        st.lists(
            st.builds(Finding, st.sampled_from(FaultKind), TEXTS, st.none() | st.integers(), TEXTS),
            max_size=2,
        ).map(tuple),
        CALL_TUPLES, USAGES, FLOATS, st.none() | TEXTS, CALL_TUPLES,
    ),
    st.builds(
        Score, FLOATS, st.booleans(), TEXTS, st.dictionaries(TEXTS, FLOATS, max_size=2)
    ),
    st.builds(RewardBreakdown, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS),
    st.integers(0), st.integers(0),
)  # fmt: skip


def again(rollout: Rollout) -> Rollout:
    packed = pack_rollout(rollout)
    return unpack_rollout(packed.problem, packed.content)


@settings(deadline=None)
@given(ROLLOUTS)
def test_every_rollout_comes_back_equal_and_with_its_types(rollout: Rollout) -> None:
    back = again(rollout)
    assert back == rollout
    assert type(back.execution.status) is Status
    assert type(back.execution.calls) is type(back.completion.logprobs) is tuple


def call_with(**arguments: Any) -> Rollout:
    call = OperatorCall("custom", arguments, {}, Usage(), 0.0)
    return Rollout(
        Problem("p", "d", "math", "?", "1"),
        Completion("text", (1, 2), (3,), (-0.5,), True),
        Execution(Status.OK, "1", calls=(call,)),
        Score(1.0, True, measures={"f1": math.nan}),
        RewardBreakdown(1, 2, 3, 4, 5, penalty=-math.inf, total=math.nan),
        group=0,
        member=0,
    )


def test_not_a_number_and_infinity_come_back() -> None:
    back = again(call_with(x=math.inf))
    assert math.isnan(back.reward.total) and math.isnan(back.score.measures["f1"])
    assert back.reward.penalty == -math.inf
    assert back.execution.calls[0].arguments == {"x": math.inf}


def test_a_list_that_looks_like_a_tag_stays_a_list() -> None:
    arguments = {"a": ["int", "0x10"], "b": ("tuple", []), "c": [], "d": {"dict": ["dict"]}}
    assert again(call_with(**arguments)).execution.calls[0].arguments == arguments


def test_what_is_no_plain_value_comes_back_as_its_text() -> None:
    assert again(call_with(x=Fraction(1, 3))).execution.calls[0].arguments == {
        "x": "Fraction(1, 3)"
    }


def test_values_that_explode_or_never_end_are_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    bomb: Any = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    packed = pack_rollout(call_with(endless=endless, bomb=bomb))
    assert len(packed.content) < 100_000
    assert "too big to be kept" in str(unpack_rollout(packed.problem, packed.content))


def test_a_group_shares_the_bytes_of_its_problem() -> None:
    assert pack_rollout(call_with(x=1)).problem == pack_rollout(call_with(x=2)).problem


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zlib",
        zlib.compress(b"{"),
        zlib.compress(b"[]"),
        zlib.compress(b'{"completion": {}}'),
    ],
)
def test_bytes_that_are_no_rollout_are_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="a stored rollout cannot be read"):
        unpack_rollout(pack_rollout(call_with()).problem, content)


def test_a_field_of_a_later_version_is_refused_and_one_that_is_missing_has_its_default() -> None:
    packed = pack_rollout(call_with())
    fields = json.loads(zlib.decompress(packed.content))
    del fields["score"]["measures"]
    older = unpack_rollout(packed.problem, zlib.compress(json.dumps(fields).encode()))
    assert older.score == Score(1.0, True)
    fields["score"]["colour"] = "red"
    with pytest.raises(DataError, match="colour"):
        unpack_rollout(packed.problem, zlib.compress(json.dumps(fields).encode()))
