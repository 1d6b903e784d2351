"""Files for the readers: made-up rows written in every accepted shape, and the real data sets."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fields = dict[str, Any]


def write(folder: Path, *rows: Fields, name: str = "rows.jsonl") -> Path:
    """The rows as JSONL."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shapes(folder: Path, *rows: Fields) -> list[Path]:
    """The same rows as JSONL, array, gzip, with byte order mark, CRLF, blank lines, not escaped."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    texts = {
        "plain.jsonl": "\n".join(lines),
        "array.json": json.dumps(rows),
        "indented.json": "\n " + json.dumps(rows, indent=2, ensure_ascii=False),
        "bom.jsonl": "\ufeff" + "\n".join(lines) + "\n",
        "bom.json": "\ufeff" + json.dumps(rows, ensure_ascii=False),
        "crlf.jsonl": "\r\n\r\n".join(lines) + "\r\n",
    }
    paths = []
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        paths += [folder / name, folder / f"{name}.gz"]
    return paths


def real(name: str) -> Path:
    """A file of the real data sets; skips the test where there are none."""
    folder = os.environ.get("AFLOW_GRPO_DATA")
    if not folder:
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data sets here")
    return Path(folder) / name


def without(row: Fields, *names: str) -> Fields:
    """The row less some fields."""
    return {name: value for name, value in row.items() if name not in names}


def assert_same_in_every_shape(
    folder: Path, reader: Callable[[Path, str], list[Any]], *rows: Fields
) -> None:
    """The reader makes the same problems of every shape of the rows."""
    first, *others = shapes(folder, *rows)
    expected = reader(first, "train")
    assert len(expected) == len(rows)
    for path in others:
        assert reader(path, "train") == expected, path.name
