"""Which problems a run works on: a data set's name and, for data that are not shipped, a path.

Paths may be relative to the working directory or to the folder in `AFLOW_GRPO_DATA`, so one config
works on every machine. Nothing is downloaded here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.generate import generate_problems
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.data.readers import (
    read_drop,
    read_gsm8k,
    read_hotpotqa,
    read_humaneval,
    read_math,
    read_mbpp,
)
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

__all__ = ["DATA_VARIABLE", "DataSource", "Dataset", "Split", "load_source", "load_sources"]

DATA_VARIABLE = "AFLOW_GRPO_DATA"
"""The environment variable that names the folder of downloaded data sets."""
Dataset = Literal[
    "sample", "generated", "gsm8k", "math", "mbpp", "humaneval", "hotpotqa", "drop", "jsonl"
]
Split = Literal["train", "val", "test"]
_WITH_PUBLIC_TESTS = ("mbpp", "humaneval")


@dataclass(frozen=True)
class DataSource:
    """One file of problems."""

    dataset: Dataset
    """`sample` (shipped), `generated` (fresh ones like it); `gsm8k`, `math`, `mbpp`, `humaneval`,
    `hotpotqa`, `drop` (as published or in AFlow's format); `jsonl` (the unified format)."""
    path: str = ""
    """The file; relative paths are tried from the working directory, then under AFLOW_GRPO_DATA.
    `~` and variables are expanded. `math` takes a folder too. Not for `sample` and `generated`."""
    split: Split = "train"
    """Which shipped split (`sample`); wordings of training or of validation (`generated`); part of
    the ids (published datasets)."""
    skip: int = 0
    """Problems left out at the start of the file, so that one file gives disjoint parts; not for
    `generated`."""
    limit: int = 0
    """Most problems to take, after those skipped; 0 takes all. `generated` makes so many."""
    seed: int = 0
    """Which problems `generated` makes; none of them is in the shipped sample."""
    exclude: str = ""
    """A file of the same dataset whose problems are left out wherever they occur in `path`, e.g.
    the validation file for a pool that holds it; before `skip` and `limit` count."""
    public_tests: str = ""
    """`mbpp` and `humaneval` in AFlow's format: the file of public tests."""

    def __post_init__(self) -> None:
        if self.dataset not in get_args(Dataset):
            raise _wrong("dataset", self.dataset, f"one of {', '.join(get_args(Dataset))}")
        if self.split not in get_args(Split):
            raise _wrong("split", self.split, f"one of {', '.join(get_args(Split))}")
        if self.limit < 0:
            raise _wrong("limit", self.limit, "0 (all) or more problems")
        if self.skip < 0:
            raise _wrong("skip", self.skip, "0 or more problems")
        if self.skip and self.dataset == "generated":
            raise _wrong("skip", self.skip, "0 for `generated`; another seed makes others")
        made_here = self.dataset in ("sample", "generated")
        if made_here and self.path:
            expected = f"none for `{self.dataset}`; use dataset jsonl for your own file"
            raise _wrong("path", self.path, expected)
        if self.dataset == "generated" and not self.limit:
            raise _wrong("limit", 0, "how many problems to make")
        if not made_here and not self.path:
            raise _wrong("path", "", f"the file of the {self.dataset} problems")
        if made_here and self.exclude:
            raise _wrong("exclude", self.exclude, f"none for `{self.dataset}`")
        if self.public_tests and self.dataset not in _WITH_PUBLIC_TESTS:
            raise _wrong("public_tests", self.public_tests, f"none for {self.dataset}")


def load_source(spec: DataSource) -> list[Problem]:
    """The problems of one source, in the file's order.

    Raises:
        DataError: The file is not found (the message names every place looked at) or malformed.
    """
    problems = _read(spec, spec.path)
    if spec.exclude:
        held_out = {_identity(problem) for problem in _read(spec, spec.exclude)}
        problems = [problem for problem in problems if _identity(problem) not in held_out]
    if spec.skip >= len(problems):
        raise DataError(
            f"{spec.path or spec.dataset}: {len(problems)} problems to take from and skip is "
            f"{spec.skip}, expected some to be left; lower skip, or mend exclude"
        )
    end = spec.skip + spec.limit if spec.limit else None
    return problems[spec.skip : end]


def load_sources(specs: Iterable[DataSource]) -> list[Problem]:
    """The problems of several sources, one after the other.

    Raises:
        DataError: As `load_source`; or two sources hold the same id.
    """
    problems: dict[str, Problem] = {}
    for spec in specs:
        for problem in load_source(spec):
            if problem.id in problems:
                place = spec.path or f"{spec.dataset}/{spec.split}"
                raise DataError(
                    f"{place}: id {problem.id!r} is also in an earlier source, expected different "
                    "ids. Name each file once, or give the files different splits."
                )
            problems[problem.id] = problem
    return list(problems.values())


def _read(spec: DataSource, path: str) -> list[Problem]:
    """Every problem of the file at `path`, read as `spec` says."""
    split, public = spec.split, _find(spec.public_tests) if spec.public_tests else ""
    readers: Mapping[Dataset, Callable[[], list[Problem]]] = {
        "sample": lambda: read_problems(shipped_path(f"data/sample/{split}.jsonl")),
        "generated": lambda: generate_problems(spec.seed, spec.limit, held_out=split != "train"),
        "jsonl": lambda: read_problems(_find(path)),
        "gsm8k": lambda: read_gsm8k(_find(path), split),
        "math": lambda: read_math(_find(path, folder=True), split),
        "mbpp": lambda: read_mbpp(_find(path), split, public),
        "humaneval": lambda: read_humaneval(_find(path), split, public),
        "hotpotqa": lambda: read_hotpotqa(_find(path), split),
        "drop": lambda: read_drop(_find(path), split),
    }
    return readers[spec.dataset]()


def _identity(problem: Problem) -> str:
    """What two copies of one problem share: the id of a code task, else all of its text.

    Files of code datasets word one task differently, but number it alike.
    """
    return problem.id if problem.domain == "code" else " ".join(problem.text.split())


def _find(path: str, *, folder: bool = False) -> Path:
    given = Path(os.path.expandvars(path)).expanduser()
    places = [given.absolute()]
    data = os.environ.get(DATA_VARIABLE, "")
    if data and not given.is_absolute():
        places.append(Path(data).expanduser() / given)
    for place in places:
        if place.is_file() or (folder and place.is_dir()):
            return place
    looked = ", ".join(map(str, places))
    hint = (
        f"{DATA_VARIABLE} is {data}"
        if data
        else f"{DATA_VARIABLE} is not set: set it to the folder that holds your data sets"
    )
    raise DataError(f"{path!r}: no such file. Looked for {looked}. {hint}; or give a full path.")


def _wrong(name: str, given: object, expected: str) -> ConfigError:
    return ConfigError(f"data source: {name} is {given!r}, expected {expected}")
