"""The files of a benchmark, found in a folder or fetched from the hub, and read.

Which files there are and what each may be used for stands in the catalogue.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aflow_grpo.data.catalogue import CATALOGUE, Benchmark, BenchmarkFile, Role
from aflow_grpo.data.hub import fetch
from aflow_grpo.data.sources import DATA_VARIABLE, DataSource, OnBadRow, read_source
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

__all__ = ["HUB", "Input", "Origin", "data_folder", "from_folder", "from_hub", "held_out_sets"]

HUB = "hub"
"""The value of `--source` that asks for the hub."""


@dataclass(frozen=True)
class Origin:
    """Where a benchmark's files come from."""

    kind: Literal["hub", "folder"]
    repository: str = ""
    """Name on the hub; empty for a folder, whose place is the machine's own affair."""
    commit: str = ""


@dataclass(frozen=True)
class Input:
    """One file that was read."""

    name: str
    """Its path below the folder or in the repository."""
    role: Role
    sha256: str
    problems: tuple[Problem, ...]
    """Their ids are unique within the benchmark's files of that role."""
    bad_rows: tuple[str, ...] = ()
    """What was wrong with the rows that were left out, one line each."""


def data_folder(source: str) -> Path | None:
    """The folder that `--source` or else AFLOW_GRPO_DATA names; None when neither does.

    Raises:
        DataError: There is no such folder.
    """
    given = "" if source == HUB else source
    named = given or os.environ.get(DATA_VARIABLE, "")
    if not named:
        return None
    folder = Path(os.path.expandvars(named)).expanduser()
    if not folder.is_dir():
        setting = "--source" if given else DATA_VARIABLE
        raise DataError(
            f"{setting} is {named!r}: no such folder, expected the one that holds your data sets; "
            f"give its path, or --source {HUB} to download them"
        )
    return folder


def from_folder(
    entry: Benchmark, folder: Path, on_bad_row: OnBadRow = "stop"
) -> tuple[Origin, list[Input]]:
    """The benchmark's files that lie in `folder`.

    Raises:
        DataError: None of them does, or a row is bad and is to stop.
    """
    found = [
        (folder / file.path, file.path, file, folder / file.public_tests)
        for file in entry.local_files
        if (folder / file.path).is_file()
    ]
    if not found:
        raise DataError(
            f"{folder}: found no file of {entry.name}, expected one or more of "
            f"{', '.join(file.path for file in entry.local_files)}. Put one there, or give "
            f"--source {HUB} to download {entry.hub}"
        )
    strict = _strict_roles([file for _, _, file, _ in found])
    inputs = [
        _read(
            entry,
            path,
            name,
            file,
            public if file.public_tests else None,
            "stop" if file.role in strict else on_bad_row,
        )
        for path, name, file, public in found
    ]
    return Origin("folder"), _unique(inputs)


def from_hub(entry: Benchmark, on_bad_row: OnBadRow = "stop") -> tuple[Origin, list[Input]]:
    """The benchmark's files on the hub, fetched into the hub client's cache.

    Raises:
        DataError: They cannot be fetched, or a row is bad and is to stop.
    """
    commit, fetched = fetch(entry)
    strict = _strict_roles([item.file for item in fetched])
    inputs = [
        _read(
            entry,
            item.path,
            item.name,
            item.file,
            None,
            "stop" if item.file.role in strict else on_bad_row,
        )
        for item in fetched
    ]
    return Origin("hub", entry.hub, commit), _unique(inputs)


def held_out_sets(
    folder: Path | None, read: Sequence[Input] = ()
) -> dict[str, tuple[Problem, ...]]:
    """All held-out files that are here, by their names: those in `read`, then the folder's.

    Raises:
        DataError: One has a bad row: nothing could be compared with it.
    """
    found: dict[str, tuple[Problem, ...]] = {}
    for i in read:
        if i.role == "held_out":  # two repositories may name a file alike
            name = f"{i.problems[0].dataset}: {i.name}" if i.name in found else i.name
            found[name] = i.problems
    for entry in CATALOGUE.values() if folder is not None else ():
        for file in entry.local_files:
            path = Path(folder or "", file.path)
            if file.role == "held_out" and file.path not in found and path.is_file():
                found[file.path] = _read(entry, path, file.path, file, None, "stop").problems
    return dict(sorted(found.items()))  # whatever the order in which they were named


def _strict_roles(files: Sequence[BenchmarkFile]) -> frozenset[Role]:
    """Whose bad rows always stop: a held-out problem that is not read cannot be kept out."""
    return frozenset({"held_out"} if any(file.role == "pool" for file in files) else ())


def _read(
    entry: Benchmark,
    path: Path,
    name: str,
    file: BenchmarkFile,
    public: Path | None,
    on_bad_row: OnBadRow,
) -> Input:
    spec = DataSource(
        dataset=entry.name,
        path=str(path.absolute()),
        split="train" if file.role == "pool" else "val",
        public_tests=str(public.absolute()) if public is not None and public.is_file() else "",
        on_bad_row=on_bad_row,
    )
    loaded = read_source(spec)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    bad = tuple(row.message.replace(str(path.absolute()), name) for row in loaded.bad_rows)
    return Input(name, file.role, digest, tuple(loaded.problems), bad)


def _unique(inputs: list[Input]) -> list[Input]:
    """Ids told apart by the file where two files of one role number their rows alike."""
    ids = [(i.role, problem.id) for i in inputs for problem in i.problems]
    if len(set(ids)) == len(ids):
        return inputs
    return [dataclasses.replace(i, problems=_labelled(i)) for i in inputs]


def _labelled(found: Input) -> tuple[Problem, ...]:
    label = found.name.split(".")[0].replace("/", "-")
    return tuple(
        dataclasses.replace(problem, id="/".join([*parts[:2], label, *parts[2:]]))
        for problem in found.problems
        for parts in [problem.id.split("/")]
    )
