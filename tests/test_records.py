"""Records are plain data: frozen, JSON-serialisable, with statuses that fit their faults."""

import dataclasses
import json
import pickle

import pytest

from aflow_grpo.errors import AFlowError, ConfigError, Unavailable, WorkflowFault
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
    to_dict,
)

PROBLEM = Problem("sample/1", "sample", "qa", "Who?", "Ada", context="Ada wrote it.")


def rollout(status: Status = Status.OK, *, repaired: bool = False) -> Rollout:
    source = WorkflowSource("class Workflow: ...", {"custom": "Answer."}, repaired=repaired)
    call = OperatorCall("custom", {"input": "Who?"}, {"response": "Ada"}, Usage(1, 1, 10, 2), 0.1)
    return Rollout(
        problem=PROBLEM,
        completion=Completion("{}", (1, 2), (3,), (-0.5,), finished=True),
        execution=Execution(status, "Ada", source=source, calls=(call,)),
        score=Score(1.0, correct=True),
        reward=RewardBreakdown(65, 15, 10, 5, 5, 0, 10),
        group=0,
        member=0,
    )


def test_a_rollout_survives_json() -> None:
    data = json.loads(json.dumps(to_dict(rollout())))
    assert data["execution"]["status"] == "ok"
    assert data["execution"]["calls"][0]["result"] == {"response": "Ada"}
    assert data["problem"]["alternatives"] == []
    assert Problem(**{**data["problem"], "alternatives": ()}).answer == "Ada"


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBLEM.answer = "Bob"  # type: ignore[misc]


def test_to_dict_refuses_what_is_no_record() -> None:
    with pytest.raises(TypeError, match="not dict"):
        to_dict({})


def test_context_comes_before_the_question() -> None:
    assert PROBLEM.text == "Context: Ada wrote it.\n\nQuestion: Who?"
    assert dataclasses.replace(PROBLEM, context="").text == "Who?"


@pytest.mark.parametrize(
    ("status", "repaired", "direct"),
    [
        (Status.OK, False, True),
        (Status.OK, True, False),
        (Status.ERROR, False, False),
        (Status.INVALID, False, False),
    ],
)
def test_direct_means_ran_as_written(status: Status, repaired: bool, direct: bool) -> None:
    assert rollout(status, repaired=repaired).execution.direct is direct


def test_only_unavailable_is_masked() -> None:
    assert [s for s in Status if rollout(s).masked] == [Status.UNAVAILABLE]


def test_every_fault_names_its_status_in_its_docstring_order() -> None:
    statuses = [kind.status for kind in FaultKind]
    order = [Status.CUT, Status.INVALID, Status.ERROR, Status.TIMEOUT, Status.UNAVAILABLE]
    assert sorted(set(statuses), key=statuses.index) == order
    assert statuses == sorted(statuses, key=order.index)


def test_usage_adds_up() -> None:
    total = Usage(1, 2, 3, 4, 0.5, 0.25) + Usage(10, 20, 30, 40, 5.0, 2.5)
    assert total == Usage(11, 22, 33, 44, 5.5, 2.75)


@pytest.mark.parametrize("fault", [WorkflowFault, Unavailable])
def test_faults_survive_pickling(fault: type[WorkflowFault] | type[Unavailable]) -> None:
    copy = pickle.loads(pickle.dumps(fault(FaultKind.EXCEPTION, "no")))
    assert (type(copy), copy.kind, copy.message) == (fault, FaultKind.EXCEPTION, "no")


def test_errors_for_people_are_also_standard_errors() -> None:
    assert issubclass(ConfigError, AFlowError) and issubclass(ConfigError, ValueError)


def test_finding_without_a_line_is_allowed() -> None:
    assert Finding(FaultKind.NO_WORKFLOW, "nothing").line is None
