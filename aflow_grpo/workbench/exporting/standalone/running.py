"""Runs the workflow on a problem; the command line.

As a module: `asyncio.run(solve(VisibleProblem(...)))`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aflow_grpo.operators.base import Surroundings
from aflow_grpo.operators.registry import TEN_CLASSES
from aflow_grpo.problem import Domain, VisibleProblem
from aflow_grpo.seeds import derive_seed
from aflow_grpo.workbench.exporting.standalone.code_runs import (
    ONE_PROGRAM,
    Sandbox,
    run_one_program,
)
from aflow_grpo.workbench.exporting.standalone.contracts import contract, start_workflow
from aflow_grpo.workbench.exporting.standalone.executor import (
    LLM,
    Asked,
    Executor,
    Stopped,
    WorkflowFault,
)
from aflow_grpo.workbench.exporting.standalone.found import PROMPTS, current_run
from aflow_grpo.workflow.binding import BindError, bind_arguments
from aflow_grpo.workflow.drive import _sanitised

__all__ = [
    "DOMAIN",
    "MAX_ANSWER_CHARS",
    "MAX_ARGUMENT_CHARS",
    "MAX_CALLS",
    "WORKFLOW_TIMEOUT_S",
    "Run",
    "Solved",
    "main",
    "solve",
]

DOMAIN: Domain = "math"
MAX_CALLS = 32
MAX_ARGUMENT_CHARS = 200_000
MAX_ANSWER_CHARS = 100_000
WORKFLOW_TIMEOUT_S = 180.0
_RUN_PROGRAMS = frozenset({"programmer", "test"})
_DONE, _FAILED, _USAGE = 0, 1, 2


class Run:
    """One problem on its way.

    Args:
        executor: Is asked by the operators.
        problem: What is to be solved.
        seed: Of everything that is drawn.
        run_code: Whether operators may run programs.
    """

    def __init__(
        self, executor: Executor, problem: VisibleProblem, *, seed: int, run_code: bool
    ) -> None:
        self._executor = executor
        self._seed = seed
        self._sandbox = Sandbox(allowed=run_code)
        surroundings = Surroundings(self._sandbox, problem)  # type: ignore[arg-type]
        self._operators = {kind.spec.attribute: kind.build(surroundings) for kind in TEN_CLASSES}
        self._issued = 0
        self.stopped = ""
        """Why it may not go on, whatever its code made of that."""

    @property
    def asked(self) -> Sequence[Asked]:
        """The executor's answered calls."""
        return self._executor.asked

    @property
    def cost_usd(self) -> float:
        """At list price."""
        return sum(call.cost_usd for call in self.asked)

    @property
    def prompt_tokens(self) -> int:
        """Of all calls."""
        return sum(call.prompt_tokens for call in self.asked)

    @property
    def completion_tokens(self) -> int:
        """Of all calls."""
        return sum(call.completion_tokens for call in self.asked)

    async def call(
        self, attribute: str, positional: Sequence[Any], keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One operator call of the workflow."""
        spec = contract(attribute)
        try:
            arguments = bind_arguments(spec, positional, keywords, PROMPTS, MAX_ARGUMENT_CHARS)
        except BindError as error:
            raise TypeError(str(error)) from None
        if self._issued >= MAX_CALLS:
            self.stopped = f"it made more than {MAX_CALLS} operator calls"
            raise Stopped(self.stopped)
        llm = LLM(self._executor, attribute, derive_seed(self._seed, "branch", self._issued))
        self._issued += 1
        try:
            if attribute in _RUN_PROGRAMS:
                self._sandbox.require_allowed(attribute)
            return await self._operators[attribute](llm, **arguments)
        except WorkflowFault as fault:
            raise RuntimeError(_sanitised(fault.message)) from None
        except Stopped as stopped:
            self.stopped = str(stopped)
            raise


@dataclass(frozen=True)
class Solved:
    """What became of a problem."""

    answer: str | None
    """None when the workflow did not end with an answer."""
    error: str
    """Why; empty when there is an answer."""
    cost_usd: float
    """Of the executor's calls, at list price."""
    calls: tuple[Asked, ...]


async def solve(problem: VisibleProblem, *, seed: int = 0, run_code: bool = False) -> Solved:
    """Run the workflow on a problem; what goes wrong in it is told, not raised.

    Args:
        problem: Its question, and what its domain needs.
        seed: Sent with the requests, one derived from it for each.
        run_code: Let operators run programs that a model wrote (see `Sandbox`).
    """
    executor = Executor()
    run = Run(executor, problem, seed=seed, run_code=run_code)
    token = current_run.set(run)
    answer, error = None, ""
    try:
        async with asyncio.timeout(WORKFLOW_TIMEOUT_S):
            text = _whole(problem.text)
            answer = _answer(await start_workflow(text, _whole(problem.entry_point)))
    except TimeoutError:
        error = f"it did not end within {WORKFLOW_TIMEOUT_S:g} s"
    except (Stopped, Exception) as raised:
        error = f"{type(raised).__name__}: {raised}"
    finally:
        current_run.reset(token)
        await executor.aclose()
    if run.stopped:
        answer, error = None, run.stopped
    return Solved(answer, error, run.cost_usd, tuple(run.asked))


def _answer(returned: Any) -> str:
    """The answer of what `__call__` returned: a pair of it and the cost."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"`__call__` returned a {type(returned).__name__}; expected (answer, cost)")
    if not isinstance(returned[0], (str, int, float)):
        raise TypeError(f"the answer is a {type(returned[0]).__name__}; expected text or a number")
    text = str(returned[0])
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError(f"the answer has {len(text)} characters; at most {MAX_ANSWER_CHARS}")
    return text


def _whole(text: str) -> str:
    """Without half surrogate pairs, which no request can carry."""
    return text.encode("utf-8", "replace").decode()


# The command line


def main() -> int:
    """Solve one problem; 0 with an answer, 1 without one, 2 for wrong usage."""
    if sys.argv[1:2] == [ONE_PROGRAM]:
        run_one_program()
        return _DONE
    given = _parser().parse_args()
    try:
        problem = _problem(given)
    except (OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return _USAGE
    if not os.environ.get("OPENAI_API_KEY"):
        print(
            "OPENAI_API_KEY is not set. Set it to your key, or to any word where OPENAI_BASE_URL "
            "names a server that wants none.",
            file=sys.stderr,
        )
        return _USAGE
    solved = asyncio.run(solve(problem, seed=given.seed, run_code=given.run_code))
    if given.json:
        print(json.dumps(asdict(solved)))
    elif solved.answer is not None:
        print(solved.answer)
    if solved.error:
        print(f"no answer: {solved.error}", file=sys.stderr)
    if not given.json:
        print(f"{len(solved.calls)} calls, {solved.cost_usd:.6f} USD", file=sys.stderr)
    return _FAILED if solved.answer is None else _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Solve a problem with the workflow in this file.")
    parser.add_argument("--problem", required=True, help="the question; - reads it from stdin")
    parser.add_argument("--context", default="", help="the text that it is about")
    parser.add_argument("--entry-point", default="", help="name of the function to write")
    parser.add_argument(
        "--tests",
        metavar="FILE",
        help="JSON list of assert statements that code is tested by, as `Test` runs them",
    )
    parser.add_argument("--seed", type=int, default=0, help="sent with the requests")
    parser.add_argument(
        "--run-code",
        action="store_true",
        help="let operators run programs that a model wrote: in processes with limits, but with "
        "your files and your network",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _problem(given: argparse.Namespace) -> VisibleProblem:
    tests: Any = []
    if given.tests:
        tests = json.loads(Path(given.tests).read_text(encoding="utf-8"))
        if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
            raise ValueError(f"--tests {given.tests}: expected a JSON list of texts")
    return VisibleProblem(
        id="problem",
        dataset="",
        domain=DOMAIN,
        question=sys.stdin.read() if given.problem == "-" else given.problem,
        context=given.context,
        entry_point=given.entry_point,
        public_tests=tuple(tests),
    )
