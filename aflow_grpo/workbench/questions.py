"""Problems as a person asks them: one by its text, many from a file; a gold answer is not needed.

A file has the fields of `docs/data.md`, of which only the question has to be there (for code also
the entry point), and the names that other programs use for them. Every complaint names file and
line. Not here: problems to train on, which need all fields (`data`).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aflow_grpo.data.jsonl import question_of
from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items
from aflow_grpo.data.sources import DataSource, Split, load_source
from aflow_grpo.errors import ConfigError
from aflow_grpo.records import DOMAINS, Domain, Problem

__all__ = ["ALIASES", "DATASET", "load_problems", "make_problem", "read_questions"]

DATASET = "asked"
"""Of problems that say none."""
ALIASES: Mapping[str, str] = {
    "problem": "question",
    "prompt": "question",
    "problem_type": "domain",
    "ground_truth": "answer",
    "gold": "answer",
    "tests": "hidden_tests",
}
"""Other names of a row's fields -> ours."""


def make_problem(
    question: str,
    domain: str = "math",
    *,
    gold: str = "",
    context: str = "",
    entry_point: str = "",
    public_tests: Sequence[str] = (),
) -> Problem:
    """A problem that somebody asks.

    Args:
        question: All of it, but for a context.
        domain: ``math``, ``code`` or ``qa``.
        gold: The right answer, if it is known; for code assert statements, before them what they
            need (imports), or a right program.
        context: The passages that the question is about (qa).
        entry_point: Name of the function to write (code).
        public_tests: Assert statements that the workflow may see and run (code).

    Raises:
        ConfigError: The domain is unknown, the question empty, or what code needs is missing.
    """
    if domain not in DOMAINS:
        raise ConfigError(f"--domain={domain}: expected one of {', '.join(DOMAINS)}.")
    if not question.strip():
        raise ConfigError("--problem is empty: expected the text of a problem.")
    known: Domain = domain
    digest = hashlib.sha256("\0".join((known, context, question)).encode(errors="replace"))
    problem = Problem(
        f"{DATASET}/{digest.hexdigest()[:12]}", DATASET, known, question, gold, context=context
    )
    if known != "code":
        for key, value in (("entry_point", entry_point), ("public_tests", public_tests)):
            if value:
                raise ConfigError(f"--{key} is for --domain code, and the domain is {known}.")
        return problem
    if not entry_point.isidentifier():
        raise ConfigError(
            f"--entry_point={entry_point!r}: expected the name of the function to write, because "
            "the domain is code."
        )
    setup, hidden = _tests("gold", gold)
    program = f"def {entry_point}(" in setup
    seen = [test for text in public_tests for test in _tests("public_tests", text)[1]]
    return replace(
        problem,
        answer=setup if program else "",
        entry_point=entry_point,
        test_setup="" if program else setup,
        hidden_tests=hidden,
        public_tests=tuple(seen),
    )


def _tests(option: str, text: str) -> tuple[str, tuple[str, ...]]:
    """What comes before the assert statements, and these."""
    if not text.strip():
        return "", ()
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"--{option}: not Python ({error}). {_asserts(option)}") from None
    tests = tuple(ast.unparse(node) for node in body if isinstance(node, ast.Assert))
    if not tests:
        raise ConfigError(f"--{option}: no assert statement in it. {_asserts(option)}")
    setup = [ast.unparse(node) for node in body if not isinstance(node, ast.Assert)]
    return "\n".join(setup), tests


def _asserts(option: str) -> str:
    return f'For code expected tests, e.g. --{option} "assert add(1, 2) == 3".'


def read_questions(
    path: str | Path, skipped: list[BadRow], *, domain: str | None = None
) -> list[Problem]:
    """The problems of a file, in its order.

    Args:
        path: JSONL, JSON or Parquet; see `data.rows.read_items`.
        skipped: Where bad rows are noted.
        domain: Of rows that say none.

    Raises:
        DataError: The file is missing or unreadable, or every row is bad.
    """
    name = Path(path).name

    def make(row: Row, index: int) -> Problem:
        fields = _renamed(row)
        fields.setdefault("id", f"{name}/{index + 1}")
        fields.setdefault("dataset", DATASET)
        if domain is not None:
            fields.setdefault("domain", domain)
        elif "domain" not in fields:
            raise row.fail("domain", "no such field", "math, code or qa", "add it, or --domain")
        if isinstance(fields["id"], int) and not isinstance(fields["id"], bool):
            fields["id"] = str(fields["id"])
        return question_of(Row(row.path, row.place, fields))

    return problems_from(read_items(path), make, skipped)


def _renamed(row: Row) -> dict[str, Any]:
    """The row's fields by our names; null is a field that is missing."""
    fields: dict[str, Any] = {}
    for given, value in row.fields.items():
        name = ALIASES.get(given, given)
        if name in fields:
            raise row.fail(given, f"{name!r} a second time", "each field once")
        if value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fields[name] = str(value) if name == "answer" and number else value
    return fields


def load_problems(source: str | Path | DataSource, split: Split = "train") -> list[Problem]:
    """Problems of a source: ``sample``, a JSONL file in the fields of `docs/data.md`, or a record.

    Args:
        source: As above.
        split: Of ``sample``.

    Raises:
        DataError: The file is missing or a row is malformed.
    """
    if isinstance(source, DataSource):
        return load_source(source)
    if str(source) == "sample":
        return load_source(DataSource("sample", split=split))
    return load_source(DataSource("jsonl", path=str(source)))
