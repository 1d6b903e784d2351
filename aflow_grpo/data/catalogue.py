"""The six benchmarks as data: where their files are, what may be trained on, what overlaps.

Roles are facts about the files, not choices: a `held_out` file is what others report on, so no
problem of it is ever trained on. Reading is in `sources`, splitting in `prepare`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aflow_grpo.errors import ConfigError

__all__ = ["CATALOGUE", "Benchmark", "BenchmarkFile", "BenchmarkName", "Role", "benchmark"]

Role = Literal["pool", "held_out"]
BenchmarkName = Literal["gsm8k", "math", "mbpp", "humaneval", "hotpotqa", "drop"]


@dataclass(frozen=True)
class BenchmarkFile:
    """One file, or several by a pattern."""

    path: str
    """Below the folder of data; on the hub a pattern (`*` also matches `/`)."""
    role: Role
    """`pool`: may be trained on; `held_out`: only for validation and test."""
    public_tests: str = ""
    """The file of public tests that goes with it."""


@dataclass(frozen=True)
class Benchmark:
    """What is to be known of a benchmark besides its format."""

    name: BenchmarkName
    hub: str
    """Repository of data on the Hugging Face hub."""
    config: str
    """Its configuration, as the hub calls it."""
    licence: str
    """SPDX name of the data's licence."""
    homepage: str
    hub_files: tuple[BenchmarkFile, ...]
    local_files: tuple[BenchmarkFile, ...]
    """File names that are looked for in a folder of data; those that are not there are no fault."""
    other_names: tuple[str, ...] = ()
    """Other names of the same data on the hub."""
    overlaps: tuple[str, ...] = ()
    """What is known to overlap, in words."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names it goes by, the canonical one first."""
        return self.name, self.hub, *self.other_names


def _pool(path: str) -> BenchmarkFile:
    return BenchmarkFile(path, "pool")


def _held(path: str, public_tests: str = "") -> BenchmarkFile:
    return BenchmarkFile(path, "held_out", public_tests)


_AFLOW = "aflow_format/{}_validate.jsonl"
_PUBLIC = "aflow_format/{}_public_test.jsonl"

CATALOGUE: Mapping[str, Benchmark] = {
    entry.name: entry
    for entry in (
        Benchmark(
            name="gsm8k",
            hub="openai/gsm8k",
            config="main",
            licence="MIT",
            homepage="https://github.com/openai/grade-school-math",
            hub_files=(_pool("main/train-*.parquet"), _held("main/test-*.parquet")),
            local_files=(
                _pool("gsm8k/train.jsonl"),
                _held("gsm8k/test.jsonl"),
                _held(_AFLOW.format("gsm8k")),
            ),
            other_names=("gsm8k/main",),
            overlaps=(
                "AFlow's validation and test splits of GSM8K are items of the official test set: "
                "whoever trains on the official test set trains on both.",
            ),
        ),
        Benchmark(
            name="math",
            hub="EleutherAI/hendrycks_math",
            config="all subjects",
            licence="MIT",
            homepage="https://github.com/hendrycks/math",
            hub_files=(_pool("*/train-*.parquet"), _held("*/test-*.parquet")),
            local_files=(
                _pool("math/math_pool.jsonl.gz"),
                _held("math/test.jsonl"),
                _held(_AFLOW.format("math")),
            ),
            other_names=("hendrycks/competition_math", "DigitalLearningGmbH/MATH-lighteval"),
            overlaps=(
                "AFlow's validation and test splits of MATH are items of the official test set, "
                "and so is MATH-500.",
            ),
        ),
        Benchmark(
            name="mbpp",
            hub="google-research-datasets/mbpp",
            config="full",
            licence="CC-BY-4.0",
            homepage="https://github.com/google-research/google-research/tree/master/mbpp",
            hub_files=(
                _pool("full/train-*.parquet"),
                _pool("full/validation-*.parquet"),
                _held("full/test-*.parquet"),
            ),
            local_files=(
                _pool("mbpp/mbpp_pool.jsonl"),
                _held("mbpp/test.jsonl"),
                _held(_AFLOW.format("mbpp"), _PUBLIC.format("mbpp")),
            ),
            other_names=("mbpp/full",),
            overlaps=(
                "AFlow's validation and test splits of MBPP are the sanitised tasks of all "
                "official splits, training included: tasks are told apart by their number.",
            ),
        ),
        Benchmark(
            name="humaneval",
            hub="openai/openai_humaneval",
            config="openai_humaneval",
            licence="MIT",
            homepage="https://github.com/openai/human-eval",
            hub_files=(_held("openai_humaneval/test-*.parquet"),),
            local_files=(_held(_AFLOW.format("humaneval"), _PUBLIC.format("humaneval")),),
            other_names=("openai_humaneval",),
            overlaps=("HumanEval has no training set: all of it is held out.",),
        ),
        Benchmark(
            name="hotpotqa",
            hub="hotpotqa/hotpot_qa",
            config="distractor",
            licence="CC-BY-SA-4.0",
            homepage="https://hotpotqa.github.io",
            hub_files=(
                _pool("distractor/train-*.parquet"),
                _held("distractor/validation-*.parquet"),
            ),
            local_files=(_held(_AFLOW.format("hotpotqa")),),
            other_names=("hotpot_qa",),
        ),
        Benchmark(
            name="drop",
            hub="ucinlp/drop",
            config="default",
            licence="CC-BY-SA-4.0",
            homepage="https://allenai.org/data/drop",
            hub_files=(_pool("*train-*.parquet"), _held("*validation-*.parquet")),
            local_files=(_pool("drop/drop_pool.jsonl.gz"), _held(_AFLOW.format("drop"))),
            other_names=("drop/default",),
            overlaps=(
                "AFlow's validation and test splits of DROP are rows of the official development "
                "set: a pool made of that set holds some of them, and shares passages with others.",
            ),
        ),
    )
}
"""The six benchmarks by name."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name, its own or the hub's, in any case.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    known = {other.casefold(): entry for entry in CATALOGUE.values() for other in entry.names}
    wanted = name.strip().casefold()
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f" (did you mean {known[near[0]].name}?)" if near else ""
    raise ConfigError(
        f"there is no benchmark {name!r}{hint}, expected one of {', '.join(CATALOGUE)}, or the "
        f"name of its repository on the hub, such as {CATALOGUE['gsm8k'].hub}"
    )
