"""The rows that `aflow-grpo score` reads and writes.

A row has `dataset` and the output: `prediction`, or `answer` where there is no `prediction`. Its
gold answer is in `expected_output`, `gold`, or `answer` beside a `prediction`; `alternatives` are
further accepted ones. A code row has `entry_point` and `hidden_tests`, or is looked up in
`--problems` by `problem_id`, or by its question. `score`, if any, is the label.

Not covered: what is right (`scoring`).
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aflow_grpo.data.rows import Row, read_rows, shown
from aflow_grpo.records import DOMAINS, Domain, Problem, Score

__all__ = ["JudgedRow", "ProblemBook", "read_recorded", "write_judged"]

_DOMAIN_OF: Mapping[str, Domain] = {
    "gsm8k": "math",
    "math": "math",
    "mbpp": "code",
    "humaneval": "code",
    "hotpotqa": "qa",
    "drop": "qa",
}
_SCORE_FIELDS = ("new_score", "new_correct", "new_detail", "new_measures")
_UNJUDGED = Score(0.0, False, "not judged")
_MIN_TAIL_CHARS = 20
"""A question this short is no proof that two problems are one."""


@dataclass(frozen=True)
class JudgedRow:
    """One recorded output with its problem, and its score once it has one."""

    place: str
    """Where in the file, e.g. `line 3`."""
    fields: Mapping[str, Any]
    """The row as it was read."""
    name: str
    """The dataset, in lower case."""
    problem: Problem
    answer: str | None
    label: float | None
    """The score that the row came with."""
    score: Score

    def scored(self, score: Score) -> JudgedRow:
        """This row with a score."""
        return replace(self, score=score)


class ProblemBook:
    """Finds the problem of a recorded row.

    Args:
        problems: Every problem that may be asked for.
        questions: A JSONL file of `problem_id` and `question`, or None: recorded ids may be
            others than the problems' own, the question is then what they share.
    """

    def __init__(self, problems: Iterable[Problem], questions: Path | None = None) -> None:
        self._problems = {problem.id: problem for problem in problems}
        self._texts = {_squeezed(p.question): p for p in self._problems.values()}
        rows = read_rows(questions) if questions is not None else ()
        self._questions = {row.label("problem_id"): row.text("question") for row in rows}

    def question(self, row: Row) -> str:
        """The row's question, its own or by its id; empty when nobody knows."""
        if "question" in row.fields:
            return row.text("question", empty=True)
        name = row.label("problem_id") if "problem_id" in row.fields else ""
        return self._questions.get(name, "")

    def find(self, row: Row) -> Problem:
        """The problem that the row answers.

        Raises:
            DataError: No problem has its id or its question.
        """
        name = row.label("problem_id") if "problem_id" in row.fields else ""
        text = _squeezed(self.question(row))
        problem = self._problems.get(name) or self._texts.get(text)
        if problem is None and len(text) >= _MIN_TAIL_CHARS:
            # A reader may put a task before the published prompt.
            found = [p for known, p in self._texts.items() if known.endswith(text)]
            problem = found[0] if len(found) == 1 else None
        if problem is None:
            raise row.fail(
                "problem_id",
                f"{name!r}, which none of {len(self._problems)} problems has",
                "the id or the question of a problem, or entry_point and hidden_tests in the row",
                "name the problems' file with --problems, and --questions where ids differ",
            )
        return problem


def read_recorded(
    path: str | Path, book: ProblemBook, own: frozenset[str] = frozenset()
) -> list[JudgedRow]:
    """The rows of a file of recorded outputs.

    Args:
        path: JSONL, `.gz` accepted.
        book: Finds problems and questions.
        own: Datasets with a scorer of the user's own, in lower case: these need no `domain`.

    Raises:
        DataError: Names file, line and field.
    """
    return [_recorded(row, book, own) for row in read_rows(path)]


def write_judged(path: Path, rows: Iterable[JudgedRow]) -> None:
    """Writes the rows as JSONL with `new_score`, `new_correct`, `new_detail`, `new_measures`."""
    lines = []
    for row in rows:
        score = row.score
        values = (score.value, score.correct, score.detail, dict(score.measures))
        new = dict(zip(_SCORE_FIELDS, values, strict=True))
        lines.append(json.dumps({**row.fields, **new}, ensure_ascii=False) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = "".join(lines).encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def _recorded(row: Row, book: ProblemBook, own: frozenset[str]) -> JudgedRow:
    name = row.text("dataset").strip().lower()
    domain = _domain(row, name, own)
    field = "prediction" if "prediction" in row.fields else "answer"
    answer = _answer(row, field)
    if domain == "code" and "hidden_tests" not in row.fields:
        found = book.find(row)
        problem = replace(found, dataset=name)
    else:
        problem = _problem(row, name, domain, book, gold=_gold(row, domain, field))
    return JudgedRow(row.place, row.fields, name, problem, answer, _label(row), _UNJUDGED)


def _domain(row: Row, name: str, own: frozenset[str]) -> Domain:
    if name in _DOMAIN_OF:
        return _DOMAIN_OF[name]
    if "domain" not in row.fields:
        if name in own:
            return "qa"
        known = ", ".join(_DOMAIN_OF)
        raise row.fail(
            "domain", "no such field", f"math, code or qa, since {name!r} is not {known}"
        )
    value = row.text("domain")
    for domain in DOMAINS:
        if value == domain:
            return domain
    raise row.fail("domain", shown(value), f"one of {', '.join(DOMAINS)}")


def _answer(row: Row, field: str) -> str | None:
    """The output as text; None (JSON's null) is no answer."""
    value = row.get(field, "the output: a string")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else str(value)
    return row.text(field, empty=True)


def _gold(row: Row, domain: Domain, output: str) -> str:
    names = [n for n in ("expected_output", "gold", "answer") if n in row.fields and n != output]
    if not names:
        if domain == "code":
            return ""
        raise row.fail("gold", "no such field", "the accepted answer, as expected_output or gold")
    value = row.fields[names[0]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return row.text(names[0], empty=domain == "code")


def _problem(row: Row, name: str, domain: Domain, book: ProblemBook, gold: str) -> Problem:
    question = book.question(row)
    if name == "drop":
        question = question.rpartition("Question:")[2].strip()
    code = domain == "code"
    problem_id = row.label("problem_id") if "problem_id" in row.fields else row.place
    tests = {n: row.texts(n) for n in ("hidden_tests", "public_tests") if code and n in row.fields}
    if code and not tests.get("hidden_tests"):
        raise row.fail("hidden_tests", "an empty list", "one assert statement or more")
    return Problem(
        problem_id,
        name,
        domain,
        question,
        gold,
        alternatives=row.texts("alternatives") if "alternatives" in row.fields else (),
        entry_point=row.text("entry_point") if code else "",
        test_setup=row.text("test_setup", empty=True) if "test_setup" in row.fields else "",
        hidden_tests=tests.get("hidden_tests", ()),
        public_tests=tests.get("public_tests", ()),
    )


def _label(row: Row) -> float | None:
    value = row.fields.get("score")
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise row.fail("score", shown(value), "the label, a number in [0, 1], true or false")
    return float(value)


def _squeezed(text: str) -> str:
    return "".join(text.split())
