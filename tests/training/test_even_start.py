"""The even start: running counts, kinds of workflows do not, and then it is over."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
from made_rollouts import rollout

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Rollout, Status, WorkflowSource
from aflow_grpo.training.even_start import EvenStart, EvenStartSettings

SETTINGS = EvenStartSettings(until_iteration=3)


def source(*operators: str) -> WorkflowSource:
    calls = "".join(f"        r = await self.{name}(input=problem)\n" for name in operators)
    head = "class Workflow:\n    async def __call__(self, problem):\n"
    return WorkflowSource(f"{head}{calls}        return r, 0\n")


def made(group: int, member: int, ran: bool, *operators: str, **changes: Any) -> Rollout:
    told = {"source": source(*operators), "group": group, "member": member}
    told |= {"correct": ran, "total": 9.0} if ran else {"status": Status.INVALID, "total": -8.0}
    return rollout(**{**told, **changes})


def batch() -> list[Rollout]:
    """Short workflows run half of the time, long ones once in four."""
    short = [made(0, i, i % 2 == 0, "custom") for i in range(4)]
    return short + [made(0, 4 + i, i == 0, "custom", "format", "review") for i in range(4)]


def judged(start: EvenStart, rollouts: list[Rollout], iteration: int = 0) -> list[float]:
    found = start.judged(rollouts, rollouts, iteration)
    assert found is not None
    return list(found.rewards_B)


def test_kinds_are_worth_the_same_and_running_is_worth_more() -> None:
    start = EvenStart(EvenStartSettings(until_iteration=3, doubt=1e-9))
    values = judged(start, batch())
    assert fmean(values[:4]) == pytest.approx(0, abs=1e-6)
    assert fmean(values[4:]) == pytest.approx(0, abs=1e-6)
    assert values[0] > 0 > values[1]
    assert values[4] > values[0], "what hardly ever runs gains more where it does"


def test_right_and_wrong_do_not_count_yet() -> None:
    right, wrong = made(0, 0, True, "custom"), made(0, 1, True, "custom", correct=False, total=-1.5)
    values = judged(EvenStart(SETTINGS), [right, wrong, made(0, 2, False, "custom")])
    assert values[0] == values[1] > values[2]


def test_a_forbidden_operator_makes_no_kind_of_its_own() -> None:
    start = EvenStart(EvenStartSettings(until_iteration=3, doubt=1e-9))
    clean = [made(0, i, True, "custom") for i in range(3)]
    forbidden = made(0, 3, False, "custom", "test")  # math may not test
    values = judged(start, [*clean, forbidden])
    assert values[3] < 0 < values[0]


def test_what_holds_no_workflow_always_loses() -> None:
    start = EvenStart(EvenStartSettings(until_iteration=3, doubt=1e-9))
    broken = [rollout(group=0, member=i, status=Status.INVALID, total=-10.0, source=None)
              for i in range(4)]  # fmt: skip
    ran = [made(0, 4 + i, i < 2, "custom") for i in range(4)]
    assert max(judged(start, [*broken, *ran])[:4]) < 0


def test_it_ends_and_forgets() -> None:
    start = EvenStart(SETTINGS)
    start.remember(batch(), 0)
    assert start.state_dict()
    assert start.judged(batch(), batch(), 2) is not None
    assert start.judged(batch(), batch(), 3) is None
    start.remember(batch(), 3)
    assert start.state_dict() == {}


def test_off_it_judges_nothing() -> None:
    start = EvenStart(None)
    start.remember(batch(), 0)
    assert start.judged(batch(), batch(), 0) is None
    assert start.state_dict() == {}


def test_a_checkpoint_goes_on_to_the_bit() -> None:
    start, other = EvenStart(SETTINGS), EvenStart(SETTINGS)
    for iteration in range(2):
        start.remember(batch()[iteration:], iteration)
    other.load_state_dict(start.state_dict())
    assert judged(other, batch(), 2) == judged(start, batch(), 2)


def test_masked_rollouts_say_nothing() -> None:
    masked = made(0, 9, True, "custom", status=Status.UNAVAILABLE, total=0.0)
    start = EvenStart(SETTINGS)
    assert judged(start, [*batch(), masked])[:8] == judged(start, batch())


@pytest.mark.parametrize(
    "wrong", [{"until_iteration": 0}, {"memory": 1.0}, {"memory": -0.1}, {"doubt": 0.0}]
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"model.grpo.even_start.{name}="):
        EvenStartSettings(**wrong)
