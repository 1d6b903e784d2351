"""Rows of a data file, each with its place, so that every complaint says where to look.

Accepted on purpose: one JSON object per line, one JSON array of objects, one object as the whole
file, Parquet; gzip (by the name's ending), a byte order mark, CRLF, blank lines. One bad row is a
`RowError`, which `problems_from` raises or counts; a file that cannot be read is a plain
`DataError` and always stops. What the fields mean is decided elsewhere: `jsonl.py` reads the
project's own format, `readers/` the published ones.
"""

from __future__ import annotations

import dataclasses
import difflib
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aflow_grpo.data.parquet import holds_parquet, parquet_files, parquet_rows
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

__all__ = [
    "BadRow",
    "Row",
    "RowError",
    "expand",
    "problems_from",
    "read_items",
    "read_rows",
    "shown",
]

_ADVICE = "mend the row or remove it"


class RowError(DataError):
    """One row is bad; the other rows of its file can still be read.

    Args:
        message: File, place, field, what was found, what is expected and what to do.
        path: The file.
        place: Where in it; empty when the row is the whole file.
    """

    def __init__(self, message: str, path: Path, place: str) -> None:
        # Names and texts of a file may hold half characters, which no terminal or log takes.
        super().__init__(message.encode(errors="backslashreplace").decode())
        self.path = path
        self.place = place

    def __reduce__(self) -> tuple[type[RowError], tuple[str, Path, str]]:
        return type(self), (str(self), self.path, self.place)


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that was skipped."""

    path: Path
    """The file."""
    place: str
    """Where in it, e.g. `line 3`; empty when the row is the whole file."""
    message: str
    """The whole complaint: file, place, field, what was found and what to do."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One JSON object of a file, with its place for error messages."""

    path: Path
    place: str
    """Where in the file, e.g. `line 3` or `row 3` (of an array), counted from 1; may be empty."""
    fields: Mapping[str, Any]

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.path}, {self.place}" if self.place else str(self.path)

    def fail(self, name: str, found: str, expected: str, advice: str = _ADVICE) -> RowError:
        """The error for a field of this row."""
        message = f"{self.where}, field {name!r}: found {found}, expected {expected}; {advice}"
        return RowError(message, self.path, self.place)

    def get(self, name: str, expected: str) -> Any:
        """The value of field `name`, whatever its type.

        Raises:
            RowError: There is no such field; the message names one that is spelt alike.
        """
        if name not in self.fields:
            names = [*self.fields]
            present = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            found = f"no such field (the row has: {present or 'none'})"
            alike = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
            advice = f"{_ADVICE}, or is this another dataset's file?"
            if alike:
                advice = f"did you mean {name!r} where it says {alike[0]!r}? Else {_ADVICE}"
            raise self.fail(name, found, expected, advice)
        return self.fields[name]

    def text(self, name: str, *, empty: bool = False) -> str:
        """The string in field `name`; blank ones are refused unless `empty`.

        Raises:
            RowError: The field is missing, no string, blank, or no valid Unicode.
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
            RowError: The field is missing, no list of strings, or no valid Unicode.
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
            RowError: The field is missing, blank, or something else.
        """
        value = self.get(name, "text or a whole number")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.fail(name, shown(value), "text or a whole number")
        return self.text(name)

    def inner(self, name: str, expected: str) -> Row:
        """The object in field `name` as a row of its own; its place names the field.

        Raises:
            RowError: The field is missing or no object.
        """
        value = self.get(name, expected)
        if not isinstance(value, dict):
            raise self.fail(name, shown(value), expected)
        return Row(self.path, f"{self.place}, {name}".removeprefix(", "), value)

    def rows(self, name: str, what: str) -> list[Row]:
        """The list of objects in field `name`, each placed as `what` and its number from 1.

        Raises:
            RowError: The field is missing or no list of objects.
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


def read_items(path: str | Path, *, below: bool = False) -> Iterator[Row | RowError]:
    """The rows of a file, in its order; one that is no JSON object comes as its error.

    Args:
        path: JSON or JSONL (see the module), a Parquet file, or a folder of Parquet shards.
        below: Whether shards in folders below that folder count.

    Raises:
        DataError: The file is missing, unreadable or empty, or an array is cut short.
    """
    source = Path(path)
    if holds_parquet(source, below=below):
        for file in parquet_files(source, below=below):
            for place, fields in parquet_rows(file):
                yield Row(file, place, fields)
        return
    text = _read_text(source)
    if text.lstrip().startswith("["):
        yield from _array(source, text)
    else:
        yield from _lines(source, text)


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, as `read_items`.

    Raises:
        DataError: Also for a row that is no JSON object.
    """
    for item in read_items(path):
        if isinstance(item, RowError):
            raise item
        yield item


def expand(
    items: Iterable[Row | RowError], parts: Callable[[Row], Iterable[Row | RowError]]
) -> Iterator[Row | RowError]:
    """The parts of each row, one after the other; what is wrong with a whole becomes its error."""
    for item in items:
        if isinstance(item, RowError):
            yield item
            continue
        try:
            yield from parts(item)
        except RowError as error:
            yield error


def problems_from(
    items: Iterable[Row | RowError],
    make: Callable[[Row, int], Problem],
    skipped: list[BadRow] | None = None,
) -> list[Problem]:
    """The problems of the rows: the one place where a bad row is raised or counted.

    Args:
        items: As `read_items` gives them.
        make: The problem of a row; its second argument is the row's number from 0, bad rows
            counted, so that skipping them renames no problem.
        skipped: Where bad rows are noted; without it the first one stops.

    Raises:
        RowError: A row is bad, or two have one id, and `skipped` is None.
        DataError: Every row is bad; or a whole file is, see `read_items`.
    """
    first: dict[str, Row] = {}
    problems: list[Problem] = []
    bad: list[BadRow] = []
    for index, item in enumerate(items):
        try:
            if isinstance(item, RowError):
                raise item
            problem = make(item, index)
            if problem.id in first:
                raise _twice(item, problem.id, first[problem.id])
        except RowError as error:
            if skipped is None:
                raise
            bad.append(BadRow(error.path, error.place, str(error)))
        else:
            first[problem.id] = item
            problems.append(problem)
    if bad and not problems:
        raise DataError(
            f"{bad[0].path}: found {len(bad)} bad rows and no good one, expected some problems; "
            f"is this another dataset's file? The first: {bad[0].message}"
        )
    if skipped is not None:
        skipped.extend(bad)
    return problems


def shown(value: object) -> str:
    """Type and beginning of a value, for messages."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of too many digits
        return type(value).__name__
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _twice(row: Row, problem_id: str, other: Row) -> RowError:
    place = other.place if other.path == row.path else other.where
    return row.fail("id", f"{problem_id!r} again", f"one not used ({place} has it)")


def _lines(source: Path, text: str) -> Iterator[Row | RowError]:
    empty = True
    # Not `splitlines`: U+2028 inside a JSON string is legal and no line break.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            whole = _single_object(text) if empty else None
            if whole is not None:
                yield Row(source, "", whole)
                return
            yield RowError(
                f"{source}, {place}: found {shown(line.strip())}, expected one JSON object "
                f"per line ({error}); mend the line or remove it",
                source,
                place,
            )
        else:
            yield _row(source, place, fields)
        empty = False
    if empty:
        raise DataError(
            f"{source}: the file is empty, expected one JSON object per line; check the path"
        )


def _array(source: Path, text: str) -> Iterator[Row | RowError]:
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


def _row(source: Path, place: str, fields: object) -> Row | RowError:
    if isinstance(fields, dict):
        return Row(source, place, fields)
    message = f"{source}, {place}: found {shown(fields)}, expected an object; mend or remove it"
    return RowError(message, source, place)


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
