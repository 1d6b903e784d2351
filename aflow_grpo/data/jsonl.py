"""Problems on disk: one JSON object per line, in the fields of `records.Problem`.

Reading is strict, because a row that is quietly wrong becomes a wrong reward: every complaint is a
`DataError` that names file, line and field. What a file may look like (gzip, CRLF, ...) is decided
in `rows.py`; other datasets' own formats are read in `readers/`.
"""

from __future__ import annotations

import dataclasses
import difflib
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aflow_grpo.data.readers.python_tests import parsed
from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items, shown
from aflow_grpo.records import DOMAINS, Problem, to_dict

__all__ = ["question_of", "read_problems", "write_problems"]

_KNOWN = {f.name: f for f in dataclasses.fields(Problem)}
_REQUIRED = [f.name for f in dataclasses.fields(Problem) if f.default is dataclasses.MISSING]
_LISTS = ("alternatives", "public_tests", "hidden_tests")


def read_problems(path: str | Path, skipped: list[BadRow] | None = None) -> list[Problem]:
    """The problems of a unified JSONL file, `.gz` accepted, in the file's order.

    Args:
        path: The file, see `rows.read_items`; docs/data.md says what the fields mean.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: The file is missing, empty or not JSON; a field is missing, unknown or of the
            wrong type; a domain is unknown; a test is not Python; an id occurs twice.
    """
    return problems_from(read_items(path), lambda row, _: _problem(row), skipped)


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Writes problems as JSONL, byte for byte the same everywhere; `.gz` compresses.

    Fields that hold their default are left out.
    """
    text = "".join(json.dumps(_row(problem), ensure_ascii=False) + "\n" for problem in problems)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    target.write_bytes(gzip.compress(raw, mtime=0) if target.suffix == ".gz" else raw)


def question_of(row: Row) -> Problem:
    """The problem of a row that need not say what is right: to be answered, not to train on.

    Raises:
        RowError: As for any row; for code the entry point is missing.
    """
    return _problem(Row(row.path, row.place, {"answer": "", **row.fields}), needs_gold=False)


def _problem(row: Row, *, needs_gold: bool = True) -> Problem:
    unknown = [name for name in row.fields if name not in _KNOWN]
    if unknown:
        free = [name for name in _KNOWN if name not in row.fields]
        alike = difflib.get_close_matches(unknown[0], free, n=1)
        advice = f"did you mean {alike[0]!r}? Rename it" if alike else "remove it"
        expected = f"only {', '.join(_KNOWN)}"
        raise row.fail(unknown[0], "an unknown field", expected, advice)
    values: dict[str, Any] = {}
    for name in _KNOWN:
        if name not in row.fields and name not in _REQUIRED:
            continue
        if name in _LISTS:
            values[name] = row.texts(name)
        elif name == "difficulty":
            values[name] = _difficulty(row)
        else:
            values[name] = row.text(name, empty=name not in ("id", "dataset", "question"))
    _check_domain(row, values, needs_gold)
    return Problem(**values)


def _difficulty(row: Row) -> int:
    value = row.fields["difficulty"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 3:
        raise row.fail("difficulty", shown(value), "0, 1, 2 or 3")
    return value


def _check_domain(row: Row, values: Mapping[str, Any], needs_gold: bool) -> None:
    domain = values["domain"]
    if domain not in DOMAINS:
        raise row.fail("domain", shown(domain), f"one of {', '.join(DOMAINS)}")
    if domain == "code":
        for name in ("entry_point", "hidden_tests") if needs_gold else ("entry_point",):
            if not values.get(name):
                raise row.fail(name, "nothing", "a value, because the domain is code")
        parsed(row, "test_setup", values.get("test_setup", ""))
        for name in ("public_tests", "hidden_tests"):
            for test in values.get(name, ()):
                parsed(row, name, test)
    elif needs_gold and not values["answer"].strip():
        raise row.fail("answer", "an empty string", f"the gold answer, because it is {domain}")


def _row(problem: Problem) -> dict[str, Any]:
    full = to_dict(problem)
    return {
        name: value
        for name, value in full.items()
        if name in _REQUIRED or getattr(problem, name) != _KNOWN[name].default
    }
