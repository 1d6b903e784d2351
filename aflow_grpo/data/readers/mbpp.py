"""MBPP (Austin et al. 2021): short functions, in full, sanitised, and in AFlow's format.

One test is shown to the workflow, the others are hidden; challenge tests are not used, as in the
published protocol. Where a row does not say so, the entry point is the function of the reference
code that the tests call, and the question names its signature: nobody could guess either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path

from aflow_grpo.data.readers.python_tests import (
    defined,
    names_in,
    parsed,
    read_public_tests,
    signature,
)
from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items, shown
from aflow_grpo.records import Problem

__all__ = ["read_mbpp"]


def read_mbpp(
    path: str | Path,
    split: str,
    public_tests: str | Path = "",
    skipped: list[BadRow] | None = None,
) -> list[Problem]:
    """MBPP rows: `task_id`, `code`, `test_list` and `text` (full) or `prompt` (sanitised, AFlow).

    Args:
        path: The file, see `rows.read_items`.
        split: Becomes part of the ids: ``mbpp/<split>/<task_id>``.
        public_tests: AFlow's public tests (`entry_point`, `test`). Entry points repeat over tasks,
            so a public test counts only if the row has it too. Without one, the row's first test
            is public. A bad row of that file always stops.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A row is malformed or no test calls a function of its reference code.
    """
    public = read_public_tests(public_tests) if public_tests else {}
    return problems_from(read_items(path), lambda row, _: _problem(row, split, public), skipped)


def _problem(row: Row, split: str, public: dict[str, list[str]]) -> Problem:
    task_id = row.get("task_id", "a whole number")
    if isinstance(task_id, bool) or not isinstance(task_id, int):
        raise row.fail("task_id", shown(task_id), "a whole number")
    code = row.text("code").replace("\r\n", "\n")
    tree = parsed(row, "code", code)
    tests = [test.strip() for test in row.texts("test_list") if test.strip()]
    if not tests:
        raise row.fail("test_list", "no test", "one assert statement or more")
    entry_point = _entry_point(row, tests, tree)
    shown_tests, hidden = _split_tests(row, tests, public.get(entry_point, []))
    text = row.text("prompt" if "prompt" in row.fields else "text").strip()
    if "entry_point" not in row.fields:
        text = _question(text, signature(defined(tree)[entry_point]), shown_tests)
    return Problem(
        id=f"mbpp/{split}/{task_id}",
        dataset="mbpp",
        domain="code",
        question=text,
        answer=code,
        entry_point=entry_point,
        test_setup=_setup(row, tree),
        public_tests=shown_tests,
        hidden_tests=hidden,
    )


def _entry_point(row: Row, tests: Sequence[str], code: ast.Module) -> str:
    functions = defined(code)
    if "entry_point" in row.fields:
        name = row.text("entry_point")
        if name not in functions:
            names = ", ".join(sorted(functions)) or "it has none"
            raise row.fail("entry_point", shown(name), f"a function of `code` ({names})")
        return name
    for test in tests:
        for node in ast.walk(parsed(row, "test_list", test)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in functions:
                return called.id
    expected = f"a call of a function of `code` ({', '.join(sorted(functions)) or 'it has none'})"
    raise row.fail("test_list", repr(tests[0]), expected)


def _split_tests(
    row: Row, tests: Sequence[str], public: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(public, hidden), disjoint; a row with one test hides it and shows none."""
    normal = {test: ast.unparse(parsed(row, "test_list", test)) for test in tests}
    wanted = set(public)
    shown_tests = [test for test in tests if normal[test] in wanted] or list(tests[:1])
    hidden = [test for test in tests if test not in shown_tests]
    if not hidden:
        shown_tests, hidden = shown_tests[:-1], shown_tests[-1:]
    return tuple(shown_tests), tuple(hidden)


def _question(text: str, written: str, public: Sequence[str]) -> str:
    example = f"; it must satisfy: {public[0]}" if public else "."
    return f"{text}\n\nYour function is `{written}`{example}"


def _setup(row: Row, code: ast.Module) -> str:
    """The row's imports or setup code, after the reference's classes that it builds objects of."""
    if "test_imports" in row.fields:
        return "\n".join(row.texts("test_imports"))
    if "test_setup_code" not in row.fields:
        return ""
    setup = row.text("test_setup_code", empty=True).replace("\r\n", "\n").strip()
    names = names_in(parsed(row, "test_setup_code", setup))
    classes = [n for n in code.body if isinstance(n, ast.ClassDef) and n.name in names]
    return "\n".join([*(ast.unparse(node) for node in classes), setup]).strip()
