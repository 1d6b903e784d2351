"""Rows of a data file, each with its place, so that every complaint says where to look.

Accepted on purpose: one JSON object per line, one JSON array of objects, one object as the whole
file; gzip (by the name's ending), a byte order mark, CRLF, blank lines. What the fields mean is
decided elsewhere: `jsonl.py` reads the project's own format, `readers/` the published ones.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

__all__ = ["Row", "read_rows", "shown", "unique_ids"]

_ADVICE = "mend the row or remove it"


@dataclasses.dataclass(frozen=True)
class Row:
    """One JSON object of a file, with its place for error messages."""

    path: Path
    place: str
    """Where in the file, e.g. `line 3` or `row 3` (of an array), counted from 1; may be empty."""
    fields: Mapping[str, Any]

    def fail(self, name: str, found: str, expected: str, advice: str = _ADVICE) -> DataError:
        """The error for a field of this row."""
        where = f"{self.path}, {self.place}" if self.place else str(self.path)
        return DataError(f"{where}, field {name!r}: found {found}, expected {expected}; {advice}")

    def get(self, name: str, expected: str) -> Any:
        """The value of field `name`, whatever its type.

        Raises:
            DataError: There is no such field.
        """
        if name not in self.fields:
            names = [*self.fields]
            present = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            found = f"no such field (the row has: {present or 'none'})"
            advice = f"{_ADVICE}, or is this another dataset's file?"
            raise self.fail(name, found, expected, advice)
        return self.fields[name]

    def text(self, name: str, *, empty: bool = False) -> str:
        """The string in field `name`; blank ones are refused unless `empty`.

        Raises:
            DataError: The field is missing, no string, blank, or no valid Unicode.
        """
        value = self.get(name, "a string")
        if not isinstance(value, str):
            raise self.fail(name, shown(value), "a string")
        if not empty and not value.strip():
            raise self.fail(name, "an empty string", "text")
        return self._checked(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """The list of strings in field `name`.

        Raises:
            DataError: The field is missing, no list of strings, or no valid Unicode.
        """
        value = self.get(name, "a list of strings")
        if not isinstance(value, list):
            raise self.fail(name, shown(value), "a list of strings")
        for item in value:
            if not isinstance(item, str):
                raise self.fail(name, f"a list that holds {shown(item)}", "a list of strings")
        return tuple(self._checked(name, item) for item in value)

    def label(self, name: str) -> str:
        """The text or whole number in field `name`, as text: what names a row.

        Raises:
            DataError: The field is missing, blank, or something else.
        """
        value = self.get(name, "text or a whole number")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.fail(name, shown(value), "text or a whole number")
        return self.text(name)

    def rows(self, name: str, what: str) -> list[Row]:
        """The list of objects in field `name`, each placed as `what` and its number from 1.

        Raises:
            DataError: The field is missing or no list of objects.
        """
        value = self.get(name, "a list of objects")
        if not isinstance(value, list):
            raise self.fail(name, shown(value), "a list of objects")
        for item in value:
            if not isinstance(item, dict):
                raise self.fail(name, f"a list that holds {shown(item)}", "a list of objects")
        return [
            Row(self.path, f"{self.place}, {what} {number}", item)
            for number, item in enumerate(value, start=1)
        ]

    def _checked(self, name: str, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            half = "half of a character (a lone surrogate)"
            raise self.fail(name, half, "valid Unicode") from None
        return value


def read_rows(path: str | Path) -> Iterator[Row]:
    """The JSON objects of a file, in its order: one per line, an array of them, or a single one.

    Raises:
        DataError: The file is missing, unreadable, empty, or holds something else.
    """
    source = Path(path)
    text = _read_text(source)
    if text.lstrip().startswith("["):
        yield from _array(source, text)
        return
    empty = True
    # Not `splitlines`: U+2028 inside a JSON string is legal and no line break.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            whole = _single_object(text) if empty else None
            if whole is not None:
                yield Row(source, "", whole)
                return
            raise DataError(
                f"{source}, line {number}: found {shown(line.strip())}, expected one JSON object "
                f"per line ({error}); mend the line or remove it"
            ) from None
        empty = False
        yield _row(source, f"line {number}", fields)
    if empty:
        raise DataError(
            f"{source}: the file is empty, expected one JSON object per line; check the path"
        )


def unique_ids(rows: Iterable[tuple[Row, Problem]]) -> list[Problem]:
    """The problems, after checking that no id occurs twice.

    Raises:
        DataError: Two rows have the same id; names both places.
    """
    first_place: dict[str, str] = {}
    problems = []
    for row, problem in rows:
        if problem.id in first_place:
            raise row.fail(
                "id",
                f"{problem.id!r} again",
                f"one not used ({first_place[problem.id]} has it)",
            )
        first_place[problem.id] = row.place
        problems.append(problem)
    return problems


def shown(value: object) -> str:
    """Type and beginning of a value, for messages."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _array(source: Path, text: str) -> Iterator[Row]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source}: found `[` first but no whole JSON array ({error}), expected an array of "
            "objects; is the file complete?"
        ) from None
    if not items:
        raise DataError(f"{source}: the array is empty, expected objects; check the path")
    for number, item in enumerate(items, start=1):
        yield _row(source, f"row {number}", item)


def _row(source: Path, place: str, fields: object) -> Row:
    if not isinstance(fields, dict):
        raise DataError(
            f"{source}, {place}: found {shown(fields)}, expected an object; mend or remove it"
        )
    return Row(source, place, fields)


def _single_object(text: str) -> dict[str, Any] | None:
    """The one object that is the whole text over several lines; None when it is none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, dict) else None


def _read_text(source: Path) -> str:
    try:
        raw = source.read_bytes()
        if source.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{source}: no such file; expected JSON or JSONL. Check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text ({error}); convert it to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: cannot be read ({error}); is the file complete?") from None
