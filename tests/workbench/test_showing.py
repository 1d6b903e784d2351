"""What a person sees of an answered problem, line by line."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from run_world import CODE, solved

from aflow_grpo.predictions import prediction_row
from aflow_grpo.records import (
    Execution,
    FaultKind,
    Finding,
    OperatorCall,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.workbench.showing import row_view, usd
from aflow_grpo.workbench.solution import Solution

CALL = OperatorCall("programmer", {}, {}, Usage(1, 1, 100, 20, 3e-5, 3e-5), 0.1, ("main",))
RESCUE = OperatorCall("answer_generate", {}, {}, Usage(2, 2, 50, 5, 1e-5, 1e-5), 0.2, ("backup",))
FAILED = Execution(
    Status.INVALID, None, FaultKind.UNKNOWN_OPERATOR, "line 3: no operator", WorkflowSource(CODE),
    findings=(Finding(FaultKind.UNKNOWN_OPERATOR, "no operator.", 3, hint="Use custom."),),
    fallback_answer="5", fallback_calls=(RESCUE,), fallback_usage=RESCUE.usage,
)  # fmt: skip


def shown(row: dict[str, Any], *, gold: str = "", terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=60, force_terminal=terminal, color_system=None, highlight=False,
        markup=False, emoji=False,
    )  # fmt: skip
    console.print(row_view(row, gold=gold), crop=False)
    return out.getvalue()


def row_of(execution: Execution | None = None, *, gold_known: bool = True) -> dict[str, Any]:
    rollout = solved(3)
    if execution is not None:
        rollout = replace(rollout, execution=execution)
    return Solution(rollout, gold_known, "runs/x/last.ckpt, iteration 7").row()


def test_a_right_answer_from_top_to_bottom() -> None:
    assert shown(row_of(), gold="4") == (
        "problem   math\n"
        "  What is 3 + 1?\n"
        "workflow  ran as written; written by runs/x/last.ckpt, iteration 7\n"
        "  prompt custom: Add.\n"
        "  class Workflow:\n"
        "      async def __call__(self, problem):\n"
        "          p = await self.programmer(problem=problem)\n"
        '          return p["output"], self.llm.get_usage_summary()["total_cost"]\n'
        "operators 1 operator call, 1 LLM call, 120 tokens, $0.000030, 0.0 s\n"
        "  workflow\n"
        "  └── programmer  1 call, 100 + 20 tokens, $0.000030, 0.1 s, main\n"
        "answer    by the workflow itself; tier main\n"
        "  4\n"
        "reward    9.00 of 10\n"
        "  right\n"
        "  correctness  65.0 points\n"
        "  efficiency   12.0 points\n"
        "  simplicity    8.0 points\n"
        "  format        5.0 points\n"
        "  repetition    5.0 points\n"
    )


def test_a_fallbacks_answer_says_so_and_why() -> None:
    text = shown(row_of(FAILED), gold="4")
    assert "workflow  did not run: invalid" in text
    assert "  line 3: no operator. Use custom.\n" in text
    assert "  fallback workflow\n  └── answer_generate  2 calls, 50 + 5 tokens" in text
    assert "by the fallback workflow, since the policy's did not run; tier backup" in text


def test_without_a_gold_answer_no_reward_is_shown() -> None:
    text = shown(row_of(gold_known=False))
    assert "reward    unknown without the right answer: --gold\n" in text
    assert "correctness" not in text


def test_a_wrong_answer_is_shown_with_the_right_one() -> None:
    row = prediction_row(solved(3, right=False), gold_known=True)
    text = shown(row, gold="4")
    assert "  wrong\n  gold answer: 4\n" in text and "penalty" in text
    assert "written by" not in text  # a stored row need not say it


def test_nobody_answered() -> None:
    down = Execution(Status.UNAVAILABLE, None, FaultKind.ENDPOINT, "No endpoint answered.")
    text = shown(row_of(down))
    assert "none could be read (unavailable)" in text and "none was called" in text
    assert "answer    nobody answered\n  none\n" in text
    assert "reward    none: no endpoint answered, which is nobody's fault" in text


def test_on_a_terminal_long_lines_are_wrapped_and_nothing_is_lost() -> None:
    code = "x = '" + "abcdefghij " * 20 + "end'"
    row = row_of(replace(FAILED, source=WorkflowSource(code)))
    lines = shown(row, terminal=True).splitlines()
    inside = lines[lines.index("  What is 3 + 1?") + 2 :]
    wrapped = inside[: next(i for i, line in enumerate(inside) if line.startswith("  line 3"))]
    assert all(len(line) <= 60 for line in wrapped)
    assert "".join(part.strip() for part in wrapped).count("abcdefghij") == 20


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_model_wrote_does_not_steer_the_terminal(terminal: bool) -> None:
    evil = "\x1b[2J\x07[red]x[/red]\u202e"
    call = replace(CALL, operator=evil, message=evil)
    execution = replace(
        FAILED, source=WorkflowSource(f"# {evil}", {evil: evil}), fallback_answer=evil,
        calls=(call,), message=evil,
        findings=(Finding(FaultKind.SYNTAX_ERROR, evil, hint=evil),),
    )  # fmt: skip
    text = shown(row_of(execution), gold=evil, terminal=terminal)
    assert "\x07" not in text and "\x1b[2J" not in text and "\u202e" not in text
    assert "[red]x[/red]" in text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0"), (0.0000552, "$0.000055"), (0.0123, "$0.0123"), (1.5, "$1.50"), (1200, "$1200.00")],
)
def test_usd(amount: float, text: str) -> None:
    assert usd(amount) == text
