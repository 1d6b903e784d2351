"""The workflow shown in full at a run's end: what was written, called and answered."""

from dataclasses import replace

import pytest
from made_rollouts import rollout
from rich.console import Console

from aflow_grpo.records import (
    Execution,
    FaultKind,
    OperatorCall,
    Rollout,
    Score,
    Status,
    Usage,
    WorkflowSource,
)
from aflow_grpo.training.report import choose_example, example_view

CALL = OperatorCall(
    "answer_generate", {"input": "?"}, {"answer": "7"}, Usage(1, 1, 120, 30, 0.000036), 0.1
)
SOURCE = WorkflowSource("class Workflow:\n    pass", {"custom": "Use [bold]algebra[/bold]."})
RAN = Execution(Status.OK, answer=" 7\n", source=SOURCE, calls=(CALL,))
CUT = Execution(
    Status.CUT,
    fault_kind=FaultKind.LENGTH_LIMIT,
    message="The completion hit its length limit before it ended.",
    fallback_answer="8",
    fallback_calls=(CALL, replace(CALL, operator="custom")),
)


def made(execution: Execution, *, correct: bool = False, text: str = "") -> Rollout:
    """A rollout of one math problem with this execution."""
    base = rollout("math")
    return replace(
        base,
        problem=replace(base.problem, question="What is 3 + 4?", answer="7", domain="math"),
        completion=replace(base.completion, text=text),
        execution=execution,
        score=Score(float(correct), correct),
    )


def shown(rollout: Rollout) -> list[str]:
    """The lines that a plain terminal of 100 columns gets."""
    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        console.print(example_view(rollout))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_workflow_that_ran_is_shown_with_prompts_calls_and_answer() -> None:
    lines = shown(made(RAN, correct=True))
    assert "What is 3 + 4?" in lines and "class Workflow:" in lines
    assert "  prompt for custom: Use [bold]algebra[/bold]." in lines
    assert "  answer_generate: 1 calls, 120 + 30 tokens, $0.000036" in lines
    assert "  answer, right: 7 (gold 7)" in lines
    assert not any("in its place" in line for line in lines)


def test_a_cut_completion_is_shown_in_part_and_then_what_answered_in_its_place() -> None:
    lines = shown(made(CUT, text="\x1b[2J \n\n\n" + "x" * 1000))
    assert sum(line.count("x") for line in lines if "xxx" in line) == 400 - len("\x1b[2J ")
    assert not any("\x1b" in line for line in lines)
    assert lines[2] == "\N{REPLACEMENT CHARACTER}[2J"
    assert "  cut: The completion hit its length limit before it ended." in lines
    place = lines.index("The fixed workflow for math answered in its place")
    assert "class Workflow:" in lines[place:]
    assert lines.index("  custom: 1 calls, 120 + 30 tokens, $0.000036") > place
    assert lines[-1] == "  answer: 8 (gold 7)"


@pytest.mark.parametrize("order", [1, -1])
def test_right_beats_ran_beats_a_stand_in(order: int) -> None:
    right, wrong, cut = made(RAN, correct=True), made(RAN), made(CUT)
    bare = made(replace(CUT, fallback_calls=()))
    assert choose_example([right, wrong, cut, bare][::order]) is right
    assert choose_example([wrong, cut, bare][::order]) is wrong
    assert choose_example([cut, bare][::order]) is cut
    assert choose_example([]) is None
