"""DROP (Dua et al. 2019): questions that count, compare and subtract over one passage.

As published, an answer is a number, a date or spans, and annotators may have given others; AFlow's
rows are those of OpenAI's simple-evals, where an answer is text already. Several spans become one
text, `A and B`, in the order given: that is how simple-evals writes them.

The hub's rows (`ucinlp/drop`, made by its script drop.py) say less than the published file:
`answers_spans` is one flat list. In the training file it holds one annotator's answer, so several
spans are its parts; in the validation file it holds the answers of all validators one after the
other, without a mark between them. A number or a date is always a whole answer, so one that stands
beside another entry gives the validation file away. There, different spans are

* wordings of one answer, each accepted, where the words of each pair are nested (`the Bears`,
  `Bears`);
* the parts of one answer, where the list is the same parts several times over (`A, B, B, A`);
* otherwise not to be told apart, so the row is bad: a guess would reward half an answer or refuse a
  whole one. The published file (drop_dataset_dev.json) has the boundaries.

Not covered: a hub file cut down to rows with spans alone, which is taken for a training file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from aflow_grpo.data.rows import BadRow, Row, RowError, expand, problems_from, read_items, shown
from aflow_grpo.records import Problem

__all__ = ["read_drop"]

_CONTEXT = re.compile(
    r"\s*Passage:(?P<passage>.*)\nQuestion:(?P<question>.*?)(?:\n\s*Answer:\s*)?", re.DOTALL
)
_DATE = ("day", "month", "year")
_TYPES = ("number", "date", "span")
_ANSWER = "an object with number, date, spans"


def read_drop(path: str | Path, split: str, skipped: list[BadRow] | None = None) -> list[Problem]:
    """DROP as published, `{passage id: {passage, qa_pairs}}`; or rows of the hub or of AFlow.

    Args:
        path: The file, see `rows.read_items`. The hub's rows have `query_id`, `passage`,
            `question`, `answers_spans`; AFlow's have `context`, `completion`, `ref_text`.
        split: Becomes part of the ids: ``drop/<split>/<query_id, id or row>``.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A passage, question or answer is missing or malformed.
    """
    items = list(read_items(path))
    prefix = f"drop/{split}"
    if len(items) == 1 and isinstance(items[0], Row) and _is_published(items[0]):
        pairs = expand(expand(items, _passages), _questions)
        return problems_from(pairs, lambda row, _: _published(row, prefix), skipped)
    many = any(isinstance(item, Row) and _of_many(item) for item in items)

    def problem(row: Row, index: int) -> Problem:
        if "answers_spans" in row.fields or "query_id" in row.fields:
            return _from_hub(row, prefix, of_many=many)
        return _from_text(row, prefix, index)

    return problems_from(items, problem, skipped)


def _is_published(row: Row) -> bool:
    return not row.fields.keys() & {"context", "answers_spans", "query_id"}


def _passages(whole: Row) -> Iterator[Row | RowError]:
    for passage_id, entry in whole.fields.items():
        if isinstance(entry, dict):
            yield Row(whole.path, f"passage {passage_id!r}", entry)
        else:
            yield whole.fail(passage_id, shown(entry), "an object with passage and qa_pairs")


def _questions(passage: Row) -> Iterator[Row]:
    text = passage.text("passage")
    for pair in passage.rows("qa_pairs", "question"):
        yield Row(pair.path, pair.place, {**pair.fields, "passage": text})


def _published(pair: Row, prefix: str) -> Problem:
    golds = _distinct(_golds(pair))
    if not golds:
        raise pair.fail("answer", "no number, date or span", "at least one of them")
    name = pair.label("query_id")
    return _problem(f"{prefix}/{name}", pair.text("question"), pair.text("passage"), golds)


def _golds(pair: Row) -> Iterator[str]:
    """The answer's text, then those of the other annotators; empty where they gave none."""
    yield _answer_text(pair.inner("answer", _ANSWER))
    if "validated_answers" in pair.fields:
        yield from map(_answer_text, pair.rows("validated_answers", "validated answer"))


def _answer_text(answer: Row) -> str:
    number = answer.fields.get("number", "")
    if isinstance(number, bool) or not isinstance(number, str | int | float):
        raise answer.fail("number", shown(number), "a number or its text")
    if isinstance(number, float) and not math.isfinite(number):
        raise answer.fail("number", shown(number), "a number or its text")
    text = answer.text("number") if isinstance(number, str) and number.strip() else str(number)
    if text.strip():
        return text.strip()
    spans = answer.texts("spans") if "spans" in answer.fields else ()
    if any(span.strip() for span in spans):
        return _joined(spans)
    if "date" not in answer.fields:
        return ""
    parts = answer.inner("date", "an object with day, month, year")
    texts = (parts.text(name, empty=True).strip() for name in _DATE if name in parts.fields)
    return " ".join(text for text in texts if text)


def _of_many(row: Row) -> bool:
    """Whether a hub row surely holds several annotators' answers."""
    value = row.fields.get("answers_spans")
    types = value.get("types") if isinstance(value, dict) else None
    return isinstance(types, list) and len(types) > 1 and ("number" in types or "date" in types)


def _from_hub(row: Row, prefix: str, *, of_many: bool) -> Problem:
    answers = row.inner("answers_spans", "an object with the lists spans and types")
    spans = [span.strip() for span in answers.texts("spans")]
    types = answers.texts("types")
    if len(spans) != len(types):
        raise answers.fail("types", f"{len(types)} types for {len(spans)} spans", "as many")
    for kind in types:
        if kind not in _TYPES:
            raise answers.fail("types", shown(kind), f"only {', '.join(_TYPES)}")
    entries = [(span, kind) for span, kind in zip(spans, types, strict=True) if span]
    if not entries:
        raise answers.fail("spans", "no text", "the answer, at least one")
    whole = [span for span, kind in entries if kind != "span"]
    texts = [span for span, kind in entries if kind == "span"]
    golds = _distinct([*whole, *_span_golds(answers, texts, of_many=of_many)])
    name = row.label("query_id")
    return _problem(f"{prefix}/{name}", row.text("question"), row.text("passage"), golds)


def _span_golds(row: Row, texts: Sequence[str], *, of_many: bool) -> Sequence[str]:
    """The accepted answers that a flat list of spans holds; see the module's docstring."""
    distinct = _distinct(texts)
    if len(distinct) < 2:
        return distinct
    if not of_many and len(distinct) == len(texts):
        return [_joined(texts)]
    size = len(distinct)
    blocks = [texts[start : start + size] for start in range(0, len(texts), size)]
    if _nested(distinct):
        return distinct
    if len(blocks) > 1 and all(sorted(block) == sorted(distinct) for block in blocks):
        return [_joined(block) for block in blocks]
    raise row.fail(
        "spans",
        f"{len(texts)} spans of several annotators, which do not say where one's answer ends "
        f"({shown(list(texts))})",
        "one answer, or wordings of one",
        "use the published drop_dataset_dev.json, which says so, or on_bad_row: skip",
    )


def _nested(texts: Sequence[str]) -> bool:
    """Whether of each two texts one has all words of the other, articles apart."""
    words = [set(re.findall(r"\w+", text.lower())) - {"a", "an", "the"} for text in texts]
    return all(one and two and (one <= two or two <= one) for one, two in combinations(words, 2))


def _from_text(row: Row, prefix: str, index: int) -> Problem:
    match = _CONTEXT.fullmatch(row.text("context").replace("\r\n", "\n"))
    passage, question = (match["passage"], match["question"]) if match else ("", "")
    if not passage.strip() or not question.strip():
        found = shown(row.fields["context"])
        raise row.fail("context", found, "'Passage: ...\\nQuestion: ...\\nAnswer:'")
    golds = _distinct([row.text("completion"), *row.text("ref_text").split("|")])
    name = row.label("id") if "id" in row.fields else index
    return _problem(f"{prefix}/{name}", question, passage, golds)


def _joined(spans: Iterable[str]) -> str:
    return " and ".join(span.strip() for span in spans if span.strip())


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
