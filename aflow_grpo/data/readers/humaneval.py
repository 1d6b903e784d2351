"""HumanEval (Chen et al. 2021): functions to complete, judged by a `check(candidate)` function.

Every `assert` of `check` becomes a hidden test of its own; those that need loops, variables or
helpers stay one test of several statements. Asserts that do not concern the candidate (`assert
True`) are dropped. Public tests are AFlow's, or else the docstring's `>>>` examples; `check`
repeats some of them, as published.

Not covered: docstring examples in other notations; a `check` that looks at more than answers.
"""

from __future__ import annotations

import ast
import doctest
from collections.abc import Sequence
from pathlib import Path

from aflow_grpo.data.readers.python_tests import (
    defined,
    names_in,
    parsed,
    read_public_tests,
    renamed,
)
from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items
from aflow_grpo.records import Problem

__all__ = ["read_humaneval"]

_CHECK = "check"
_TASK = "Complete the following function. Give the whole program, imports and helpers included."


def read_humaneval(
    path: str | Path,
    split: str,
    public_tests: str | Path = "",
    skipped: list[BadRow] | None = None,
) -> list[Problem]:
    """HumanEval rows: `task_id`, `prompt`, `entry_point`, `canonical_solution`, `test`.

    Args:
        path: The file, see `rows.read_items`; AFlow's rows have the published fields.
        split: Becomes part of the ids: ``humaneval/<split>/<number>``.
        public_tests: AFlow's public tests (`problem_id`, `entry_point`, `test`); a bad row of
            that file always stops.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A row is malformed, its solution does not define the entry point, or no test
            calls it.
    """
    public = read_public_tests(public_tests) if public_tests else {}
    return problems_from(read_items(path), lambda row, _: _problem(row, split, public), skipped)


def _problem(row: Row, split: str, public: dict[str, list[str]]) -> Problem:
    task_id, entry_point = row.text("task_id"), row.text("entry_point")
    prompt = row.text("prompt").replace("\r\n", "\n")
    answer = prompt + row.text("canonical_solution").replace("\r\n", "\n")
    tree = parsed(row, "canonical_solution", answer)
    functions = defined(tree)
    if entry_point not in functions:
        names = ", ".join(functions) or "none"
        raise row.fail("entry_point", repr(entry_point), f"a function of the prompt ({names})")
    helpers = _helpers(tree, entry_point, last_line=prompt.count("\n"))
    setup = "\n".join(map(_unless_defined, helpers))
    hidden = _hidden_tests(row, entry_point, helpers)
    shown = public.get(task_id, public.get(entry_point))
    if shown is None:
        shown = _docstring_tests(functions[entry_point], hidden)
    return Problem(
        id=f"humaneval/{split}/{task_id.removeprefix('HumanEval/')}",
        dataset="humaneval",
        domain="code",
        question=f"{_TASK}\n\n{prompt.strip()}",
        answer=answer,
        entry_point=entry_point,
        test_setup=setup,
        public_tests=tuple(shown),
        hidden_tests=hidden,
    )


def _helpers(tree: ast.Module, entry_point: str, *, last_line: int) -> list[ast.stmt]:
    """What the prompt gives besides the function: imports, functions, constants."""
    return [
        node
        for node in tree.body
        if node.lineno <= last_line
        and not _is_text(node)
        and not (isinstance(node, ast.FunctionDef) and node.name == entry_point)
    ]


def _unless_defined(node: ast.stmt) -> str:
    """The helper's code, for after the candidate: one that has its own keeps it."""
    names = _bound(node)
    if isinstance(node, ast.Import | ast.ImportFrom) or not names:
        return ast.unparse(node)
    missing = ast.ExceptHandler(ast.Name("NameError", ast.Load()), None, [node])
    known: list[ast.stmt] = [ast.Expr(ast.Name(sorted(names)[0], ast.Load()))]
    return ast.unparse(ast.fix_missing_locations(ast.Try(known, [missing], [], [])))


def _hidden_tests(row: Row, entry_point: str, helpers: list[ast.stmt]) -> tuple[str, ...]:
    module = parsed(row, "test", row.text("test").replace("\r\n", "\n"))
    check = defined(module).get(_CHECK)
    if check is None or len(check.args.args) != 1:
        raise row.fail("test", "no function check(candidate)", "one that holds the asserts")
    candidate = check.args.args[0].arg
    around = [n for n in module.body if n is not check and _bound(n) != {"METADATA"}]
    # An assert stands alone unless it needs names that other statements or helpers bind: beside
    # the candidate, a helper that the candidate redefined would decide about it.
    others = set().union(*map(_bound, [*helpers, *around, *check.body])) - {entry_point, candidate}
    own = {candidate, entry_point}
    alone, together = [], []
    for node in check.body:
        if not isinstance(node, ast.Assert) or names_in(node) & others:
            together.append(node)
        elif names_in(node.test) & own:
            alone.append(renamed(ast.Assert(node.test, None), candidate, entry_point))
    check.body = together or [ast.Pass()]
    rest = ast.Module([*around, check], [])
    asserts = any(
        isinstance(part, ast.Assert) for node in [*around, check] for part in ast.walk(node)
    )
    if asserts and names_in(check) & own:
        alone.append(f"{ast.unparse(rest)}\n{_CHECK}({entry_point})")
    if not alone:
        raise row.fail("test", "no assert that calls the candidate", "one or more")
    return tuple(alone)


def _docstring_tests(function: ast.FunctionDef, hidden: Sequence[str]) -> list[str]:
    """The docstring's `>>> f(1)` examples with a literal result, as asserts.

    Not those that `hidden` contradicts: HumanEval/47 has a wrong example.
    """
    tests = []
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function) or "")
    except ValueError:  # examples that only look like some
        return []
    for example in examples:
        try:
            call = ast.parse(example.source.strip(), mode="eval").body
            wanted = repr(ast.literal_eval(example.want.strip()))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            continue
        if not isinstance(call, ast.Call) or function.name not in names_in(call.func):
            continue
        asked = f"assert {ast.unparse(call)} == "
        decided = {test for test in hidden if test.startswith(asked)}
        if not decided or asked + wanted in decided:
            tests.append(asked + wanted)
    return tests


def _bound(node: ast.stmt) -> set[str]:
    """Names that a statement binds, at any depth."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).partition(".")[0])
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return names


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
