"""Problems answered by fixed workflows: real simulator servers, real sandboxes, no Trainer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.errors import BudgetSpent, ConfigError, ExecutorError, OutageError
from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.records import Problem, Status
from aflow_grpo.workbench.questions import load_problems, make_problem
from aflow_grpo.workbench.solving import SIMULATED, Solver, solve
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.library import fallback_workflow

PROBLEMS = load_problems("sample", "val")
SUM = make_problem("What is 17 + 4?", gold="21")
BROKEN = "class Workflow:\n    async def __call__(self, problem):\n        return 1 / 0, 0\n"
NOBODY = {"name": "nobody", "base_url": "http://127.0.0.1:9/v1", "api_key": "k", "max_attempts": 1}


@pytest.fixture(scope="module")
def solver() -> Iterator[Solver]:
    with Solver() as solver:
        solver.solve(SUM)  # what the simulator is told when it starts
        yield solver


@pytest.fixture(scope="module")
def endpoint() -> Iterator[dict[str, Any]]:
    """Settings of an executor that is nobody's simulator, as far as the solver can tell."""
    with Simulator([SUM], TEN_OPERATORS.markers) as simulator:
        tier = {
            "name": "main", "model": "gpt-4o-mini", "base_url": simulator.base_url,
            "api_key": "test-key", "api_key_env": "",
        }  # fmt: skip
        yield {"llm.simulator": None, "llm.tiers": [tier]}


def test_with_a_gold_answer_the_reward_is_known(solver: Solver) -> None:
    solution = solver.solve("What is 17 + 4?", gold="21")
    assert solution.score is not None and solution.reward is not None
    assert solution.score.correct == (solution.answer == "21")
    assert solution.reward.correctness == 65.0 * solution.score.value
    assert solution.workflow == fallback_workflow("math")
    assert solution.written_by == "the fixed workflow `direct`" and solution.note == ""
    row = solution.row()
    assert row["tiers"] == ["simulator"] and row["answered_by"] == "own" and row["direct"]
    assert [call["operator"] for call in row["operators"]] == ["answer_generate"]
    assert row["cost_usd"] == solution.cost_usd > 0


def test_without_one_nothing_is_said_of_reward_and_the_answer_is_called_made_up(
    solver: Solver,
) -> None:
    solution = solver.solve("How many gnus are there?")
    assert solution.answer is not None
    assert solution.score is None and solution.reward is None
    assert solution.note == SIMULATED == solution.row()["note"]


def test_the_simulator_knows_the_sample_without_being_told(solver: Solver) -> None:
    known = next(p for p in PROBLEMS if p.domain == "qa")
    solution = solver.solve(known.question, "qa", context=known.context)
    assert solution.note == "" and solution.reward is None


def test_the_simulator_learns_of_a_problem_that_comes_later_with_its_answer() -> None:
    program = "def twice(x):\n    return 2 * x\nassert twice(2) == 4\nassert twice(5) == 10"
    with Solver() as solver:
        first = solver.solve("How much is 2 * 21?", gold="42")
        later = solver.solve(
            "Write twice(x).", "code", gold=program, entry_point="twice",
            public_tests=["assert twice(1) == 2"],
        )  # fmt: skip
    assert first.note == later.note == ""
    assert later.score is not None and "2 hidden tests" in later.score.detail


def test_many_problems_each_with_samples_and_each_once(solver: Solver) -> None:
    asked = PROBLEMS[:20]
    solutions = list(solver.solve_many(asked, samples=2))
    answered = Counter((s.rollout.problem.id, s.rollout.member) for s in solutions)
    assert answered == {(p.id, member): 1 for p in asked for member in (0, 1)}
    assert all(s.reward is not None for s in solutions)
    assert list(solver.solve_many([])) == []


def test_the_same_seed_gives_the_same_answers_and_another_one_others(solver: Solver) -> None:
    def answers(of: Solver) -> list[str | None]:
        done = {s.rollout.problem.id: s.answer for s in of.solve_many(PROBLEMS[:24])}
        return [done[p.id] for p in PROBLEMS[:24]]

    with Solver(seed=1) as other:
        assert answers(solver) == answers(solver) != answers(other)


def test_who_stops_reading_can_ask_again(solver: Solver) -> None:
    reader = solver.solve_many(PROBLEMS[:40])
    next(reader)
    reader.close()
    assert solver.solve(SUM).answer is not None


def test_it_works_where_an_event_loop_runs_as_in_a_notebook(solver: Solver) -> None:
    async def cell() -> tuple[str | None, str | None]:
        return solver.solve(SUM).answer, solve(SUM).answer  # the second opens and closes its own

    assert asyncio.run(cell()) == (solver.solve(SUM).answer,) * 2


def test_a_closed_solver_opens_again() -> None:
    solver = Solver()
    try:
        first = solver.solve(SUM).answer
        solver.close()
        solver.close()
        assert solver.solve(SUM).answer == first
    finally:
        solver.close()


# Workflows


def test_a_workflow_from_a_file_and_the_fallback_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(BROKEN)
    with Solver(workflow=path) as solver:
        alone = solver.solve(SUM)
    assert alone.answer is None and alone.rollout.execution.status is Status.ERROR
    assert alone.written_by == str(path) and alone.note == ""
    with Solver(workflow=path, settings={"rollout.rollout.fallback": "always"}) as solver:
        rescued = solver.solve(SUM)
    row = rescued.row()
    assert row["answered_by"] == "fallback" and rescued.answer == row["answer"] is not None
    assert [call["layer"] for call in row["operators"]] == ["fallback"]
    assert rescued.score is not None and not rescued.score.correct  # only its own answer is paid


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"workflow": "cascdae"}, "neither a file nor a fixed workflow: direct, custom"),
        ({"workflow": "code_test"}, "none of the fixed workflows for math: direct, custom"),
        ({"workflow": "direct", "checkpoint": "runs/x"}, "expected one of them"),
        ({"checkpoint": "nowhere"}, "nowhere: no such file or directory"),
        ({"config": ["nope.yaml"]}, "--config nope.yaml: cannot be read"),
        ({"settings": {"llm.budget": 1}}, "Did you mean llm.budget_usd"),
        ({"settings": {"lm.budget_usd": 1}}, "settings: unknown key 'lm'.*Did you mean llm"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught, Solver(**arguments) as solver:
        solver.solve(SUM)
    assert "\n" not in str(caught.value)


def test_samples_below_zero_are_refused(solver: Solver) -> None:
    with pytest.raises(ConfigError, match="--samples=-1: expected 0"):
        list(solver.solve_many([SUM], samples=-1))


# Endpoints


def test_a_real_endpoint_by_its_tier_and_nothing_is_paid_twice(
    endpoint: dict[str, Any], tmp_path: Path
) -> None:
    journal = tmp_path / "kept.db"
    rows = []
    for _ in range(2):
        with Solver(settings=endpoint, journal=journal) as solver:
            assert not solver.simulated
            solution = solver.solve("A question that nobody knows the answer to")
            rows.append(solution.row())
            assert solution.note == ""  # whoever it is, it is asked in earnest
    assert [row["tiers"] for row in rows] == [["main"], ["main"]]
    assert rows[0]["answer"] == rows[1]["answer"]
    assert rows[0]["usage"]["billed_usd"] > 0 == rows[1]["usage"]["billed_usd"]


def test_the_journal_goes_where_llm_journal_dir_says(tmp_path: Path) -> None:
    assert solve(SUM, settings={"llm.journal_dir": tmp_path}).answer is not None
    assert (tmp_path / "journal.db").stat().st_size > 0


def test_a_spent_budget_ends_it(endpoint: dict[str, Any]) -> None:
    with pytest.raises(BudgetSpent, match="budget_usd"):
        solve(SUM, settings={**endpoint, "llm.budget_usd": 1e-9})


def test_the_budget_is_one_budget_however_often_the_simulator_starts_anew() -> None:
    with Solver(settings={"llm.budget_usd": 0.0015}) as solver:
        with pytest.raises(BudgetSpent, match="are spent"):
            for n in range(30):
                solver.solve(f"What is 17 + {n}?", gold=str(17 + n))
        assert n > 2


def test_a_new_problem_while_others_are_being_answered_is_refused_in_words() -> None:
    with Solver() as solver:
        answers = solver.solve_many(PROBLEMS[:3])
        next(answers)
        with pytest.raises(ConfigError, match="`tell` it of all problems first"):
            solver.solve("What is 3 + 990?", gold="993")
        assert len(list(answers)) == 2


def test_no_key_and_an_endpoint_that_is_down_are_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ExecutorError, match="No API key for tier 'primary'"):
        solve(SUM, config=["configs/llm/openai.yaml"])
    with pytest.raises(ExecutorError, match=r"'nobody'.*no connection"):
        solve(SUM, settings={"llm.simulator": None, "llm.tiers": [NOBODY]})


def test_an_endpoint_that_goes_down_is_nobodys_fault_and_many_lost_answers_end_it() -> None:
    down = {"llm.simulator": None, "llm.tiers": [NOBODY], "llm.check_endpoints": False}
    lost = solve(SUM, settings=down)
    assert lost.answer is None and lost.rollout.masked
    assert lost.score is None and lost.reward is None  # though the gold answer is known
    many: list[Problem] = PROBLEMS[:9]
    with (
        Solver(settings={**down, "llm.unavailable_over": 5}) as solver,
        pytest.raises(OutageError, match="5 of the last 5 workflows"),
    ):
        list(solver.solve_many(many))


def test_a_row_is_one_line_of_json(solver: Solver) -> None:
    row = solver.solve(SUM).row()
    assert json.loads(json.dumps(row)) == row
