"""GSM8K and MBPP as published, and in AFlow's format, turned into problems.

Gold answers of GSM8K are the final number without thousands separators; worked solutions are not
kept. MBPP shows one test to the workflow and hides the others; its challenge tests are not used,
as in the published protocol. Which file to read is decided in `sources.py`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from aflow_grpo.data.jsonl import Row, read_rows, unique_ids
from aflow_grpo.records import Problem

__all__ = ["read_gsm8k", "read_mbpp"]

_MARKS = re.compile(r"<<[^<>]*>>")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def read_gsm8k(path: str | Path, split: str) -> list[Problem]:
    """GSM8K rows: `question`, `answer` ending in ``#### 72``; or AFlow's with `cot` and `id`.

    Args:
        path: JSONL, `.gz` accepted.
        split: Becomes part of the ids: ``gsm8k/<split>/<row or id>``.

    Raises:
        DataError: A row is malformed or its answer holds no final number.
    """
    return unique_ids(
        (row, _gsm8k_problem(row, f"gsm8k/{split}/{index}"))
        for index, row in enumerate(read_rows(path))
    )


def read_mbpp(path: str | Path, split: str, public_tests: str | Path = "") -> list[Problem]:
    """MBPP rows: `text`, `code`, `test_list`, ...; or AFlow's with `prompt` and `entry_point`.

    Args:
        path: JSONL, `.gz` accepted.
        split: Becomes part of the ids: ``mbpp/<split>/<task_id>``.
        public_tests: AFlow's public tests (`entry_point`, `test`), for rows in its format. Entry
            points repeat over tasks, so a public test counts only if the row has it too. Without
            one, the row's first test is public.

    Raises:
        DataError: A row is malformed or no test calls a function of its reference code.
    """
    public = _public_tests(public_tests) if public_tests else {}
    return unique_ids((row, _mbpp_problem(row, split, public)) for row in read_rows(path))


def _gsm8k_problem(row: Row, default_id: str) -> Problem:
    prefix = default_id.rpartition("/")[0]
    return Problem(
        id=f"{prefix}/{row.text('id')}" if "id" in row.fields else default_id,
        dataset="gsm8k",
        domain="math",
        question=row.text("question").strip(),
        answer=_final_number(row),
    )


def _final_number(row: Row) -> str:
    answer = _MARKS.sub("", row.text("answer"))
    final = answer.rpartition("####")[2].strip()
    number = final.replace(",", "").replace("$", "").strip()
    if not _NUMBER.fullmatch(number):
        shown = repr(final if len(final) <= 60 else final[:57] + "...")
        raise row.fail("answer", shown, "a number, alone or after '####'")
    return number


def _mbpp_problem(row: Row, split: str, public: dict[str, list[str]]) -> Problem:
    task_id = row.fields.get("task_id")
    if isinstance(task_id, bool) or not isinstance(task_id, int):
        raise row.fail("task_id", repr(task_id), "a whole number")
    code = row.text("code").replace("\r\n", "\n")
    tests = [test.strip() for test in row.texts("test_list") if test.strip()]
    tree = _parsed(row, "code", code)
    if not tests:
        raise row.fail("test_list", "no test", "one assert statement or more")
    if "prompt" in row.fields:
        entry_point = row.text("entry_point")
        question = row.text("prompt").strip()
        setup = "\n".join(row.texts("test_imports"))
        shown, hidden = _split_tests(row, tests, public.get(entry_point, []))
    else:
        entry_point = _entry_point(row, tests[0], tree)
        setup = _setup(row, tree)
        shown, hidden = _split_tests(row, tests, [])
        question = _question(row.text("text"), _signature(tree, entry_point), shown)
    return Problem(
        id=f"mbpp/{split}/{task_id}",
        dataset="mbpp",
        domain="code",
        question=question,
        answer=code,
        entry_point=entry_point,
        test_setup=setup,
        public_tests=shown,
        hidden_tests=hidden,
    )


def _public_tests(path: str | Path) -> dict[str, list[str]]:
    """Entry point -> its public tests, `candidate` replaced by the entry point's name."""
    public: dict[str, list[str]] = {}
    for row in read_rows(path):
        name = row.text("entry_point")
        tests = (re.sub(r"\bcandidate\b", name, test) for test in row.texts("test"))
        public.setdefault(name, []).extend(tests)
    return public


def _split_tests(
    row: Row, tests: Sequence[str], public: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(public, hidden), disjoint; a row with one test hides it and shows none."""
    wanted = {_normal(row, test) for test in public}
    shown = [test for test in tests if _normal(row, test) in wanted] or list(tests[:1])
    hidden = [test for test in tests if test not in shown]
    if not hidden:
        shown, hidden = shown[:-1], shown[-1:]
    return tuple(shown), tuple(hidden)


def _entry_point(row: Row, test: str, code: ast.Module) -> str:
    defined = {node.name for node in code.body if isinstance(node, ast.FunctionDef)}
    calls = [
        node.func.id
        for node in ast.walk(_parsed(row, "test_list", test))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for name in calls:
        if name in defined:
            return name
    raise row.fail(
        "test_list", repr(test), f"a call of a function of `code` ({', '.join(sorted(defined))})"
    )


def _signature(code: ast.Module, name: str) -> str:
    function = next(n for n in code.body if isinstance(n, ast.FunctionDef) and n.name == name)
    return f"{name}({ast.unparse(function.args)})"


def _question(text: str, signature: str, public: Sequence[str]) -> str:
    example = f"; it must satisfy: {public[0]}" if public else "."
    return f"{text.strip()}\n\nYour function is `{signature}`{example}"


def _setup(row: Row, code: ast.Module) -> str:
    """The row's setup code, preceded by the reference's classes that it builds objects of."""
    setup = row.text("test_setup_code", empty=True).replace("\r\n", "\n").strip()
    names = {
        n.id for n in ast.walk(_parsed(row, "test_setup_code", setup)) if isinstance(n, ast.Name)
    }
    classes = [n for n in code.body if isinstance(n, ast.ClassDef) and n.name in names]
    return "\n".join([*(ast.unparse(node) for node in classes), setup]).strip()


def _normal(row: Row, test: str) -> str:
    """The test without differences of layout."""
    return ast.unparse(_parsed(row, "test_list", test))


def _parsed(row: Row, name: str, code: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # Published solutions hold invalid escapes in regular expressions; that is their affair.
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        raise row.fail(name, f"code that does not parse ({error.msg})", "Python 3") from None
