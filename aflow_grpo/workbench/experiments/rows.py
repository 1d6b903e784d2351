"""Executed workflows as plain records: what every table of an experiment is made of.

One row is one workflow on one problem, in one arm and replicate. Rows are read from the journals of
an arm's evaluations and kept as JSON lines, so that a table can be made again without them. Not
here: the figures (`tables`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from aflow_grpo.errors import DataError
from aflow_grpo.llm.journal_files import journal_paths
from aflow_grpo.records import Rollout
from aflow_grpo.whole_file import WholeFile
from aflow_grpo.workbench.journal_figures import stored_rollouts

__all__ = ["Mode", "Row", "evaluation_rows", "read_rows", "row_of", "write_rows"]

Mode = Literal["sampled", "greedy", "fixed"]


@dataclass(frozen=True)
class Row:
    """One executed workflow."""

    arm: str
    replicate: int
    """The repetition, over seeds and warm starts."""
    set: str
    """Which problems."""
    problem: str
    dataset: str
    domain: str
    mode: Mode
    """Sampled at temperature 1, the most probable one, or one that no policy wrote."""
    member: int
    direct: bool
    """It ran as it was written."""
    fallback: bool
    """The fixed workflow answered in its place."""
    correct: bool
    value: float
    """The score in [0, 1]."""
    reward: float
    """In [-10, 10]."""
    cost_usd: float
    """List cost of the workflow itself, the fallback's besides."""
    calls: int
    """Operator calls."""
    status: str
    fault: str
    """What was wrong; empty where it ran."""


def row_of(rollout: Rollout, arm: str, replicate: int, judged_on: str, mode: Mode) -> Row:
    """The row of a rollout."""
    problem, execution = rollout.problem, rollout.execution
    return Row(
        arm,
        replicate,
        judged_on,
        problem.id,
        problem.dataset,
        problem.domain,
        mode,
        rollout.member,
        execution.direct,
        execution.answered_by == "fallback" or not execution.direct,
        rollout.score.correct,
        rollout.score.value,
        rollout.reward.total,
        (execution.usage + execution.fallback_usage).cost_usd,
        len(execution.calls),
        execution.status.value,
        execution.fault_kind.value if execution.fault_kind is not None else "",
    )


def evaluation_rows(folder: Path, arm: str, replicate: int, judged_on: str) -> list[Row]:
    """The rows of the full evaluation whose journal lies in `folder`.

    Masked rollouts, for which no endpoint answered, are no rows.

    Raises:
        DataError: There are none.
    """
    journals = journal_paths(folder)
    modes: dict[str, Mode] = {"val": "sampled", "val/greedy": "greedy"}
    rows = {}
    for stored in stored_rollouts(journals, parts=modes) if journals else ():
        rollout = stored.rollout
        if not rollout.masked:
            # An evaluation that was stopped and begun anew has some of them twice.
            place = stored.part, rollout.problem.id, rollout.member
            rows[place] = row_of(rollout, arm, replicate, judged_on, modes[stored.part])
    if not rows:
        raise DataError(
            f"{folder}: no stored rollouts of an evaluation, expected those of `validate`. Remove "
            "the folder, and the experiment makes it anew."
        )
    return list(rows.values())


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Keep rows as JSON lines, whole or not at all."""
    whole = WholeFile.at(path)
    with whole.part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row)) + "\n")
    whole.keep()


def read_rows(paths: Sequence[Path]) -> list[Row]:
    """The rows of files that `write_rows` made.

    Raises:
        DataError: A line is no row.
    """
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}:{number}: no row of an experiment ({error}).") from error
    return rows
