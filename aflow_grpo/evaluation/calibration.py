"""Simulated beside recorded: every figure that the simulator promises, by one code for both.

    AFLOW_GRPO_DATA=FOLDER python -m aflow_grpo.evaluation.calibration [--json FILE] [--page FILE]

A simulated problem is a real problem's text and a seed of the simulator, so that 33 texts give
2,000 problems. The recorded subsets were picked for difficulty; where a figure hangs on that, the
simulated problems are weighted until one anchor workflow has its recorded accuracy, and both values
are shown. Seeds below 1000 are for development.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from aflow_grpo.data.sources import DATA_VARIABLE, DataSource, load_source
from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.comparison import (
    Row,
    agreement_rows,
    contrast_rows,
    cost_rows,
    headroom_rows,
    level_rows,
    misses,
    noise_rows,
    render,
)
from aflow_grpo.evaluation.families import ONE_CALL_WORKFLOW, SHORT_ONE_CALL, workflows_for
from aflow_grpo.evaluation.published import contrasts_of
from aflow_grpo.evaluation.recorded import RECORDED_DATASETS, Recorded, read_recorded
from aflow_grpo.evaluation.recorded_figures import SIMPLE, visible_areas
from aflow_grpo.evaluation.simulate import simulate
from aflow_grpo.evaluation.visibility import auc, text_scale, text_score
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.records import Problem

__all__ = ["SHORT", "Size", "calibrate", "main", "population", "with_figures"]

_FIRST_SEED = 1000
_PLACE = ("<!-- figures -->", "<!-- end of figures -->")
_VISIBILITIES = (0.0, 1.0, 2.0)
_FORMAT = "aflow_format/"
_SOURCES = {
    "GSM8K": DataSource("gsm8k", path="gsm8k/train.jsonl", limit=2000),
    "MATH": DataSource("math", path=f"{_FORMAT}math_validate.jsonl"),  # level 5, as recorded
    "HumanEval": DataSource(
        "humaneval",
        path=f"{_FORMAT}humaneval_validate.jsonl",
        public_tests=f"{_FORMAT}humaneval_public_test.jsonl",
    ),
    "MBPP": DataSource("mbpp", path="mbpp/mbpp_pool.jsonl"),
    "DROP": DataSource("drop", path="drop/drop_pool.jsonl.gz"),
    "HotpotQA": DataSource("hotpotqa", path=f"{_FORMAT}hotpotqa_validate.jsonl"),
}


@dataclass(frozen=True)
class Size:
    """How much is simulated, per dataset."""

    problems: int = 2000
    """For one-call accuracy, contrasts, costs and visibility."""
    repeats: int = 1
    deep_problems: int = 600
    """For headroom, noise and agreement: all workflows, five repeats."""
    visibilities: tuple[float, ...] = _VISIBILITIES


SHORT = Size(150, 1, 12, ())
"""Half a minute: gross mistakes only."""
_DEEP_REPEATS = 5


def calibrate(
    folder: Path,
    size: Size = Size(),
    *,
    datasets: Sequence[str] = RECORDED_DATASETS,
    seed: int = _FIRST_SEED,
    workers: int = 2,
) -> list[Row]:
    """All figures of these datasets.

    Args:
        folder: The folder of real data, with `recorded_runs/`.
        size: How much is simulated.
        datasets: Which; the heaviest first finishes soonest.
        seed: The first seed of the simulator.
        workers: Processes.
    """
    if workers == 1:
        return [row for name in datasets for row in _dataset_rows(name, folder, size, seed)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_dataset_rows, name, folder, size, seed) for name in datasets]
        return [row for future in futures for row in future.result()]


def population(dataset: str, folder: Path, size: int, seed: int) -> list[tuple[Problem, int]]:
    """Pairs of a problem and a seed: all texts with the first seed, then with the next."""
    source = _SOURCES[dataset]
    public = str(folder / source.public_tests) if source.public_tests else ""
    problems = load_source(replace(source, path=str(folder / source.path), public_tests=public))
    order = np.random.default_rng(seed).permutation(len(problems))
    rounds = math.ceil(size / len(problems))
    pairs = [(problems[p], seed + r) for r in range(rounds) for p in order]
    return pairs[:size]


def _dataset_rows(dataset: str, folder: Path, size: Size, seed: int) -> list[Row]:
    everything = read_recorded(folder / "recorded_runs")
    recorded = everything[dataset]
    pairs = population(dataset, folder, size.problems, seed)
    workflows = workflows_for(dataset)
    named = {name for c in contrasts_of(dataset) for name in (*c.parents, *c.children)}
    wide_names = [
        name
        for name in workflows
        if name in named | {ONE_CALL_WORKFLOW, SHORT_ONE_CALL, SIMPLE[dataset]}
    ]
    wide = simulate(
        dataset, pairs, {name: workflows[name] for name in wide_names}, repeats=size.repeats
    )
    deep_pairs = _spread(pairs, size.deep_problems)
    deep = simulate(dataset, deep_pairs, workflows, repeats=_DEEP_REPEATS)
    return [
        *level_rows(dataset, wide),
        *contrast_rows(dataset, recorded, wide),
        *headroom_rows(dataset, recorded, deep),
        *noise_rows(dataset, recorded, deep),
        *agreement_rows(dataset, deep),
        *cost_rows(dataset, recorded, wide, deep),
        *_visibility_rows(dataset, everything, pairs, size.visibilities),
    ]


def _spread(pairs: list[tuple[Problem, int]], size: int) -> list[tuple[Problem, int]]:
    """Every so-manieth pair, so that all texts and seeds are among them."""
    step = max(1, len(pairs) // size)
    return pairs[::step][:size]


def _visibility_rows(
    dataset: str,
    everything: Mapping[str, Recorded],
    pairs: list[tuple[Problem, int]],
    visibilities: Sequence[float],
) -> list[Row]:
    if not visibilities:
        return []
    told = visible_areas(everything)[dataset]
    simple = {SIMPLE[dataset]: workflows_for(dataset)[SIMPLE[dataset]]}
    questions = [problem.question for problem, _ in pairs]
    scale = text_scale(questions)
    looks = np.array([text_score(question, scale) for question in questions])
    rows = []
    for visibility in visibilities:
        settings = SimulatorSettings(visibility=visibility)
        outcome = simulate(dataset, pairs, simple, repeats=1, settings=settings)
        area = auc(outcome.table.scores_PWR[:, 0, 0] < 0.5, looks).value
        # At other factors than 1 the recorded distance from chance is what is scaled.
        expected = 0.5 + visibility * (told - 0.5)
        label, tolerance = f"AUC of the text at {visibility:g} x", 0.03 if visibility == 1 else None
        rows.append(Row(dataset, "visibility", label, expected, area, None, tolerance))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a figure is out of tolerance, else 0."""
    given = _arguments(argv)
    start = time.perf_counter()
    if given.rows:
        rows = [Row(**fields) for path in given.rows for fields in json.loads(path.read_text())]
    else:
        size = SHORT if given.short else Size(given.problems, deep_problems=given.deep)
        folder = Path(os.environ[DATA_VARIABLE])
        rows = calibrate(folder, size, datasets=given.datasets, seed=given.seed)
    missed = misses(rows)
    asked = sum(row.tolerance is not None for row in rows)
    text = f"{asked - len(missed)} of {asked} figures are within tolerance.\n{render(rows)}"
    print(f"{text}\n\n{time.perf_counter() - start:.0f} s")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if given.page:
        given.page.write_text(with_figures(given.page.read_text(), text))
    return int(bool(missed))


def with_figures(page: str, figures: str) -> str:
    """The page with these figures in the place of those that it has.

    Raises:
        ConfigError: It has no place for them.
    """
    start, end = page.find(_PLACE[0]), page.find(_PLACE[1])
    if not 0 <= start < end:
        raise ConfigError(f"--page: expected a page with the lines {_PLACE[0]} and {_PLACE[1]}")
    return f"{page[: start + len(_PLACE[0])]}\n\n{figures.strip()}\n\n{page[end:]}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a smoke run of half a minute")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--page", type=Path, help="put the tables into this page's place for them")
    parser.add_argument("--rows", type=Path, nargs="*", help="show rows written by --json instead")
    parser.add_argument("--seed", type=int, default=_FIRST_SEED, help="first simulator seed")
    parser.add_argument("--datasets", nargs="*", default=RECORDED_DATASETS)
    parser.add_argument("--problems", type=int, default=Size.problems)
    parser.add_argument("--deep", type=int, default=Size.deep_problems)
    given = parser.parse_args(argv)
    if not given.rows and not os.environ.get(DATA_VARIABLE):
        parser.error(f"{DATA_VARIABLE} is not set: it names the folder of real data")
    return given


if __name__ == "__main__":
    sys.exit(main())
