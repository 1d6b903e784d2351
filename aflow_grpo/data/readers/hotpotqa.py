"""HotpotQA (Yang et al. 2018): questions over two of about ten given paragraphs.

Supporting facts and the kind of question are not kept. Paragraphs keep their order and titles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items, shown
from aflow_grpo.records import Problem

__all__ = ["read_hotpotqa"]

_DIFFICULTY = {"easy": 1, "medium": 2, "hard": 3}


def read_hotpotqa(
    path: str | Path, split: str, skipped: list[BadRow] | None = None
) -> list[Problem]:
    """HotpotQA rows: `_id` (or `id`), `question`, `answer`, `context`, as published or by AFlow.

    Args:
        path: The file (an array as published, or JSONL), see `rows.read_items`. `context` is a list
            of [title, sentences], or Hugging Face's `{"title": [...], "sentences": [...]}`.
        split: Becomes part of the ids: ``hotpotqa/<split>/<_id>``.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A row is malformed, e.g. without an answer, as in the published test set.
    """
    return problems_from(read_items(path), lambda row, _: _problem(row, split), skipped)


def _problem(row: Row, split: str) -> Problem:
    name = row.label("_id" if "_id" in row.fields or "id" not in row.fields else "id")
    level = row.fields.get("level")
    return Problem(
        id=f"hotpotqa/{split}/{name}",
        dataset="hotpotqa",
        domain="qa",
        question=row.text("question").strip(),
        answer=row.text("answer").strip(),
        context=_context(row),
        difficulty=_DIFFICULTY.get(level, 0) if isinstance(level, str) else 0,
    )


def _context(row: Row) -> str:
    """Each paragraph under its title, an empty line between two."""
    paragraphs = []
    for title, sentences in _paragraphs(row):
        entry = Row(row.path, row.place, {"context": [title, *sentences]})
        entry.texts("context")
        text = "".join(s if s[:1].isspace() else f" {s}" for s in sentences).strip()
        if text:
            paragraphs.append(f"{title.strip()}\n{text}")
    return "\n\n".join(paragraphs)


def _paragraphs(row: Row) -> list[tuple[str, list[str]]]:
    expected = "pairs of a title and a list of sentences"
    value = row.get("context", expected)
    pairs: list[Any] = value if isinstance(value, list) else []
    if isinstance(value, dict):
        titles, sentences = value.get("title"), value.get("sentences")
        if not isinstance(titles, list) or not isinstance(sentences, list):
            raise row.fail("context", shown(value), f"{expected}, or lists title and sentences")
        if len(titles) != len(sentences):
            found = f"{len(titles)} titles for {len(sentences)} lists of sentences"
            raise row.fail("context", found, "as many")
        pairs = [list(pair) for pair in zip(titles, sentences, strict=True)]
    elif not isinstance(value, list):
        raise row.fail("context", shown(value), expected)
    for pair in pairs:
        whole = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], list)
        if not whole:
            raise row.fail("context", f"an entry {shown(pair)}", expected)
    return [(title, sentences) for title, sentences in pairs]
