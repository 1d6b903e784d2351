"""Is a program right? Its hidden tests really run, in the sandbox; the text proves nothing.

Not covered: how candidates are isolated and judged (`sandbox.judge`), pass@k (`pass_at_k`).
"""

from __future__ import annotations

from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.code_text import extract_code
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox

__all__ = ["judge_program", "score_code"]

_SEPARATE_EXAMPLES = frozenset({"humaneval"})
"""Datasets whose public tests are examples beside the official tests, not some of them."""


async def score_code(
    problem: Problem, answer: str, sandbox: Sandbox, *, timeout_s: float | None = None
) -> Score:
    """1 when the program in `answer` passes every test of the problem, else 0.

    The hidden tests decide, and so do public tests: where a dataset's tests are parted into public
    and hidden ones, a program that fails a public one is no solution. HumanEval's public tests do
    not count; they are examples that its official check does not run.

    Args:
        problem: Its `entry_point`, `test_setup` and tests decide.
        answer: A program, bare or in a fenced block.
        sandbox: Where it runs.
        timeout_s: Most processor seconds for all tests together; None: the sandbox's.

    Returns:
        With `measures` ``tests_passed``: the share of hidden tests that pass, in [0, 1].
    """
    code = extract_code(answer)
    if code is None:
        return Score(0.0, False, "the answer holds no Python program", {"tests_passed": 0.0})
    return await judge_program(problem, code, sandbox, timeout_s=timeout_s)


async def judge_program(
    problem: Problem, code: str, sandbox: Sandbox, *, timeout_s: float | None = None
) -> Score:
    """`score_code` of a text that is a program and nothing else."""
    hidden = problem.hidden_tests
    public = tuple(test for test in problem.public_tests if test not in hidden)
    if problem.dataset.lower() in _SEPARATE_EXAMPLES:
        public = ()
    verdict = await judge(
        sandbox,
        code,
        problem.entry_point,
        (*hidden, *public),
        setup=problem.test_setup,
        timeout_s=timeout_s,
    )
    passed = sum(verdict.passed[: len(hidden)])
    detail = f"{passed} of {len(hidden)} hidden tests pass"
    if passed == len(hidden) and not verdict.all_passed:
        detail += ", but a public one fails"
    if verdict.error:
        detail += f": {verdict.error[:200]}"
    measures = {"tests_passed": passed / len(hidden)}
    return Score(float(verdict.all_passed), verdict.all_passed, detail, measures)
