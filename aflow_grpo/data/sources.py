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
from aflow_grpo.data.readers import read_gsm8k, read_mbpp
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

__all__ = ["DATA_VARIABLE", "DataSource", "Dataset", "Split", "load_source", "load_sources"]

DATA_VARIABLE = "AFLOW_GRPO_DATA"
"""The environment variable that names the folder of downloaded data sets."""
Dataset = Literal["sample", "generated", "gsm8k", "mbpp", "jsonl"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class DataSource:
    """One file of problems."""

    dataset: Dataset
    """`sample` (shipped), `generated` (fresh ones like it), `gsm8k`, `mbpp`, `jsonl` (problems in
    the unified format)."""
    path: str = ""
    """The file; relative paths are tried from the working directory, then under AFLOW_GRPO_DATA.
    `~` and variables are expanded. Not for `sample` and `generated`."""
    split: Split = "train"
    """Which shipped split (`sample`); wordings of training or of validation (`generated`); part of
    the ids (`gsm8k`, `mbpp`)."""
    limit: int = 0
    """Most problems to take, from the start of the file; 0 takes all. `generated` makes so many."""
    seed: int = 0
    """Which problems `generated` makes; none of them is in the shipped sample."""
    public_tests: str = ""
    """`mbpp` in AFlow's format: the file of public tests."""

    def __post_init__(self) -> None:
        if self.dataset not in get_args(Dataset):
            raise _wrong("dataset", self.dataset, f"one of {', '.join(get_args(Dataset))}")
        if self.split not in get_args(Split):
            raise _wrong("split", self.split, f"one of {', '.join(get_args(Split))}")
        if self.limit < 0:
            raise _wrong("limit", self.limit, "0 (all) or more problems")
        made_here = self.dataset in ("sample", "generated")
        if made_here and self.path:
            expected = f"none for `{self.dataset}`; use dataset jsonl for your own file"
            raise _wrong("path", self.path, expected)
        if self.dataset == "generated" and not self.limit:
            raise _wrong("limit", 0, "how many problems to make")
        if not made_here and not self.path:
            raise _wrong("path", "", f"the file of the {self.dataset} problems")
        if self.public_tests and self.dataset != "mbpp":
            raise _wrong("public_tests", self.public_tests, f"none for {self.dataset}")


def load_source(spec: DataSource) -> list[Problem]:
    """The problems of one source, in the file's order.

    Raises:
        DataError: The file is not found (the message names every place looked at) or malformed.
    """
    readers: Mapping[Dataset, Callable[[], list[Problem]]] = {
        "sample": lambda: read_problems(shipped_path(f"data/sample/{spec.split}.jsonl")),
        "generated": lambda: generate_problems(
            spec.seed, spec.limit, held_out=spec.split != "train"
        ),
        "jsonl": lambda: read_problems(_find(spec.path)),
        "gsm8k": lambda: read_gsm8k(_find(spec.path), spec.split),
        "mbpp": lambda: read_mbpp(
            _find(spec.path), spec.split, _find(spec.public_tests) if spec.public_tests else ""
        ),
    }
    problems = readers[spec.dataset]()
    return problems[: spec.limit] if spec.limit else problems


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


def _find(path: str) -> Path:
    given = Path(os.path.expandvars(path)).expanduser()
    places = [given.absolute()]
    folder = os.environ.get(DATA_VARIABLE, "")
    if folder and not given.is_absolute():
        places.append(Path(folder).expanduser() / given)
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(map(str, places))
    hint = (
        f"{DATA_VARIABLE} is {folder}"
        if folder
        else f"{DATA_VARIABLE} is not set: set it to the folder that holds your data sets"
    )
    raise DataError(f"{path!r}: no such file. Looked for {looked}. {hint}; or give a full path.")


def _wrong(name: str, given: object, expected: str) -> ConfigError:
    return ConfigError(f"data source: {name} is {given!r}, expected {expected}")
