"""Simulated beside recorded: what a row says, and a small run of the whole measurement."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.calibration import (
    SHORT,
    calibrate,
    main,
    population,
    with_figures,
)
from aflow_grpo.evaluation.comparison import Row, misses, render
from aflow_grpo.evaluation.recorded import RECORDED_DATASETS

DATA = os.environ.get("AFLOW_GRPO_DATA", "")
with_data = pytest.mark.skipif(not DATA, reason="AFLOW_GRPO_DATA names no folder of data sets")

SPREAD = {"level": 0.5, "contrast": 0.7}
"""Most that one problem's score, or a difference of two, spreads."""


def test_a_row_is_missed_beyond_its_tolerance() -> None:
    assert Row("MATH", "contrast", "x", 0.10, 0.14, None, 0.03).missed
    assert not Row("MATH", "contrast", "x", 0.10, 0.12, None, 0.03).missed
    assert not Row("MATH", "cost", "x", 0.10, 0.90).missed


def test_the_weighted_value_counts_where_there_is_one() -> None:
    row = Row("GSM8K", "contrast", "x", 0.05, 0.01, 0.04, 0.03)
    assert row.difference == pytest.approx(-0.01)
    assert not row.missed


def test_a_figure_that_could_not_be_measured_is_missed() -> None:
    assert Row("MATH", "contrast", "x", 0.1, float("nan"), None, 0.03).missed


def test_the_table_has_a_section_per_kind_and_marks_misses() -> None:
    rows = [
        Row("MATH", "level", "one call", 0.5, 0.6, None, 0.02, 0.011),
        Row("DROP", "cost", "tokens", 65.0, 64.0),
    ]
    text = render(rows)
    assert "### One-call accuracy" in text and "### Tokens and USD" in text
    assert "| MATH | one call | 0.500 | 0.600 |  | +0.100 **missed** | 0.011 | 0.02 |" in text
    assert misses(rows) == rows[:1]


def test_rows_that_were_kept_are_shown_and_put_into_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("MATH", "level", "one call", 0.5, 0.51, None, 0.02)]
    (tmp_path / "rows.json").write_text(json.dumps([asdict(row) for row in rows]))
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- figures -->\nold\n<!-- end of figures -->\nAfter\n")
    assert main(["--rows", str(tmp_path / "rows.json"), "--page", str(page)]) == 0
    assert "1 of 1 figures are within tolerance" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("Before\n<!-- figures -->\n\n1 of 1")
    assert "old" not in text and text.endswith("<!-- end of figures -->\nAfter\n")


def test_a_page_without_a_place_is_left_alone() -> None:
    with pytest.raises(ConfigError, match="--page: expected a page with the lines"):
        with_figures("no place", "figures")


def test_without_data_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AFLOW_GRPO_DATA", raising=False)
    with pytest.raises(SystemExit):
        main(["--short"])
    assert "AFLOW_GRPO_DATA is not set" in capsys.readouterr().err


@with_data
def test_few_texts_come_with_many_seeds() -> None:
    pairs = population("HumanEval", Path(DATA), 100, 7)
    assert len(pairs) == 100 == len({(problem.id, seed) for problem, seed in pairs})
    assert Counter(seed for _, seed in pairs)[7] == 33
    assert {seed for _, seed in pairs} == {7, 8, 9, 10}


@with_data
def test_a_small_run_shows_no_gross_miss() -> None:
    """One-call accuracies and contrasts, within tolerance and three standard errors."""
    rows = calibrate(Path(DATA), SHORT, seed=500)
    assert {row.dataset for row in rows} == set(RECORDED_DATASETS)
    for row in rows:
        if row.kind in SPREAD and row.tolerance is not None:
            margin = row.tolerance + 3 * SPREAD[row.kind] / SHORT.problems**0.5
            assert abs(row.difference) <= margin, row
    assert {"headroom", "noise", "agreement", "cost"} <= {row.kind for row in rows}
