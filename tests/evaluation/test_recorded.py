"""The recorded runs: reading made files with their quirks, and the real ones' published figures."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from aflow_grpo.errors import DataError
from aflow_grpo.evaluation.headroom import headroom
from aflow_grpo.evaluation.published import AGREEMENT, CONTRASTS, ONE_CALL
from aflow_grpo.evaluation.recorded import RECORDED_DATASETS, Recorded, read_recorded
from aflow_grpo.evaluation.recorded_figures import contrast_figures, family, visible_areas
from aflow_grpo.evaluation.structure import noise

DATA = os.environ.get("AFLOW_GRPO_DATA", "")
with_data = pytest.mark.skipif(not DATA, reason="AFLOW_GRPO_DATA names no folder of data sets")


def write_folder(folder: Path, *, title: str = "", end: str = "\n") -> Path:
    """Two problems and two workflows per dataset, four repeats, and one that was run once."""
    scores, costs, operators, problems = [], [], [], []
    for dataset in RECORDED_DATASETS:
        for workflow, repeats in (("1", 4), ("2", 4), ("3", 1)):
            operators.append(f"{dataset},{workflow},custom* sc_ensemble")
            for repeat in range(1, repeats + 1):
                costs.append(f"{dataset},{workflow},{repeat},2,0.0{workflow}")
                for problem in ("p", "q"):
                    score = float((problem == "p" and workflow == "1") or repeat > 2)
                    scores.append(f"{dataset},{workflow},{repeat},{dataset}-{problem},{score}")
        for problem in ("p", "q"):
            row = {"problem_id": f"{dataset}-{problem}", "dataset": dataset, "question": problem}
            problems.append(json.dumps(row))
    head = [title] if title else []
    for name, first, lines in (
        ("scores.csv.gz", "dataset,workflow,repeat,problem_id,score", scores),
        ("run_costs.csv", "dataset,workflow,repeat,problems,total_cost_usd", costs),
        ("workflows.csv", "dataset,workflow,operator_calls", operators),
        ("problems.jsonl.gz", "", problems),
    ):
        text = end.join([*([*head, first] if first else []), *lines]) + end
        raw = text.encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


@pytest.mark.parametrize(("title", "end"), [("", "\n"), ("Runs of 2024", "\r\n")])
def test_a_folder_is_read_whatever_its_line_ends_and_titles(
    tmp_path: Path, title: str, end: str
) -> None:
    found = read_recorded(write_folder(tmp_path, title=title, end=end))["DROP"]
    assert found.table.workflows == ("io", "2")  # the third was run once only
    assert found.table.scores_PWR.shape == (2, 2, 4)
    assert found.table.mean("io") == pytest.approx((4 + 2) / 8)
    assert found.table.usd("2") == pytest.approx(0.01)
    assert found.questions == ("p", "q")
    assert found.operators["io"] == ("custom*", "sc_ensemble")


def test_a_missing_file_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"problems\.jsonl\.gz is missing; point AFLOW_GRPO_DATA"):
        read_recorded(tmp_path)


def test_a_file_without_header_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "workflows.csv").write_text("DROP,1,custom\n")
    with pytest.raises(DataError, match=r"workflows\.csv: no header line"):
        read_recorded(tmp_path)


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ("custom", "written"),
        ("custom* sc_ensemble", "samples"),
        ("custom* sc_ensemble programmer", "program+samples"),
        ("programmer custom", "program"),
        ("custom_code_generate", "one"),
        ("custom_code_generate test custom", "one+test"),
        ("custom_code_generate custom test custom", "one+rewrite+test"),
        ("custom_code_generate* sc_ensemble custom test custom", "samples+rewrite+test"),
    ],
)
def test_families_follow_the_operators(operators: str, expected: str) -> None:
    assert family(tuple(operators.split())) == expected


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recorded]:
    return read_recorded(Path(DATA) / "recorded_runs")


PUBLISHED_HEADROOM = {
    # best single, top 3, all, best on the other half, its USD, thrifty, its USD
    "DROP": (0.762, -0.001, 0.044, 0.760, 0.00079, 0.751, 0.00022),
    "GSM8K": (0.906, 0.019, 0.041, 0.902, 0.00205, 0.913, 0.00127),
    "HotpotQA": (0.633, 0.053, 0.096, 0.622, 0.00260, 0.652, 0.00094),
    "HumanEval": (0.953, 0.001, 0.023, 0.935, 0.00050, 0.944, 0.00027),
    "MATH": (0.551, 0.030, 0.055, 0.537, 0.00364, 0.526, 0.00086),
    "MBPP": (0.842, 0.004, 0.009, 0.833, 0.00091, 0.841, 0.00020),
}
"""An independent computation on the same files, of which only these figures were kept."""


@with_data
@pytest.mark.parametrize("dataset", RECORDED_DATASETS)
def test_headroom_repeats_the_figures_computed_before(
    recorded: dict[str, Recorded], dataset: str
) -> None:
    found = headroom(recorded[dataset].table)
    expected = PUBLISHED_HEADROOM[dataset]
    accuracies = (found.best_mean, found.gain_top3, found.gain_all, found.best, found.thrifty)
    assert accuracies == pytest.approx((*expected[:4], expected[5]), abs=0.006)
    assert (found.best_usd, found.thrifty_usd) == pytest.approx((expected[4], expected[6]), rel=0.1)


@with_data
def test_sizes_and_levels_are_those_of_the_files(recorded: dict[str, Recorded]) -> None:
    sizes = {name: each.table.scores_PWR.shape for name, each in recorded.items()}
    assert sizes == {
        "GSM8K": (100, 24, 5), "MATH": (119, 17, 5), "HumanEval": (30, 21, 5),
        "MBPP": (86, 19, 5), "DROP": (68, 21, 5), "HotpotQA": (68, 21, 5),
    }  # fmt: skip
    for name in ("HumanEval", "MBPP", "DROP", "HotpotQA"):
        assert recorded[name].table.mean("io") == pytest.approx(ONE_CALL[name].raw, abs=1e-3)
        assert recorded[name].table.usd("io") == pytest.approx(ONE_CALL[name].usd, rel=0.01)


@with_data
def test_contrasts_have_the_reported_sizes(recorded: dict[str, Recorded]) -> None:
    sizes = {
        (name, each.name): each.difference.value
        for name, one in recorded.items()
        for each in contrast_figures(one.table)
    }
    assert len(sizes) == len(CONTRASTS)
    for key, expected in {
        ("DROP", "AnswerGenerate and a short format"): 0.679,
        ("HotpotQA", "three samples, SC, better format"): 0.230,
        ("GSM8K", "three samples and SC"): 0.048,
        ("GSM8K", "then Programmer"): 0.046,
        ("MATH", "three samples and SC alone"): -0.054,
        ("MATH", "then four diverse and SC"): 0.027,
        ("MBPP", "Test and fixing"): 0.107,
        ("HumanEval", "a rewrite alone"): -0.28,
    }.items():
        assert sizes[key] == pytest.approx(expected, abs=0.002)


@with_data
def test_noise_is_near_what_was_reported(recorded: dict[str, Recorded]) -> None:
    for name, (right, wrong) in {"GSM8K": (0.9, 0.09), "MBPP": (0.83, 0.15)}.items():
        found = noise(recorded[name].table.within(0.1))
        assert found.always_right + found.always_wrong == pytest.approx(right + wrong, abs=0.1)
    assert AGREEMENT["MATH"].agree < AGREEMENT["GSM8K"].agree


@with_data
def test_failure_shows_in_the_text_where_it_does(recorded: dict[str, Recorded]) -> None:
    areas = visible_areas(recorded)
    assert areas["MATH"] > 0.6 and areas["DROP"] > 0.6
    assert abs(areas["MBPP"] - 0.5) < 0.05 and abs(areas["HotpotQA"] - 0.5) < 0.05
    assert not any(np.isnan(list(areas.values())))
