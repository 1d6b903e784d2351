"""Executed workflows as rows, from journals and from files."""

from dataclasses import replace
from pathlib import Path

import pytest
from journaled_world import INVALID, PROBLEM, RIGHT, batch, write
from made_rows import made

from aflow_grpo.errors import DataError
from aflow_grpo.records import Execution, Status
from aflow_grpo.workbench.experiments.rows import (
    Row,
    evaluation_rows,
    read_rows,
    row_of,
    write_rows,
)


def test_worked_row() -> None:
    row = row_of(RIGHT, "full", 101, "new", "sampled")
    assert row == Row(
        "full", 101, "new", PROBLEM.id, "sample", "math", "sampled", 0, True, False, True, 1.0,
        9.5, 3e-4, 3, "ok", "",
    )  # fmt: skip


def test_what_did_not_run_is_the_fallbacks() -> None:
    row = row_of(INVALID, "full", 0, "new", "greedy")
    assert (row.direct, row.fallback, row.correct) == (False, True, False)
    assert (row.status, row.fault, row.reward) == ("invalid", "no_workflow", -7.5)


def test_the_fallbacks_cost_is_in_the_row() -> None:
    spent = replace(INVALID.execution, fallback_usage=replace(RIGHT.execution.usage, cost_usd=0.5))
    assert row_of(replace(INVALID, execution=spent), "a", 0, "new", "greedy").cost_usd == 0.5


def test_an_evaluation_is_read_from_its_journal(tmp_path: Path) -> None:
    masked = replace(RIGHT, member=2, execution=Execution(Status.UNAVAILABLE, None))
    write(
        tmp_path / "journal.db",
        [],
        batch("r", "train", RIGHT),
        batch("r", "val", RIGHT, INVALID, masked),
        batch("r", "val/greedy", RIGHT),
    )
    rows = evaluation_rows(tmp_path, "full", 3, "new")
    assert [(row.mode, row.member, row.correct) for row in rows] == [
        ("sampled", 0, True), ("sampled", 1, False), ("greedy", 0, True),
    ]  # fmt: skip
    assert {(row.arm, row.replicate, row.set) for row in rows} == {("full", 3, "new")}


def test_an_evaluation_begun_anew_counts_once(tmp_path: Path) -> None:
    stopped, whole = batch("stopped", "val", RIGHT), batch("whole", "val", RIGHT, INVALID)
    write(tmp_path / "journal.db", [], stopped, whole)
    assert [row.member for row in evaluation_rows(tmp_path, "full", 0, "new")] == [0, 1]


def test_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored rollouts of an evaluation"):
        evaluation_rows(tmp_path, "full", 0, "new")
    write(tmp_path / "journal.db", [], batch("r", "train", RIGHT))
    with pytest.raises(DataError, match="no stored rollouts of an evaluation"):
        evaluation_rows(tmp_path, "full", 0, "new")


def test_rows_survive_their_file(tmp_path: Path) -> None:
    odd = [made(problem="math/\ud83d\u2028\n"), made(fault="é", cost_usd=0.1 + 0.2)]
    first, other = tmp_path / "deep" / "rows.jsonl", tmp_path / "other.jsonl"
    write_rows(first, odd)
    write_rows(other, [made()])
    assert read_rows([first, other]) == [*odd, made()]


@pytest.mark.parametrize("line", ["{", "[]", '{"arm": "a"}', '{"nonsense": 1}'])
def test_a_line_that_is_no_row(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [made()])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: no row"):
        read_rows([path])
