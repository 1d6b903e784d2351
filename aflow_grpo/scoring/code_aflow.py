"""AFlow's way to a program: the longest run of lines that parses, cut down to the entry point.

As in AFlow's MBPP and HumanEval benchmarks the text is sanitised first (the rule of EvalPlus, Liu
et al. 2023, arXiv 2305.01210): prose around the code goes, and so do statements that are no
import, assignment, class or function that the entry point needs. Then all of the tests run, 15
seconds at most; AFlow counts them on the wall, the sandbox on the processor.

Not covered: AFlow's defects around the check, such as a loop that never dies: nothing runs in our
process. The parser's work is bounded, so a text of very many broken lines may be given up on.
"""

from __future__ import annotations

import ast
import warnings

from aflow_grpo.records import Problem, Score
from aflow_grpo.sandbox.code_text import parses
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.code_scorer import judge_program

__all__ = ["AFLOW_TIMEOUT_S", "sanitised", "score_code_aflow"]

AFLOW_TIMEOUT_S = 15.0
_MAX_CHARS = 100_000
_MAX_PARSES = 400


async def score_code_aflow(
    problem: Problem, answer: str, sandbox: Sandbox, *, timeout_s: float = AFLOW_TIMEOUT_S
) -> Score:
    """1 when the sanitised program passes every test, else 0.

    Args:
        problem: Its `entry_point`, `test_setup` and tests decide.
        answer: Any text.
        sandbox: Where the program runs.
        timeout_s: Most processor seconds for all tests together.
    """
    code = sanitised(answer, problem.entry_point)
    if not code:
        return Score(0.0, False, "the answer holds no Python program", {"tests_passed": 0.0})
    return await judge_program(problem, code, sandbox, timeout_s=timeout_s)


def sanitised(text: str, entry_point: str) -> str:
    """The program in `text`, cut down to what `entry_point` needs; empty when there is none."""
    code = _longest_program(text[:_MAX_CHARS])
    if not code:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as an invalid escape in somebody's string
        tree = ast.parse(code)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    named: dict[str, ast.stmt] = {}
    for node in tree.body:
        for name in _defines(node):
            named.setdefault(name, node)
    needed = _reachable(entry_point, named)
    kept = [node for node in tree.body if any(node is named[name] for name in needed)]
    return "\n".join(ast.unparse(node) for node in [*imports, *kept])


def _longest_program(text: str) -> str:
    """The run of lines with the most text that parses; fences never do, so they part the runs."""
    best, best_length, left = "", 0, _MAX_PARSES
    runs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            runs.append([])
        else:
            runs[-1].append(line)
    for run in sorted(runs, key=_length, reverse=True):
        for start, end in _windows(len(run)):
            if _length(run[start:end]) <= best_length:
                continue
            if left == 0:
                return best
            left -= 1
            code = "\n".join(run[start:end])
            if parses(code):
                best, best_length = code, _length(run[start:end])
    return best


def _windows(lines: int) -> list[tuple[int, int]]:
    """All (start, end), the longest first, as many as the parser may be asked for."""
    windows: list[tuple[int, int]] = []
    for length in range(lines, 0, -1):
        windows += [(start, start + length) for start in range(lines - length + 1)]
        if len(windows) >= _MAX_PARSES:
            break
    return windows


def _length(lines: list[str]) -> int:
    return sum(bool(line.strip()) for line in lines)


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _reachable(entry_point: str, named: dict[str, ast.stmt]) -> set[str]:
    """The top-level names that the entry point uses, directly or not, itself included."""
    found: set[str] = set()
    waiting = [entry_point] if entry_point in named else []
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        used = (part.id for part in ast.walk(named[name]) if isinstance(part, ast.Name))
        waiting += [other for other in used if other in named]
    return found
