"""Programs of the imitated model in the real sandbox: they compute, they fail, and bugs hide."""

from __future__ import annotations

import asyncio
import random

import pytest
from simulated_world import MARKERS, code_problem, math_problem, sections, system

from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.simulator.programs import code_in, hidden_bug, solver, visible_bugs
from aflow_grpo.llm.simulator.values import canonical
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import Problem
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox


@pytest.mark.parametrize("value", ["18", "-7", "0.25", "\\frac{1}{2}", "-\\frac{3}{4}", "\\pi"])
def test_a_solver_computes_its_value(value: str) -> None:
    async def run() -> tuple[object, bool]:
        async with Sandbox(workers=1) as sandbox:
            code = solver(value, "Tom has 3 apples and 15.", random.Random(1), crashes=False)
            right = await sandbox.evaluate(code, ["str(solve())"])
            code = solver(value, "Tom has 3 apples and 15.", random.Random(1), crashes=True)
            wrong = await sandbox.evaluate(code, ["str(solve())"])
            return right.values[0].value, wrong.values[0].ok

    computed, crashed_ok = asyncio.run(run())
    assert canonical(str(computed)) == canonical(value)
    assert not crashed_ok


def test_bugs_fail_all_tests_and_hidden_ones_only_the_hidden() -> None:
    problem = code_problem(3, 2)
    bugs = visible_bugs(problem.answer, problem.entry_point)
    hidden = hidden_bug(bugs[0], problem.entry_point, problem.public_tests)
    assert hidden is not None

    async def passes(sandbox: Sandbox, code: str) -> tuple[bool, bool]:
        public = await judge(sandbox, code, problem.entry_point, problem.public_tests)
        secret = await judge(sandbox, code, problem.entry_point, problem.hidden_tests)
        return public.all_passed, secret.all_passed

    async def run() -> list[tuple[bool, bool]]:
        async with Sandbox(workers=1) as sandbox:
            return [await passes(sandbox, code) for code in (problem.answer, *bugs, hidden)]

    assert asyncio.run(run()) == [(True, True), *[(False, False)] * 3, (True, False)]


def test_what_programmer_writes_runs_to_a_known_value() -> None:
    made = [math_problem(number, 2) for number in range(12)]
    world = World(made, MARKERS, SimulatorSettings())

    def known(problem: Problem, value: object) -> bool:
        return abs(int(str(value)) - int(problem.answer)) <= max(20, int(problem.answer))

    async def run() -> list[tuple[bool, object]]:
        found = []
        async with Sandbox(workers=1) as sandbox:
            for problem in made:
                text = world.text(system("programmer"), sections(problem=problem.text), 1)
                result = (await sandbox.evaluate(code_in(text), ["str(solve())"])).values[0]
                found.append((result.ok, result.value))
        return found

    outcomes = asyncio.run(run())
    ran = [(p, value) for p, (ok, value) in zip(made, outcomes, strict=True) if ok]
    assert len(ran) >= 9
    assert all(known(problem, value) for problem, value in ran)
    assert sum(str(value) == problem.answer for problem, value in ran) >= 5
