"""A benchmark's files made into `train`, `val` and `test` of the unified format, with a manifest.

In this order: read, remove copies, remove pool problems that give a held-out one away, deal out
whole clusters, remove training problems that give a validation or test problem away, write. The
same input and settings make the same bytes. A folder appears whole or not at all.

Not covered: mixing benchmarks; that is the sampler's task.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_grpo.data.catalogue import Benchmark
from aflow_grpo.data.inputs import Input, Origin
from aflow_grpo.data.jsonl import write_problems
from aflow_grpo.data.leaks import LeakReport, find_leaks
from aflow_grpo.data.splits import Shares, Splits, split_problems, without_copies
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem

__all__ = ["MANIFEST", "Prepared", "check_target", "counts", "deal_out", "write_prepared"]

MANIFEST = "manifest.json"
_FILES = frozenset({"train.jsonl", "val.jsonl", "test.jsonl", MANIFEST})


@dataclass(frozen=True)
class Prepared:
    """One benchmark, dealt out but not yet written."""

    entry: Benchmark
    origin: Origin
    inputs: tuple[Input, ...]
    """The files whose problems were dealt out."""
    shares: Shares
    splits: Splits
    copies: Mapping[str, str]
    """Id of each removed copy -> id of the problem that was kept."""
    outside: LeakReport
    """Problems of the pool that gave away a held-out one; removed before the splits were made."""
    inside: LeakReport
    """Training problems that gave away one of the new validation or test; removed."""

    @property
    def removed(self) -> frozenset[str]:
        """Ids of the problems that were read and are in no split."""
        return frozenset(self.copies) | self.outside.leaking | self.inside.leaking


def deal_out(
    entry: Benchmark,
    origin: Origin,
    inputs: Sequence[Input],
    held_out: Mapping[str, Sequence[Problem]],
    shares: Shares,
) -> Prepared:
    """Copies and leaks removed, the rest in splits.

    Args:
        entry: Which benchmark.
        origin: Where its files come from.
        inputs: All its files. Where some are pools, these are dealt out to all three splits and the
            held-out ones are only compared with; else the held-out ones are dealt out to
            validation and test.
        held_out: All held-out sets known, of every benchmark: name -> problems.
        shares: How to deal out.

    Raises:
        DataError: A split gets no problem.
    """
    pools = tuple(i for i in inputs if i.role == "pool")
    used = pools or tuple(inputs)
    kept, copies = without_copies([problem for i in used for problem in i.problems])
    outside = find_leaks(kept, held_out if pools else {})
    clean = [problem for problem in kept if problem.id not in outside.leaking]
    splits = split_problems(clean, shares, train=bool(pools))
    inside = find_leaks(splits.train, {"val": splits.val, "test": splits.test}, contexts=False)
    train = tuple(problem for problem in splits.train if problem.id not in inside.leaking)
    if pools and not train:
        raise DataError(
            f"{entry.name}: every training problem gives away a validation or test problem, "
            "expected some to be left; give another pool"
        )
    return Prepared(
        entry=entry,
        origin=origin,
        inputs=used,
        shares=shares,
        splits=dataclasses.replace(splits, train=train),
        copies=copies,
        outside=outside,
        inside=inside,
    )


def check_target(target: Path, *, overwrite: bool) -> None:
    """Whether `target` may be written to; cheap, so that it can be asked before the work.

    Raises:
        DataError: Something is there and `overwrite` is not set, or it is not what `prepare` made.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: found a file, expected a folder or nothing; move it away")
    present = sorted(path.name for path in target.iterdir())
    foreign = [name for name in present if name not in _FILES]
    if foreign:
        raise DataError(
            f"{target}: found {', '.join(foreign[:5])}, expected an empty folder or what an "
            "earlier `data prepare` made; move it away or give another --output_dir"
        )
    if present and not overwrite:
        raise DataError(
            f"{target}: found {', '.join(present)} of an earlier run, expected nothing; add "
            "--overwrite to make them anew, or give another --output_dir"
        )


def write_prepared(prepared: Prepared, output_dir: Path, *, overwrite: bool = False) -> Path:
    """Write ``<output_dir>/<name>/`` and return it.

    The files are made in a hidden folder beside it, which then takes its place: a run that is
    killed leaves the earlier files or the new ones, never half of them.

    Raises:
        DataError: As `check_target`.
    """
    target = output_dir / prepared.entry.name
    partial = output_dir / f".{prepared.entry.name}.partial"
    previous = output_dir / f".{prepared.entry.name}.previous"
    if previous.exists() and not target.exists():
        previous.rename(target)
    check_target(target, overwrite=overwrite)
    for left_over in (partial, previous):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    outputs = {}
    for split, problems in prepared.splits.named().items():
        if problems:
            path = partial / f"{split}.jsonl"
            write_problems(path, problems)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            outputs[path.name] = {"problems": len(problems), "sha256": digest}
    text = json.dumps(_manifest(prepared, outputs), indent=2, ensure_ascii=False) + "\n"
    (partial / MANIFEST).write_bytes(text.encode())
    if target.exists():
        target.rename(previous)
    partial.rename(target)
    shutil.rmtree(previous, ignore_errors=True)
    return target


def _manifest(prepared: Prepared, outputs: Mapping[str, Any]) -> dict[str, Any]:
    entry, origin, splits = prepared.entry, prepared.origin, prepared.splits
    return {
        "format": "aflow-grpo prepared data 1",
        "dataset": entry.name,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "origin": {
            "kind": origin.kind,
            "repository": origin.repository,
            "config": entry.config if origin.repository else "",
            "commit": origin.commit,
        },
        "inputs": [
            {
                "file": i.name,
                "role": i.role,
                "sha256": i.sha256,
                "problems": len(i.problems),
                "bad_rows": list(i.bad_rows),
            }
            for i in prepared.inputs
        ],
        "settings": dataclasses.asdict(prepared.shares),
        "counts": counts(prepared),
        "clusters": {"number": splits.clusters, "largest": splits.largest},
        "outputs": outputs,
        "known_overlaps": list(entry.overlaps),
        "leaks": {
            "held_out": _sets(prepared.outside),
            "val_and_test": _sets(prepared.inside),
            "removed": [
                dataclasses.asdict(leak)
                for report in (prepared.outside, prepared.inside)
                for leak in report.leaks
            ],
        },
        "copies": dict(prepared.copies),
    }


def counts(prepared: Prepared) -> dict[str, int]:
    """Problems per stage: what was read is the sum of the splits and of what was removed."""
    inputs = prepared.inputs
    return {
        "rows": sum(len(i.problems) + len(i.bad_rows) for i in inputs),
        "bad_rows": sum(len(i.bad_rows) for i in inputs),
        "copies_removed": len(prepared.copies),
        "leaks_removed_from_pool": len(prepared.outside.leaks),
        "leaks_removed_from_train": len(prepared.inside.leaks),
        **{split: len(found) for split, found in prepared.splits.named().items()},
    }


def _sets(report: LeakReport) -> list[dict[str, Any]]:
    return [
        {
            "set": name,
            "problems": size,
            "given_away": report.given_away[name],
            "removed_for_it": _by_kind(leak.kind for leak in report.leaks if leak.source == name),
        }
        for name, size in report.sizes.items()
    ]


def _by_kind(kinds: Iterable[str]) -> dict[str, int]:
    found = list(kinds)
    return {kind: found.count(kind) for kind in sorted(set(found))}
