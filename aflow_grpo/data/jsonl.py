"""Problems on disk: one JSON object per line, in the fields of `records.Problem`.

Reading is strict, because a row that is quietly wrong becomes a wrong reward: every complaint is a
`DataError` that names file, line and field. Accepted on purpose: gzip (by the name's ending), a
byte order mark, CRLF, blank lines. Other datasets' own formats are read in `readers.py`.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aflow_grpo.errors import DataError
from aflow_grpo.records import DOMAINS, Problem, to_dict

__all__ = ["Row", "read_problems", "read_rows", "unique_ids", "write_problems"]

_KNOWN = {f.name: f for f in dataclasses.fields(Problem)}
_REQUIRED = [f.name for f in dataclasses.fields(Problem) if f.default is dataclasses.MISSING]
_LISTS = ("alternatives", "public_tests", "hidden_tests")


@dataclasses.dataclass(frozen=True)
class Row:
    """One JSON object of a file, with its place for error messages."""

    path: Path
    line: int
    """1-based."""
    fields: Mapping[str, Any]

    def fail(self, name: str, found: str, expected: str) -> DataError:
        """The error for a field of this row."""
        return DataError(
            f"{self.path}, line {self.line}, field {name!r}: found {found}, expected {expected}"
        )

    def text(self, name: str, *, empty: bool = False) -> str:
        """The string in field `name`; blank ones are refused unless `empty`.

        Raises:
            DataError: The field is missing, no string, or blank.
        """
        value = self._get(name, "a string")
        if not isinstance(value, str):
            raise self.fail(name, _shown(value), "a string")
        if not empty and not value.strip():
            raise self.fail(name, "an empty string", "text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The list of strings in field `name`.

        Raises:
            DataError: The field is missing or no list of strings.
        """
        value = self._get(name, "a list of strings")
        if not isinstance(value, list):
            raise self.fail(name, _shown(value), "a list of strings")
        for item in value:
            if not isinstance(item, str):
                raise self.fail(name, f"a list that holds {_shown(item)}", "a list of strings")
        return tuple(value)

    def _get(self, name: str, expected: str) -> Any:
        if name not in self.fields:
            present = ", ".join(self.fields) or "none"
            raise self.fail(name, f"no such field (the row has: {present})", expected)
        return self.fields[name]


def read_problems(path: str | Path) -> list[Problem]:
    """The problems of a unified JSONL file, `.gz` accepted, in the file's order.

    Raises:
        DataError: The file is missing, empty or not JSON; a field is missing, unknown or of the
            wrong type; a domain is unknown; an id occurs twice.
    """
    return unique_ids((row, _problem(row)) for row in read_rows(path))


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Writes problems as JSONL, byte for byte the same everywhere; `.gz` compresses.

    Fields that hold their default are left out.
    """
    text = "".join(json.dumps(_row(problem), ensure_ascii=False) + "\n" for problem in problems)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    target.write_bytes(gzip.compress(raw, mtime=0) if target.suffix == ".gz" else raw)


def read_rows(path: str | Path) -> Iterator[Row]:
    """The JSON objects of a JSONL file, blank lines skipped.

    Raises:
        DataError: The file is missing, unreadable, empty, or a line is no JSON object.
    """
    source = Path(path)
    empty = True
    # Not `splitlines`: U+2028 inside a JSON string is legal and no line break.
    for line, text in enumerate(_read_text(source).split("\n"), start=1):
        if not text.strip():
            continue
        empty = False
        try:
            fields = json.loads(text)
        except ValueError as error:
            shown = _shown(text.strip())
            raise DataError(
                f"{source}, line {line}: found {shown}, expected one JSON object per line ({error})"
            ) from None
        if not isinstance(fields, dict):
            raise DataError(f"{source}, line {line}: found {_shown(fields)}, expected an object")
        yield Row(source, line, fields)
    if empty:
        raise DataError(f"{source}: the file is empty, expected one JSON object per line")


def unique_ids(rows: Iterable[tuple[Row, Problem]]) -> list[Problem]:
    """The problems, after checking that no id occurs twice.

    Raises:
        DataError: Two rows have the same id; names both lines.
    """
    first_line: dict[str, int] = {}
    problems = []
    for row, problem in rows:
        if problem.id in first_line:
            raise row.fail(
                "id",
                f"{problem.id!r} again",
                f"one not used (line {first_line[problem.id]} has it)",
            )
        first_line[problem.id] = row.line
        problems.append(problem)
    return problems


def _read_text(source: Path) -> str:
    try:
        raw = source.read_bytes()
        if source.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; expected JSONL. Check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text ({error}); convert it to UTF-8") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{source}: cannot be read ({error})") from None


def _problem(row: Row) -> Problem:
    unknown = [name for name in row.fields if name not in _KNOWN]
    if unknown:
        raise row.fail(unknown[0], "an unknown field", f"only {', '.join(_KNOWN)}")
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
    _check_domain(row, values)
    return Problem(**values)


def _difficulty(row: Row) -> int:
    value = row.fields["difficulty"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 3:
        raise row.fail("difficulty", _shown(value), "0, 1, 2 or 3")
    return value


def _check_domain(row: Row, values: Mapping[str, Any]) -> None:
    domain = values["domain"]
    if domain not in DOMAINS:
        raise row.fail("domain", _shown(domain), f"one of {', '.join(DOMAINS)}")
    if domain == "code":
        for name in ("entry_point", "hidden_tests"):
            if not values.get(name):
                raise row.fail(name, "nothing", "a value, because the domain is code")
    elif not values["answer"].strip():
        raise row.fail("answer", "an empty string", f"the gold answer, because it is {domain}")


def _row(problem: Problem) -> dict[str, Any]:
    full = to_dict(problem)
    return {
        name: value
        for name, value in full.items()
        if name in _REQUIRED or getattr(problem, name) != _KNOWN[name].default
    }


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
