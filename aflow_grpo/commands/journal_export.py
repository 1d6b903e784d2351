"""A directory's journals as Parquet files: calls, rollouts and problems, one row each.

The columns are listed in docs/journal.md. Texts with lone surrogates, which Parquet cannot hold,
get a question mark for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.journal_files import open_to_read
from aflow_grpo.llm.journal_schema import stored_text
from aflow_grpo.problem import Problem
from aflow_grpo.terminal import progress
from aflow_grpo.workbench.journal_figures import StoredRollout, stored_rollouts

__all__ = ["export_parquet"]

_BATCH = 1000
"""Rows in memory at a time."""
_TEXT, _INT, _REAL, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_MOMENT = pa.timestamp("us", tz="UTC")
_CALLS = {
    "key": _TEXT, "run": _TEXT, "execution": _INT, "place": _TEXT, "operator": _TEXT,
    "model": _TEXT, "tier": _TEXT, "attempts": _INT, "answered": _BOOL, "reply": _TEXT,
    "finish_reason": _TEXT, "prompt_tokens": _INT, "completion_tokens": _INT,
    "cached_tokens": _INT, "cost_usd": _REAL, "billed_usd": _REAL, "started": _MOMENT,
    "seconds": _REAL, "fault": _TEXT,
}  # fmt: skip
_ROLLOUTS = {
    "run": _TEXT, "part": _TEXT, "step": _INT, "group": _INT, "member": _INT,
    "problem_id": _TEXT, "dataset": _TEXT, "domain": _TEXT,
    "text": _TEXT, "finished": _BOOL, "context_cut": _BOOL,
    "prompt_ids": pa.list_(pa.int32()), "token_ids": pa.list_(pa.int32()),
    "logprobs": pa.list_(_REAL), "policy_usd": _REAL,
    "graph_code": _TEXT, "prompts": pa.map_(_TEXT, _TEXT), "repaired": _BOOL, "direct": _BOOL,
    "status": _TEXT, "fault_kind": _TEXT, "message": _TEXT, "answer": _TEXT,
    "fallback_answer": _TEXT, "operators": pa.list_(_TEXT),
    "score": _REAL, "correct": _BOOL, "masked": _BOOL,
    "reward": _REAL, "correctness": _REAL, "efficiency": _REAL, "simplicity": _REAL,
    "format": _REAL, "repetition": _REAL, "penalty": _REAL,
    "calls": _INT, "attempts": _INT, "prompt_tokens": _INT, "completion_tokens": _INT,
    "cost_usd": _REAL, "billed_usd": _REAL, "fallback_usd": _REAL, "seconds": _REAL,
}  # fmt: skip
_PROBLEMS = {
    "problem_id": _TEXT, "dataset": _TEXT, "domain": _TEXT, "difficulty": _INT,
    "question": _TEXT, "context": _TEXT, "answer": _TEXT, "alternatives": pa.list_(_TEXT),
    "entry_point": _TEXT, "test_setup": _TEXT, "public_tests": pa.list_(_TEXT),
    "hidden_tests": pa.list_(_TEXT),
}  # fmt: skip
_PARTS_OF_REWARD = (
    "correctness", "efficiency", "simplicity", "format", "repetition", "penalty",
)  # fmt: skip


def export_parquet(paths: Iterable[Path], folder: Path, run: str | None = None) -> dict[Path, int]:
    """Write `calls.parquet`, `rollouts.parquet` and `problems.parquet`; file -> rows.

    Args:
        paths: The journals.
        folder: Made if missing; files of these names there are replaced.
        run: Only this MLflow run; None takes all.

    Raises:
        ConfigError: A journal cannot be read, or the folder cannot be written.
        DataError: A stored rollout cannot be read.
    """
    paths = list(paths)
    problems: dict[Problem, None] = {}

    def rollouts() -> Iterator[dict[str, Any]]:
        for stored in stored_rollouts(paths, run):
            problems[stored.rollout.problem] = None
            yield _rollout(stored)

    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        calls = (row for path in paths for row in _calls(path, run))
        for name, columns, rows in (
            ("calls", _CALLS, lambda: calls),
            ("rollouts", _ROLLOUTS, rollouts),
            ("problems", _PROBLEMS, lambda: map(_problem, problems)),
        ):
            path = folder / f"{name}.parquet"
            written[path] = _write(path, columns, rows)
    except OSError as error:
        raise ConfigError(
            f"--parquet={folder}: cannot be written ({error.strerror or error}). Give a folder "
            "that you may write into, on a disk with room."
        ) from error
    return written


def _write(
    path: Path, columns: Mapping[str, pa.DataType], rows: Callable[[], Iterable[Mapping[str, Any]]]
) -> int:
    """All rows or no file; returns how many."""
    schema, number = pa.schema(list(columns.items())), 0
    part_path = path.with_name(f".{path.name}.part")
    try:
        with (
            pq.ParquetWriter(part_path, schema, compression="zstd") as file,
            progress(f"writing {path.name}", None) as step,
        ):
            left = iter(rows())
            while batch := [{k: _clean(v) for k, v in row.items()} for row in islice(left, _BATCH)]:
                file.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
                number += len(batch)
                step.advance(len(batch))
        part_path.replace(path)
    finally:
        part_path.unlink(missing_ok=True)
    return number


def _clean(value: Any) -> Any:
    """`value` without lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return [_clean(part) for part in value]
    return value


def _calls(path: Path, run: str | None) -> Iterator[dict[str, Any]]:
    names = [name if name != "started" else "started_s" for name in _CALLS]
    select = f"SELECT {', '.join(names)} FROM calls WHERE (:run IS NULL OR run = :run)"
    with closing(open_to_read(path)) as database:
        for values in database.execute(select, {"run": run}):
            row = dict(zip(_CALLS, values, strict=True))
            yield row | {
                "key": row["key"].hex(),
                "answered": bool(row["answered"]),
                "started": round(1e6 * row["started"]),
                "reply": stored_text(row["reply"]),
                "finish_reason": stored_text(row["finish_reason"]),
                "fault": stored_text(row["fault"]),
            }


def _rollout(stored: StoredRollout) -> dict[str, Any]:
    rollout = stored.rollout
    problem, completion, execution = rollout.problem, rollout.completion, rollout.execution
    source, usage = execution.source, execution.usage
    prompts = source.prompts if source is not None else {}
    return {
        "run": stored.run,
        "part": stored.part,
        "step": stored.step,
        "group": rollout.group,
        "member": rollout.member,
        "problem_id": problem.id,
        "dataset": problem.dataset,
        "domain": problem.domain,
        "text": completion.text,
        "finished": completion.finished,
        "context_cut": completion.context_cut,
        "prompt_ids": completion.prompt_ids,
        "token_ids": completion.token_ids,
        "logprobs": completion.logprobs,
        "policy_usd": completion.usage.billed_usd,
        "graph_code": source.graph_code if source is not None else None,
        "prompts": [(_clean(name), _clean(text)) for name, text in prompts.items()],
        "repaired": execution.repaired,
        "direct": execution.direct,
        "status": execution.status.value,
        "fault_kind": execution.fault_kind.value if execution.fault_kind is not None else None,
        "message": execution.message,
        "answer": execution.answer,
        "fallback_answer": execution.fallback_answer,
        "operators": tuple(call.operator for call in execution.calls),
        "score": rollout.score.value,
        "correct": rollout.score.correct,
        "masked": rollout.masked,
        "reward": rollout.reward.total,
        **{name: getattr(rollout.reward, name) for name in _PARTS_OF_REWARD},
        "calls": usage.calls,
        "attempts": usage.attempts,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": usage.cost_usd,
        "billed_usd": usage.billed_usd,
        "fallback_usd": execution.fallback_usage.billed_usd,
        "seconds": execution.seconds,
    }


def _problem(problem: Problem) -> dict[str, Any]:
    row = {name: getattr(problem, name) for name in _PROBLEMS if name != "problem_id"}
    return {"problem_id": problem.id, **row}
