"""What is counted while workflows are written and executed, by whatever thread."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

from made_rollouts import rollout

from aflow_grpo.records import FaultKind, Status, Usage
from aflow_grpo.training.underway import Underway


class Counted:
    """An `Underway` with the sum of what it told."""

    def __init__(self) -> None:
        self.ended = 0
        self.underway = Underway(self._add)

    def _add(self, ended: int) -> None:
        self.ended += ended


def test_two_draws_that_overlap_are_counted_together_until_each_is_over() -> None:
    underway = Counted().underway
    assert (underway.phase, underway.figures, underway.validating) == ("", "", False)
    first = underway.open("train", 4, executed=True)
    for _ in range(4):
        first.written()
    second = underway.open("train", 4, executed=True)
    second.written()
    first.ended(rollout())
    assert underway.phase == "written 5/8, executed 1" and not underway.validating
    first.over()
    assert underway.phase == "written 1/4, executed 0"
    second.over()
    assert underway.phase == ""


def test_figures_are_means_of_what_has_ended_and_leave_masked_workflows_out() -> None:
    counted = Counted()
    draw = counted.underway.open("val", 4, executed=True)
    draw.ended(rollout(total=9.0, correct=True, usage=Usage(cost_usd=0.25)))
    draw.ended(rollout(total=-8.0, status=Status.INVALID, fault_kind=FaultKind.BAD_RETURN))
    draw.ended(rollout(status=Status.UNAVAILABLE, fault_kind=FaultKind.DEADLINE))
    assert counted.underway.figures == "reward +0.50  direct 50%  accuracy 50%"
    assert counted.underway.validating
    wrote = rollout(fallback_usage=Usage(cost_usd=0.5))
    draw.ended(replace(wrote, completion=replace(wrote.completion, usage=Usage(cost_usd=1.0))))
    assert counted.underway.cost_usd == 1.75


def test_each_workflow_is_counted_once_and_late_ones_at_the_end() -> None:
    counted = Counted()
    draw = counted.underway.open("val/greedy", 5, executed=True)
    for _ in range(5):
        draw.written()
    draw.ended(rollout())
    assert counted.ended == 1
    draw.over()
    assert counted.ended == 5
    checked = counted.underway.open("val/greedy", 3, executed=False)
    checked.written()
    assert counted.underway.phase == "checking 1/3"
    checked.written()
    checked.written()
    checked.over()
    assert counted.ended == 8


def test_threads_lose_no_count() -> None:
    counted = Counted()
    draw = counted.underway.open("val", 800, executed=True)
    one = rollout(usage=Usage(cost_usd=0.5))

    def end_many() -> None:
        for _ in range(200):
            draw.ended(one)

    threads = [Thread(target=end_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.underway.phase == "written 0/800, executed 800"
    assert counted.underway.cost_usd == 400.0
