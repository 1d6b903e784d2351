"""Is a program right? Its hidden tests really run, in the sandbox; the text proves nothing.

Not covered: how candidates are isolated and judged (`sandbox.judge`).
"""

from __future__ import annotations

from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.code_text import extract_code
from aflow_grpo.sandbox.judge import judge
from aflow_grpo.sandbox.pool import Sandbox

__all__ = ["score_code"]


async def score_code(
    problem: Problem, answer: str, sandbox: Sandbox, *, timeout_s: float | None = None
) -> Score:
    """Runs the problem's hidden tests on the program in `answer`.

    Args:
        problem: Its `entry_point`, `test_setup` and `hidden_tests` decide.
        answer: A program, bare or in a fenced block.
        sandbox: Where it runs.
        timeout_s: Most processor seconds for all tests together; None: the sandbox's.

    Returns:
        `correct` only when every test passes; `value` is the share of tests that pass.
    """
    code = extract_code(answer)
    if code is None:
        return Score(0.0, False, "the answer holds no Python program")
    verdict = await judge(
        sandbox,
        code,
        problem.entry_point,
        problem.hidden_tests,
        setup=problem.test_setup,
        timeout_s=timeout_s,
    )
    share = sum(verdict.passed) / len(problem.hidden_tests)
    detail = f"{sum(verdict.passed)} of {len(problem.hidden_tests)} hidden tests pass"
    if verdict.error:
        detail += f": {verdict.error[:200]}"
    return Score(1.0 if verdict.all_passed else min(share, 0.99), verdict.all_passed, detail)
