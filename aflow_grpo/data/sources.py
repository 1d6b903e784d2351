"""Which problems a run works on: a data set's name and, for data that are not shipped, a path.

Paths may be relative to the working directory or to the folder in `AFLOW_GRPO_DATA`, so one config
works on every machine. Nothing is downloaded here.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.generate import FreshWordings, generate_worded
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.data.parquet import holds_parquet
from aflow_grpo.data.readers import (
    read_drop,
    read_gsm8k,
    read_hotpotqa,
    read_humaneval,
    read_math,
    read_mbpp,
)
from aflow_grpo.data.rows import BadRow
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

__all__ = [
    "DATA_VARIABLE",
    "HUB_NAMES",
    "DataSource",
    "Dataset",
    "Loaded",
    "OnBadRow",
    "Split",
    "canonical",
    "load_source",
    "load_sources",
    "read_source",
    "read_sources",
    "report_bad_rows",
]

_LOG = logging.getLogger(__name__)

DATA_VARIABLE = "AFLOW_GRPO_DATA"
"""The environment variable that names the folder of downloaded data sets."""
Dataset = Literal[
    "sample", "generated", "gsm8k", "math", "mbpp", "humaneval", "hotpotqa", "drop", "jsonl"
]
Split = Literal["train", "val", "test"]
OnBadRow = Literal["stop", "skip"]
HUB_NAMES: Mapping[str, Dataset] = {
    "openai/gsm8k": "gsm8k",
    "EleutherAI/hendrycks_math": "math",
    "hendrycks/competition_math": "math",
    "HuggingFaceH4/MATH-500": "math",
    "google-research-datasets/mbpp": "mbpp",
    "openai/openai_humaneval": "humaneval",
    "openai_humaneval": "humaneval",
    "hotpotqa/hotpot_qa": "hotpotqa",
    "hotpot_qa": "hotpotqa",
    "ucinlp/drop": "drop",
}
"""Names on the Hugging Face hub -> the reader of their rows."""
_LISTED = 10
"""Bad rows that a report shows in full."""
_WITH_PUBLIC_TESTS = ("mbpp", "humaneval")


@dataclass(frozen=True)
class DataSource:
    """One file of problems."""

    dataset: str
    """`sample` (shipped), `generated` (fresh ones like it); `gsm8k`, `math`, `mbpp`, `humaneval`,
    `hotpotqa`, `drop` (as published, on the hub or in AFlow's format) or their names on the hub,
    e.g. `openai/gsm8k`; `jsonl` (the unified format, your own tasks among it)."""
    path: str = ""
    """The file, or a folder of Parquet shards; relative paths are tried from the working directory,
    then under AFLOW_GRPO_DATA. `~` and variables are expanded. `math` takes a folder of JSON files
    too. Not for `sample` and `generated`."""
    split: Split = "train"
    """Which shipped split (`sample`); wordings of training or of validation (`generated`, unless
    `wordings` is given); part of the ids (published datasets)."""
    skip: int = 0
    """Problems left out at the start of the file, so that one file gives disjoint parts; not for
    `generated`."""
    limit: int = 0
    """Most problems to take, after those skipped; 0 takes all. `generated` makes so many."""
    seed: int = 0
    """Which problems `generated` makes; none of them is in the shipped sample."""
    wordings: FreshWordings | None = None
    """In which words `generated` puts its problems: `seen` (training's), `held` (validation's and
    test's), `sealed` (further ones, in no shipped split, for a last test); null: by `split`, `seen`
    for train and `held` for the others. The ids name it."""
    exclude: str = ""
    """A file of the same dataset whose problems are left out wherever they occur in `path`, e.g.
    the validation file for a pool that holds it; before `skip` and `limit` count."""
    public_tests: str = ""
    """`mbpp` and `humaneval` in AFlow's format: the file of public tests."""
    on_bad_row: OnBadRow = "stop"
    """`stop` at the first row of `path` that is malformed; or `skip` such rows, count and list
    them. A bad row of `exclude` or `public_tests` always stops: without it a held-out problem or a
    hidden test could be seen."""

    @property
    def reader(self) -> Dataset:
        """The data set by its own name, whatever name was given."""
        return canonical(self.dataset)

    def __post_init__(self) -> None:
        reader = self.reader
        if self.on_bad_row not in get_args(OnBadRow):
            raise _wrong("on_bad_row", self.on_bad_row, f"one of {', '.join(get_args(OnBadRow))}")
        if self.split not in get_args(Split):
            raise _wrong("split", self.split, f"one of {', '.join(get_args(Split))}")
        if self.limit < 0:
            raise _wrong("limit", self.limit, "0 (all) or more problems")
        if self.skip < 0:
            raise _wrong("skip", self.skip, "0 or more problems")
        if self.skip and reader == "generated":
            raise _wrong("skip", self.skip, "0 for `generated`; another seed makes others")
        made_here = reader in ("sample", "generated")
        if made_here and self.path:
            expected = f"none for `{self.dataset}`; use dataset jsonl for your own file"
            raise _wrong("path", self.path, expected)
        if reader == "generated" and not self.limit:
            raise _wrong("limit", 0, "how many problems to make")
        if not made_here and not self.path:
            raise _wrong("path", "", f"the file of the {self.dataset} problems")
        if made_here and self.exclude:
            raise _wrong("exclude", self.exclude, f"none for `{self.dataset}`")
        if self.wordings is not None and self.wordings not in get_args(FreshWordings):
            kinds = ", ".join(get_args(FreshWordings))
            raise _wrong("wordings", self.wordings, f"one of {kinds}, or null")
        if self.wordings is not None and reader != "generated":
            raise _wrong("wordings", self.wordings, f"null for `{self.dataset}`")
        if self.public_tests and reader not in _WITH_PUBLIC_TESTS:
            raise _wrong("public_tests", self.public_tests, f"none for {self.dataset}")


@dataclass(frozen=True)
class Loaded:
    """What one source or several gave."""

    problems: list[Problem]
    """In the order of the files."""
    bad_rows: tuple[BadRow, ...] = ()
    """The rows that `on_bad_row: skip` left out."""


def canonical(name: str) -> Dataset:
    """The data set that `name` means: its own name or one on the hub, in any case.

    Raises:
        ConfigError: No reader knows the name; the message lists the names and the nearest one.
    """
    own: tuple[Dataset, ...] = get_args(Dataset)
    known: dict[str, Dataset] = {known: known for known in own}
    known |= {hub.casefold(): reader for hub, reader in HUB_NAMES.items()}
    found = known.get(str(name).casefold())
    if found is not None:
        return found
    spelt = {each.casefold(): each for each in (*own, *HUB_NAMES)}
    alike = difflib.get_close_matches(str(name).casefold(), spelt, n=1)
    hint = f". Did you mean {spelt[alike[0]]!r}?" if alike else "."
    expected = f"one of {', '.join(own)}, or on the hub {', '.join(HUB_NAMES)}{hint}"
    raise _wrong("dataset", name, f"{expected} Your own task is dataset jsonl, see docs/data.md.")


def load_source(spec: DataSource) -> list[Problem]:
    """The problems of one source, as `read_source`."""
    return read_source(spec).problems


def read_source(spec: DataSource) -> Loaded:
    """The problems of one source, in the file's order, and the bad rows that were skipped.

    Bad rows are also reported as a warning of this module's logger.

    Raises:
        DataError: The file is not found (the message names every place looked at) or malformed; or
            every row is bad.
    """
    skipped: list[BadRow] | None = [] if spec.on_bad_row == "skip" else None
    problems = _read(spec, spec.path, skipped)
    if skipped:
        _LOG.warning("%s", report_bad_rows(skipped, f"{spec.path} ({spec.dataset})"))
    if spec.exclude:
        held_out = {_identity(problem) for problem in _read(spec, spec.exclude)}
        problems = [problem for problem in problems if _identity(problem) not in held_out]
    if spec.skip >= len(problems):
        raise DataError(
            f"{spec.path or spec.dataset}: {len(problems)} problems to take from and skip is "
            f"{spec.skip}, expected some to be left; lower skip, or mend exclude"
        )
    end = spec.skip + spec.limit if spec.limit else None
    return Loaded(problems[spec.skip : end], tuple(skipped or ()))


def load_sources(specs: Iterable[DataSource]) -> list[Problem]:
    """The problems of several sources, as `read_sources`."""
    return read_sources(specs).problems


def read_sources(specs: Iterable[DataSource]) -> Loaded:
    """The problems and skipped rows of several sources, one after the other.

    Raises:
        DataError: As `read_source`; or two sources hold the same id.
    """
    problems: dict[str, Problem] = {}
    bad_rows: list[BadRow] = []
    for spec in specs:
        loaded = read_source(spec)
        bad_rows += loaded.bad_rows
        for problem in loaded.problems:
            if problem.id in problems:
                place = spec.path or f"{spec.dataset}/{spec.split}"
                raise DataError(
                    f"{place}: id {problem.id!r} is also in an earlier source, expected different "
                    "ids. Name each file once, or give the files different splits."
                )
            problems[problem.id] = problem
    return Loaded(list(problems.values()), tuple(bad_rows))


def report_bad_rows(bad_rows: Sequence[BadRow], what: str) -> str:
    """How many rows of `what` were skipped and why: the first ten in full, then their number."""
    lines = [f"{what}: skipped {len(bad_rows)} bad row{'s' * (len(bad_rows) != 1)}"]
    lines += [f"  {row.message}" for row in bad_rows[:_LISTED]]
    if len(bad_rows) > _LISTED:
        lines.append(f"  and {len(bad_rows) - _LISTED} more")
    return "\n".join(lines)


def _read(spec: DataSource, path: str, skipped: list[BadRow] | None = None) -> list[Problem]:
    """Every problem of the file at `path`, read as `spec` says."""
    split, public = spec.split, _find(spec.public_tests) if spec.public_tests else ""
    wordings = spec.wordings or ("seen" if split == "train" else "held")
    readers: Mapping[Dataset, Callable[[], list[Problem]]] = {
        "sample": lambda: read_problems(shipped_path(f"data/sample/{split}.jsonl")),
        "generated": lambda: generate_worded(spec.seed, spec.limit, wordings),
        "jsonl": lambda: read_problems(_find(path), skipped),
        "gsm8k": lambda: read_gsm8k(_find(path), split, skipped),
        "math": lambda: read_math(_find(path, folder=True), split, skipped),
        "mbpp": lambda: read_mbpp(_find(path), split, public, skipped),
        "humaneval": lambda: read_humaneval(_find(path), split, public, skipped),
        "hotpotqa": lambda: read_hotpotqa(_find(path), split, skipped),
        "drop": lambda: read_drop(_find(path), split, skipped),
    }
    return readers[spec.reader]()


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
        if place.is_file() or (place.is_dir() and (folder or holds_parquet(place))):
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
