"""What a program reads of an answered problem, with worked numbers for each layer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from reward_world import PROBLEM, RIGHT, SOURCE, completion
from test_stored import ROLLOUTS

from aflow_grpo.predictions import prediction_row
from aflow_grpo.records import (
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    RewardBreakdown,
    Rollout,
    Status,
    Usage,
)

REWARD = RewardBreakdown(65.0, 15.0, 10.0, 5.0, 5.0, 0.0, 10.0)
ASK = OperatorCall(
    "custom", {"input": "x"}, {"response": "18"}, Usage(1, 2, 100, 20, 0.00003, 0.00006), 0.5,
    ("primary",),
)  # fmt: skip
VOTE = OperatorCall(
    "sc_ensemble", {}, {}, Usage(2, 2, 300, 10, 0.00005, 0.00005), 0.25, ("backup", "primary")
)
RAN = Execution(
    Status.OK, "18", source=SOURCE, calls=(ASK, VOTE), usage=ASK.usage + VOTE.usage, seconds=0.75
)
FELL_BACK = Execution(
    Status.ERROR, None, FaultKind.EXCEPTION, "line 4: IndexError", SOURCE, calls=(ASK,),
    usage=ASK.usage, fallback_answer="17", fallback_calls=(VOTE,), fallback_usage=VOTE.usage,
)  # fmt: skip


def rollout(execution: Execution) -> Rollout:
    return Rollout(PROBLEM, completion(), execution, RIGHT, REWARD, group=0, member=2)


def test_a_workflow_that_ran_is_told_in_full() -> None:
    row = prediction_row(rollout(RAN), gold_known=True)
    assert row["id"] == "gsm8k/train/1" and row["domain"] == "math" and row["member"] == 2
    assert row["workflow"] == {
        "graph_code": SOURCE.graph_code,
        "prompts": {"custom": "Solve it."},
        "hybrid": True,
        "repaired": False,
    }
    assert (row["status"], row["direct"], row["answered_by"]) == ("ok", True, "own")
    assert row["answer"] == "18"
    assert row["tiers"] == ["primary", "backup"]
    assert row["operators"] == [
        {
            "operator": "custom", "layer": "own", "calls": 1, "prompt_tokens": 100,
            "completion_tokens": 20, "cost_usd": 0.00003, "tiers": ["primary"], "seconds": 0.5,
            "message": "",
        },
        {
            "operator": "sc_ensemble", "layer": "own", "calls": 2, "prompt_tokens": 300,
            "completion_tokens": 10, "cost_usd": 0.00005, "tiers": ["backup", "primary"],
            "seconds": 0.25, "message": "",
        },
    ]  # fmt: skip
    assert row["usage"]["calls"] == 3 and row["usage"]["attempts"] == 4
    assert row["cost_usd"] == pytest.approx(0.00008) and row["seconds"] == 0.75
    assert row["score"]["correct"] is True and row["reward"]["total"] == 10.0
    assert row["reward"]["correctness"] == 65.0 and row["message"] == ""


def test_the_fallback_answers_for_the_user_and_its_calls_say_so() -> None:
    row = prediction_row(rollout(FELL_BACK), gold_known=True)
    assert (row["status"], row["direct"], row["answered_by"]) == ("error", False, "fallback")
    assert row["answer"] == "17" and row["message"] == "line 4: IndexError"
    assert [call["layer"] for call in row["operators"]] == ["own", "fallback"]
    assert row["fault_kind"] == "exception"
    assert row["usage"]["prompt_tokens"] == 400 and row["cost_usd"] == pytest.approx(0.00008)


def test_what_an_endpoint_was_paid_for_writing_counts() -> None:
    written = replace(completion(), usage=Usage(1, 1, 900, 200, 0.001, 0.001))
    row = prediction_row(replace(rollout(RAN), completion=written), gold_known=True)
    assert row["cost_usd"] == pytest.approx(0.00108) and row["usage"]["calls"] == 4


@pytest.mark.parametrize(
    ("execution", "gold_known"),
    [
        (RAN, False),
        (FELL_BACK, False),
        (Execution(Status.UNAVAILABLE, fault_kind=FaultKind.ENDPOINT), True),
    ],
)
def test_what_nobody_knows_is_null(execution: Execution, gold_known: bool) -> None:
    row = prediction_row(rollout(execution), gold_known=gold_known)
    assert row["score"] is None and row["reward"] is None


def test_no_workflow_and_no_answer() -> None:
    finding = Finding(FaultKind.NO_WORKFLOW, "no JSON", rule="form")
    execution = Execution(
        Status.INVALID, None, FaultKind.NO_WORKFLOW, "no JSON", findings=(finding,),
        fallback_message="No endpoint answered.",
    )  # fmt: skip
    row = prediction_row(rollout(execution), gold_known=True)
    assert row["workflow"] is None and row["answer"] is None and row["answered_by"] == "none"
    assert row["message"] == "no JSON No endpoint answered."
    assert row["findings"][0]["kind"] == "no_workflow" and row["findings"][0]["rule"] == "form"


@settings(max_examples=40, deadline=None)
@given(ROLLOUTS)
def test_every_rollout_is_one_line_of_ascii_json_whatever_a_model_wrote(drawn: Rollout) -> None:
    row = prediction_row(drawn, gold_known=True)
    line = json.dumps(row)
    assert "\n" not in line and line.isascii()
    assert json.loads(line) == row
