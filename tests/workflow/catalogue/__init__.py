"""Sound and faulty workflows as they stand in files, read from the texts beside this module.

A text holds cases, each opened by ``=== name; domain=...; prompts={...}``. In a faulty one
``# !rule-id`` marks the line on which a finding of that rule is expected; `runs` says that it runs
nevertheless. A faulty case without a mark is expected to fail only when it runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aflow_grpo.records import Domain, WorkflowSource

__all__ = ["FAULTY_CASES", "SOUND_CASES", "Case"]

_HEADER = re.compile(r"^=== (?P<name>[^;\n]+); domain=(?P<domain>\w+)(?P<rest>.*)$")
_MARK = re.compile(r" !([a-z][a-z-]+)")


@dataclass(frozen=True)
class Case:
    """One workflow of the catalogue."""

    name: str
    domain: Domain
    source: WorkflowSource
    expected: frozenset[tuple[str, int]]
    """Rules and lines of the findings that are expected."""
    runs: bool
    """Faulty, and nevertheless runs to an answer."""


def _cases(pattern: str) -> Iterator[Case]:
    for path in sorted(Path(__file__).parent.glob(pattern)):
        for part in re.split(r"(?m)^(?==== )", path.read_text())[1:]:
            header, _, code = part.partition("\n")
            match = _HEADER.match(header)
            assert match is not None, f"{path.name}: {header}"
            rest = match["rest"]
            prompts = rest.partition("prompts=")[2].removesuffix("; runs")
            marks = {
                (rule, number)
                for number, line in enumerate(code.split("\n"), start=1)
                if "# !" in line
                for rule in _MARK.findall(line[line.index("# !") :].replace("# !", "  !"))
            }
            source = WorkflowSource(code, json.loads(prompts) if prompts else {})
            yield Case(
                match["name"],
                match["domain"],
                source,
                frozenset(marks),
                "; runs" in rest,  # type: ignore[arg-type]
            )


SOUND_CASES: tuple[Case, ...] = tuple(_cases("sound_*.txt"))
FAULTY_CASES: tuple[Case, ...] = tuple(_cases("faulty_*.txt"))
