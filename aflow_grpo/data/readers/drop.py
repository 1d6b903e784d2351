"""DROP (Dua et al. 2019): questions that count, compare and subtract over one passage.

As published, an answer is a number, a date or spans, and annotators may have given others; AFlow's
rows are those of OpenAI's simple-evals, where an answer is text already. Several spans become one
text, `A and B`, in the order given: that is how simple-evals writes them, and the scorer compares
whole texts, so another order counts only where an annotator gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from aflow_grpo.data.rows import Row, read_rows, shown, unique_ids
from aflow_grpo.records import Problem

__all__ = ["read_drop"]

_CONTEXT = re.compile(
    r"\s*Passage:(?P<passage>.*)\nQuestion:(?P<question>.*?)(?:\n\s*Answer:\s*)?", re.DOTALL
)
_DATE = ("day", "month", "year")


def read_drop(path: str | Path, split: str) -> list[Problem]:
    """DROP as published, `{passage id: {passage, qa_pairs}}`; or rows with `context`, `ref_text`.

    Args:
        path: The file, see `rows.read_rows`.
        split: Becomes part of the ids: ``drop/<split>/<query_id, id or row>``.

    Raises:
        DataError: A passage, question or answer is missing or malformed.
    """
    rows = list(read_rows(path))
    if len(rows) == 1 and "context" not in rows[0].fields:
        return unique_ids((row, problem) for row, problem in _published(rows[0], split))
    return unique_ids(
        (row, _from_text(row, f"drop/{split}", index)) for index, row in enumerate(rows)
    )


def _published(whole: Row, split: str) -> Iterator[tuple[Row, Problem]]:
    for passage_id, entry in whole.fields.items():
        if not isinstance(entry, dict):
            raise whole.fail(passage_id, shown(entry), "an object with passage and qa_pairs")
        row = Row(whole.path, f"passage {passage_id!r}", entry)
        passage = row.text("passage").strip()
        for pair in row.rows("qa_pairs", "question"):
            golds = _distinct(_golds(pair))
            if not golds:
                raise pair.fail("answer", "no number, date or span", "at least one of them")
            yield (
                pair,
                _problem(
                    f"drop/{split}/{pair.label('query_id')}", pair.text("question"), passage, golds
                ),
            )


def _golds(pair: Row) -> Iterator[str]:
    """The answer's text, then those of the other annotators; empty where they gave none."""
    answer = pair.get("answer", "an object with number, date, spans")
    if not isinstance(answer, dict):
        raise pair.fail("answer", shown(answer), "an object with number, date, spans")
    yield _answer_text(Row(pair.path, f"{pair.place}, answer", answer))
    if "validated_answers" in pair.fields:
        yield from map(_answer_text, pair.rows("validated_answers", "validated answer"))


def _answer_text(answer: Row) -> str:
    number = answer.fields.get("number", "")
    if isinstance(number, bool) or not isinstance(number, str | int | float):
        raise answer.fail("number", shown(number), "a number or its text")
    if str(number).strip():
        return str(number).strip()
    spans = answer.texts("spans") if "spans" in answer.fields else ()
    if any(span.strip() for span in spans):
        return " and ".join(span.strip() for span in spans if span.strip())
    date = answer.fields.get("date", {})
    if not isinstance(date, dict):
        raise answer.fail("date", shown(date), "an object with day, month, year")
    parts = Row(answer.path, f"{answer.place}, date", date)
    texts = (parts.text(name, empty=True).strip() for name in _DATE if name in date)
    return " ".join(text for text in texts if text)


def _from_text(row: Row, prefix: str, index: int) -> Problem:
    match = _CONTEXT.fullmatch(row.text("context").replace("\r\n", "\n"))
    passage, question = (match["passage"], match["question"]) if match else ("", "")
    if not passage.strip() or not question.strip():
        found = shown(row.fields["context"])
        raise row.fail("context", found, "'Passage: ...\\nQuestion: ...\\nAnswer:'")
    golds = _distinct([row.text("completion"), *row.text("ref_text").split("|")])
    name = row.label("id") if "id" in row.fields else index
    return _problem(f"{prefix}/{name}", question, passage, golds)


def _distinct(golds: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(gold.strip() for gold in golds if gold.strip()))


def _problem(problem_id: str, question: str, passage: str, golds: list[str]) -> Problem:
    return Problem(
        id=problem_id,
        dataset="drop",
        domain="qa",
        question=question.strip(),
        answer=golds[0],
        alternatives=tuple(golds[1:]),
        context=passage.strip(),
    )
