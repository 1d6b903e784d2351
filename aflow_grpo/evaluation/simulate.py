"""Runs workflows against the simulator in this process: the real operators, no HTTP.

A workflow here is a Python coroutine over `Run`, which calls the package's operators through a real
executor session whose replies come straight from the simulator's `World`. Sandbox jobs and scores
are kept, since equal programs come up again and again. Not covered: the interpreter, budgets,
faults; they change nothing about an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.evaluation.scores import ScoreTable
from aflow_grpo.llm.prices import PRICES
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.llm.simulator import SIMULATED_MODEL, SimulatorSettings
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.operators.base import Operator, Result
from aflow_grpo.operators.registry import OperatorKit
from aflow_grpo.records import Problem, Usage
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.sandbox.results import SandboxResult
from aflow_grpo.scoring.math_aflow import aflow_answer, last_number
from aflow_grpo.scoring.qa_measures import official_normal
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.seeds import derive_seed
from aflow_grpo.workflow.contract import TEN_OPERATORS

__all__ = ["Outcomes", "Run", "Workflow", "simulate"]

_PRICE = PRICES[SIMULATED_MODEL]
_AT_ONCE = 32


class Run:
    """One execution of a workflow: the operators, as short calls that return text.

    Args:
        problem: What is to be solved.
        operators: Of this problem.
        session: Answers from the simulator.
        passing: Programs that are known to pass the problem's public tests; grows.
    """

    def __init__(
        self,
        problem: Problem,
        operators: Mapping[str, Operator],
        session: LLMSession,
        passing: set[str],
    ) -> None:
        self.problem = problem.text
        self._entry_point = problem.entry_point
        self._operators = operators
        self._session = session
        self._passing = passing
        self._calls = 0

    @property
    def usage(self) -> Usage:
        """What the execution consumed so far."""
        return self._session.usage

    async def custom(self, text: str, instruction: str = "") -> str:
        """The reply to an instruction about a text."""
        return await self._text("custom", "response", input=text, instruction=instruction)

    async def answer(self, instruction: str = "") -> str:
        """AnswerGenerate's answer."""
        arguments = {"input": self.problem, "instruction": instruction}
        return await self._text("answer_generate", "answer", **arguments)

    async def code(self, instruction: str = "") -> str:
        """CustomCodeGenerate's program."""
        arguments = {"problem": self.problem, "entry_point": self._entry_point}
        return await self._text(
            "custom_code_generate", "response", **arguments, instruction=instruction
        )

    async def vote(self, solutions: Sequence[str]) -> str:
        """ScEnsemble's choice."""
        arguments: dict[str, Any] = {"solutions": list(solutions), "problem": self.problem}
        return await self._text("sc_ensemble", "response", **arguments)

    async def program(self, analysis: str = "") -> str:
        """What Programmer's program computed; empty where it failed."""
        output = await self._text(
            "programmer", "output", problem=self.problem, analysis=analysis or None
        )
        return "" if output.startswith("Error") else output

    async def test(self, code: str, rounds: int = 3) -> tuple[bool, str]:
        """Test: whether the code passes, and the code, mended where it did not."""
        if code in self._passing:
            return True, code
        result = await self._call(
            "test",
            problem=self.problem,
            solution=code,
            entry_point=self._entry_point,
            test_loop=rounds,
        )
        passed, tested = bool(result["result"]), str(result["solution"])
        if passed and tested == code:  # it was run as it is, and would be again
            self._passing.add(code)
        return passed, tested

    async def _text(self, operator: str, key: str, **arguments: Any) -> str:
        return str((await self._call(operator, **arguments))[key])

    async def _call(self, operator: str, **arguments: Any) -> Result:
        index = self._calls
        self._calls += 1
        branch = self._session.branch(index, operator)
        return await self._operators[operator](branch, **arguments)


Workflow = Callable[[Run], Awaitable[str]]
"""Answers a problem."""


@dataclass(frozen=True)
class Outcomes:
    """What became of the workflows of one dataset."""

    table: ScoreTable
    forms_PWR: NDArray[np.int64]
    """Equal numbers of one problem: the same answer, as the dataset's scorer reads it."""
    prompt_tokens: dict[str, float]
    """Mean per execution, by workflow."""
    completion_tokens: dict[str, float]


class _Kept(Sandbox):
    """A sandbox that runs equal jobs once; they have equal results."""

    def __init__(self) -> None:
        super().__init__(workers=2)
        self._results: dict[tuple[str, tuple[str, ...], str], SandboxResult] = {}

    async def evaluate(
        self,
        source: str,
        expressions: Sequence[str],
        *,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> SandboxResult:
        key = (source, tuple(expressions), repr(inputs))
        if key not in self._results:
            self._results[key] = await super().evaluate(
                source, expressions, timeout_s=timeout_s, inputs=inputs
            )
        return self._results[key]


class _Scorer:
    """Scores by AFlow's own rules and remembers: equal answers to a problem score alike."""

    def __init__(self, scorers: ScorerSet) -> None:
        self._scorers = scorers
        self._scores: dict[tuple[str, str], float] = {}

    async def __call__(self, problem: Problem, answer: str) -> tuple[str, float]:
        """The normalised answer and its score."""
        form = _normalised(problem, answer)
        key = (problem.id, form)
        if key not in self._scores:
            self._scores[key] = (await self._scorers.score(problem, answer)).value
        return form, self._scores[key]


def _normalised(problem: Problem, answer: str) -> str:
    if problem.dataset == "gsm8k":
        return str(last_number(answer))
    if problem.domain == "math":
        return aflow_answer(answer)
    return official_normal(answer) if problem.domain == "qa" else answer


def simulate(
    dataset: str,
    population: Sequence[tuple[Problem, int]],
    workflows: Mapping[str, Workflow],
    *,
    repeats: int,
    settings: SimulatorSettings | None = None,
) -> Outcomes:
    """Run workflows on simulated problems.

    Args:
        dataset: Name of the table.
        population: Pairs of a problem and the simulator's seed.
        workflows: By name.
        repeats: Executions per problem and workflow.
        settings: The simulator's; its seed comes from the population.
    """
    return asyncio.run(
        _simulate(dataset, population, workflows, repeats, settings or SimulatorSettings())
    )


async def _simulate(
    dataset: str,
    population: Sequence[tuple[Problem, int]],
    workflows: Mapping[str, Workflow],
    repeats: int,
    settings: SimulatorSettings,
) -> Outcomes:
    worlds = _worlds(population, settings)
    names = tuple(workflows)
    shape = (len(population), len(names), repeats)
    scores, usage = np.zeros(shape), np.zeros((*shape, 2))
    forms = np.zeros(shape, dtype=np.int64)
    async with _Kept() as sandbox, ScorerSet(sandbox, ScoringSettings(profile="aflow")) as scorers:
        score, kit = _Scorer(scorers), OperatorKit()
        free = asyncio.Semaphore(_AT_ONCE)

        async def one_problem(p: int) -> None:
            problem, seed = population[p]
            operators = kit.build(sandbox=sandbox, problem=problem.visible)
            ask = _ask(worlds[seed])
            numbers: dict[str, int] = {}
            passing: set[str] = set()
            async with free:
                for w, name in enumerate(names):
                    for r in range(repeats):
                        session = LLMSession(ask, derive_seed(seed, problem.id, name, r))
                        run = Run(problem, operators, session, passing)
                        form, scores[p, w, r] = await _scored(workflows[name], run, problem, score)
                        forms[p, w, r] = numbers.setdefault(form, len(numbers))
                        usage[p, w, r] = run.usage.prompt_tokens, run.usage.completion_tokens

        await asyncio.gather(*(one_problem(p) for p in range(len(population))))
    tokens_W = usage.mean((0, 2))
    usd = [_usd(row) for row in tokens_W]
    table = ScoreTable(
        dataset,
        tuple(f"{problem.id}@{seed}" for problem, seed in population),
        names,
        scores,
        np.array(usd),
    )
    return Outcomes(
        table,
        forms,
        dict(zip(names, tokens_W[:, 0].tolist(), strict=True)),
        dict(zip(names, tokens_W[:, 1].tolist(), strict=True)),
    )


def _worlds(
    population: Sequence[tuple[Problem, int]], settings: SimulatorSettings
) -> dict[int, World]:
    return {
        seed: World(
            [problem for problem, other in population if other == seed],
            TEN_OPERATORS.markers,
            replace(settings, skill_seed=seed),
        )
        for seed in {seed for _, seed in population}
    }


def _ask(world: World) -> Callable[[Request], Awaitable[Reply]]:
    async def ask(request: Request) -> Reply:
        body = world.completion(
            {
                "model": SIMULATED_MODEL,
                "messages": [
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.prompt},
                ],
                "seed": request.seed,
                "max_tokens": request.max_tokens or 2048,
            }
        )
        told = body["usage"]
        usage = Usage(
            calls=1,
            prompt_tokens=told["prompt_tokens"],
            completion_tokens=told["completion_tokens"],
        )
        return Reply(body["choices"][0]["message"]["content"] or "", usage)

    return ask


async def _scored(
    workflow: Workflow, run: Run, problem: Problem, score: _Scorer
) -> tuple[str, float]:
    try:
        answer = await workflow(run)
    except WorkflowFault:
        return "", 0.0
    return await score(problem, answer)


def _usd(tokens: Sequence[float]) -> float:
    prompt, completion = tokens
    return float(
        (float(_PRICE.usd_per_m_input) * prompt + float(_PRICE.usd_per_m_output) * completion) / 1e6
    )
