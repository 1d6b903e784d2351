"""GSM8K (Cobbe et al. 2021): school problems whose answer is one number.

The gold answer is the final number without thousands separators; worked solutions are not kept.
"""

from __future__ import annotations

import re
from pathlib import Path

from aflow_grpo.data.rows import BadRow, Row, problems_from, read_items
from aflow_grpo.records import Problem

__all__ = ["read_gsm8k"]

_MARKS = re.compile(r"<<[^<>]*>>")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def read_gsm8k(path: str | Path, split: str, skipped: list[BadRow] | None = None) -> list[Problem]:
    """GSM8K rows: `question`, `answer` ending in ``#### 72``; or AFlow's with `cot` and `id`.

    Args:
        path: The file, see `rows.read_items`.
        split: Becomes part of the ids: ``gsm8k/<split>/<row or id>``.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A row is malformed or its answer holds no final number.
    """
    return problems_from(
        read_items(path), lambda row, index: _problem(row, f"gsm8k/{split}", index), skipped
    )


def _problem(row: Row, prefix: str, index: int) -> Problem:
    return Problem(
        id=f"{prefix}/{row.label('id') if 'id' in row.fields else index}",
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
