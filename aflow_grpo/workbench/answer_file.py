"""A file of problems in, a file of answers out: resumable, whatever ended it.

Each answer is one JSON line, written whole and handed to the system before the next, in the order
in which they ended; the ids say which problem is whose. What is in the output already is not asked
again, a last line that a kill cut short is. A problem that no endpoint answered leaves no line, so
that the same command asks again. Not here: who answers (`solving`), what a line holds
(`predictions`).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem
from aflow_grpo.workbench.solution import Solution
from aflow_grpo.workbench.solving import Solver

__all__ = ["AnswerFile", "journal_beside"]

_SAMPLES = "samples"
"""In each line: how many the command asked for; 0 for the most probable workflow."""
_SIMULATOR = "simulator"
"""What its tier is called in a row."""


class AnswerFile:
    """A file of answers that is continued; a context manager, which one process enters at a time.

    Args:
        solver: Who answers.
        problems: With different ids.
        output: JSON lines as `Solution.row` gives them; made where it is not there.
        samples: Workflows per problem; 0: the most probable one.

    Raises on entering:
        ConfigError: The output cannot be written, another process is writing it, or it holds
            something else.
        DataError: It answers another question under an id.
    """

    def __init__(
        self, solver: Solver, problems: Sequence[Problem], output: Path, *, samples: int = 0
    ) -> None:
        self._solver = solver
        self._problems = problems
        self._output = output
        self._samples = samples
        self._there: dict[tuple[str, int], dict[str, Any]] = {}
        self._file: IO[bytes] | None = None
        self.rows: list[dict[str, Any]] = []
        """The new lines."""
        self.unanswered: list[str] = []
        """Ids of problems that no endpoint answered."""

    def __enter__(self) -> Self:
        self._file = _open(self._output)
        try:
            known = {problem.id: problem for problem in self._problems}
            self._there = _read(self._file, self._output, known)
            _check_writer(self._solver, self._there, self._problems, self._output)
            _check_kind(self._solver, self._there, self._samples, self._output)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def asked(self) -> int:
        """How many workflows the file is to hold."""
        return len(self._problems) * self._members

    @property
    def skipped(self) -> int:
        """How many it held already."""
        return sum(key in self._there for problem in self._problems for key in self._keys(problem))

    def answer(self) -> Iterator[Solution]:
        """Answer what is missing, each on the disk when it is yielded.

        Raises:
            AFlowError: As `Solver.solve_many`.
        """
        assert self._file is not None, "AnswerFile is used before it is entered"
        # Of all: what it knows decides which of the journal's answers are its own.
        self._solver.tell(self._problems)
        for solution in self._solver.solve_many(self._left, samples=self._samples):
            row = {**solution.row(), _SAMPLES: self._samples}
            if (row["id"], row["member"]) in self._there:
                continue  # of a problem whose other samples were missing
            if solution.rollout.masked and solution.answer is None:
                self.unanswered.append(row["id"])
            else:
                self._file.write((json.dumps(row) + "\n").encode())
                self._file.flush()
                self.rows.append(row)
            yield solution

    @property
    def _members(self) -> int:
        return max(self._samples, 1)

    @property
    def _left(self) -> list[Problem]:
        return [p for p in self._problems if not all(k in self._there for k in self._keys(p))]

    def _keys(self, problem: Problem) -> list[tuple[str, int]]:
        return [(problem.id, member) for member in range(self._members)]


def journal_beside(output: Path) -> Path:
    """Where the executor's answers of an output file are kept."""
    return output.with_name(f"{output.name}.journal.db")


def _open(output: Path) -> IO[bytes]:
    """The file, to be read and appended to, and locked until it is closed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = output.open("a+b")
    except OSError as error:
        raise ConfigError(
            f"--output={output}: cannot be written ({error.strerror or error}). Give a file that "
            "you may write, e.g. --output answers.jsonl."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"--output={output}: another process is writing it. Wait for its end, or give another "
            "--output."
        ) from None
    return file


def _read(
    file: IO[bytes], output: Path, problems: dict[str, Problem]
) -> dict[tuple[str, int], dict[str, Any]]:
    """The lines that are there by id and member; half a last line is cut off."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for number, line in enumerate(content[:whole].split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key = (str(row["id"]), int(row["member"]))
            question = row["question"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"--output={output}: line {number} is no answer of this verb, so the file is left "
                "as it is. Give another --output."
            ) from None
        asked = problems.get(key[0])
        if asked is not None and asked.question != question:
            raise DataError(
                f"--output={output}: line {number} answers another question under the id "
                f"{key[0]!r}. Give another --output, or ids that differ."
            )
        rows[key] = row
    if whole < len(content):
        file.truncate(whole)
    return rows


def _check_writer(
    solver: Solver,
    there: dict[tuple[str, int], dict[str, Any]],
    problems: Sequence[Problem],
    output: Path,
) -> None:
    """Refuse to mix the answers of two policies in one file."""
    for problem in problems:
        now = solver.written_by(problem.domain)
        others = {
            str(row.get("written_by"))
            for row in there.values()
            if row.get("domain") == problem.domain
        } - {now}
        if others:
            raise ConfigError(
                f"--output={output}: its answers are of {min(others)}, and this command's would be "
                f"of {now}. Give another --output."
            )


def _check_kind(
    solver: Solver, there: dict[tuple[str, int], dict[str, Any]], samples: int, output: Path
) -> None:
    """Refuse to mix made-up answers with real ones, and most probable workflows with sampled."""
    for row in there.values():
        tiers = row.get("tiers") or ()
        if tiers and (_SIMULATOR in tiers) != solver.simulated:
            kinds = ("the simulated executor", "a real one")
            old, new = kinds if _SIMULATOR in tiers else kinds[::-1]
            raise ConfigError(
                f"--output={output}: its answers are of {old}, and this command's would be of "
                f"{new}. Give another --output."
            )
        if (row.get(_SAMPLES, samples) == 0) != (samples == 0):
            raise ConfigError(
                f"--output={output}: its answers are of --samples {row[_SAMPLES]}, and 0 takes the "
                "most probable workflow instead of sampled ones. Give another --output."
            )
