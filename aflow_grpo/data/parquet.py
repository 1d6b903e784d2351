"""Parquet files as rows: one file, or the shards of one split in a folder, as on the hub.

A null at the top of a row is a field that is not there: Parquet has every column in every row.
What the fields mean is decided in `readers/`. Not covered: partitioned folders (`year=2020/`),
whose names hold columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aflow_grpo.errors import DataError

__all__ = ["holds_parquet", "parquet_files", "parquet_rows"]

_ENDING = ".parquet"
_SPLITS = {"train", "test", "validation", "val", "valid", "dev"}
_BATCH = 1024
"""Rows in memory at a time."""


def holds_parquet(path: Path, *, below: bool = False) -> bool:
    """Whether `path` is a Parquet file by its name, or a folder with some (or `below` it)."""
    return path.suffix == _ENDING if not path.is_dir() else bool(_shards(path, below))


def parquet_files(path: Path, *, below: bool = False) -> list[Path]:
    """The file itself, or the folder's shards in the order of their names.

    Raises:
        DataError: The folder holds shards of several splits.
    """
    if not path.is_dir():
        return [path]
    files = _shards(path, below)
    by_split: dict[str, Path] = {}
    for file in files:
        by_split.setdefault(_split_of(file), file)
    if len(by_split) > 1:
        names = " and ".join(str(file.relative_to(path)) for file in by_split.values())
        raise DataError(
            f"{path}: found Parquet files of several splits ({names}), expected those of one; "
            "give one file, or move each split into a folder of its own"
        )
    return files


def parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place (`row 3`, counted from 1) and fields of each row; lists and structs as Python's.

    Raises:
        DataError: The file is missing, damaged or empty.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # not needed where files are JSON
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
                for fields in batch.to_pylist():
                    number += 1
                    yield (
                        f"row {number}",
                        {name: value for name, value in fields.items() if value is not None},
                    )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected Parquet. Check the path.") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise DataError(
            f"{path}: cannot be read as Parquet ({why}); is the file complete?"
        ) from None
    if not number:
        raise DataError(f"{path}: the file holds no rows, expected some; check the path")


def _shards(folder: Path, below: bool) -> list[Path]:
    files = folder.rglob(f"*{_ENDING}") if below else folder.glob(f"*{_ENDING}")
    return sorted(file for file in files if file.is_file())


def _split_of(file: Path) -> str:
    """The split that a shard's name, or else its folder's, tells; empty when neither does."""
    for name in (file.stem, file.parent.name):
        for word in re.split(r"[-_.]", name.lower()):
            if word in _SPLITS:
                return word
    return ""
