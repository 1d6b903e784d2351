r"""MATH (Hendrycks et al. 2021): competition problems; the gold answer stands in `\boxed{}`.

Published as a folder with one JSON file per problem (`train/algebra/1.json`); others, AFlow among
them, pass it on as JSONL. Worked solutions are not kept, nor is the subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from aflow_grpo.data.parquet import holds_parquet
from aflow_grpo.data.rows import BadRow, Row, RowError, problems_from, read_items, shown
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

__all__ = ["boxed_answer", "read_math"]

_DIFFICULTY = {"1": 1, "2": 1, "3": 2, "4": 3, "5": 3}
"""Digit in `level` -> difficulty; `Level ?` occurs too and means that nobody knows."""
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_UNBRACED = re.compile(r"[^$\n]*?(?=\\[)\]]|[$\n.]|\Z)")


def read_math(path: str | Path, split: str, skipped: list[BadRow] | None = None) -> list[Problem]:
    r"""MATH rows: `problem`, `level`, `solution` (with a `\boxed{}`), in a file or a folder.

    Args:
        path: A file, see `rows.read_items`; or the folder of one split, all `.json` files below it
            in the order of their numbers, or all Parquet shards.
        split: Becomes part of the ids: ``math/<split>/<idx, unique_id or row>``, in a folder
            ``math/<split>/algebra/1``.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        DataError: A row is malformed or its solution boxes nothing; the folder holds no problems,
            or several splits.
    """
    folder = Path(path)
    if not folder.is_dir() or holds_parquet(folder, below=True):
        return problems_from(
            read_items(folder, below=True),
            lambda row, index: _problem(row, f"math/{split}/{_name(row, index)}"),
            skipped,
        )
    return problems_from(
        _rows_below(folder),
        lambda row, _: _problem(
            row, f"math/{split}/{row.path.relative_to(folder).with_suffix('').as_posix()}"
        ),
        skipped,
    )


def boxed_answer(solution: str) -> str | None:
    r"""What the last `\boxed{...}`, `\fbox{...}` or `\boxed 5` holds; None when there is none."""
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        return None
    rest = solution[boxes[-1].end() :]
    if rest.startswith("{"):
        return _braced(rest)
    match = _UNBRACED.match(rest)
    return match[0].strip() or None if match else None


def _braced(text: str) -> str | None:
    r"""The inside of the group that opens `text`; `\{` and `\}` are signs, no braces."""
    depth, position = 0, 0
    while position < len(text):
        sign = text[position]
        if sign == "\\":
            position += 1
        elif sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return text[1:position].strip() or None
        position += 1
    return None


def _rows_below(path: Path) -> Iterator[Row | RowError]:
    if (path / "train").is_dir() and (path / "test").is_dir():
        raise DataError(
            f"{path}: found the folders train and test, expected those of one split; "
            f"give {path / 'train'} or {path / 'test'}"
        )
    files = sorted(path.rglob("*.json"), key=lambda file: _natural(file.relative_to(path)))
    if not files:
        raise DataError(f"{path}: found no .json file below it, expected folders like algebra")
    for file in files:
        yield from read_items(file)


def _natural(path: Path) -> tuple[tuple[str, ...], int, str]:
    """Sorts 2.json before 10.json."""
    return path.parent.parts, int(path.stem) if path.stem.isdecimal() else 0, path.stem


def _name(row: Row, index: int) -> str:
    given = next((name for name in ("idx", "unique_id", "id") if name in row.fields), None)
    return row.label(given) if given else str(index)


def _problem(row: Row, problem_id: str) -> Problem:
    answer = boxed_answer(row.text("solution"))
    if answer is None:
        raise row.fail("solution", r"no whole \boxed{}", r"the gold answer in \boxed{}")
    return Problem(
        id=problem_id,
        dataset="math",
        domain="math",
        question=row.text("problem").strip(),
        answer=" ".join(answer.split()),
        difficulty=_difficulty(row),
    )


def _difficulty(row: Row) -> int:
    if "level" not in row.fields:
        return 0
    level = row.fields["level"]  # MATH-500 has bare numbers
    if isinstance(level, bool) or not isinstance(level, int | str):
        raise row.fail("level", shown(level), "'Level 1' to 'Level 5'")
    return _DIFFICULTY.get(str(level).removeprefix("Level").strip(), 0)
