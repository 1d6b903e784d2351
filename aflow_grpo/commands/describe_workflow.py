"""`aflow-grpo describe workflow FILE`: what a workflow does and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Domain, Finding
from aflow_grpo.terminal import printable
from aflow_grpo.workbench.drawing import ReadWorkflow, read_workflow
from aflow_grpo.workflow.picture import as_plain, to_mermaid, to_outline, to_svg

__all__ = ["describe_workflow", "workflow_parser"]

_STDOUT = "-"
_EXIT_FAULTY = 1


def workflow_parser() -> VerbParser:
    """The options of `describe workflow`."""
    parser = VerbParser(
        description="What a workflow does and what is wrong with it, e.g. `aflow-grpo describe"
        " workflow self_refine --svg self_refine.svg`. Nothing is run."
    )
    parser.add_argument(
        "name",
        help="A file (JSON, Python), a folder with AFlow's graph.py and prompt.py, `-` for what is"
        " piped in, or the name of a fixed workflow.",
    )
    parser.add_argument(
        "--domain",
        type=Domain | None,
        default=None,
        help="Check by the rules of this domain, too: which operators it may use.",
    )
    parser.add_argument(
        "--svg",
        type=str | None,
        default=None,
        metavar="OUT.svg",
        help="Write a picture.",
    )
    parser.add_argument(
        "--mermaid",
        type=str,
        nargs="?",
        const=_STDOUT,
        default=None,
        metavar="OUT.mmd",
        help="Write a Mermaid flowchart; without a file, or to `-`, print it alone.",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print findings and graph as one JSON object."
    )
    return parser


def describe_workflow(given: Any) -> int:
    """Prints and writes what was asked for; 0 for a valid workflow, 1 for a faulty one.

    Args:
        given: The parsed options.

    Raises:
        ConfigError: There is no such file or name, or a picture cannot be written.
    """
    if given.json and given.mermaid == _STDOUT:
        raise ConfigError("--json and --mermaid both print; give --mermaid a file")
    read = _piped(given.domain) if given.name == "-" else read_workflow(given.name, given.domain)
    if given.svg is not None:
        _write(Path(given.svg), to_svg(read.graph))
    if given.mermaid not in (None, _STDOUT):
        _write(Path(given.mermaid), to_mermaid(read.graph))
    if given.json:
        print(json.dumps(_as_json(read), indent=2))
    elif given.mermaid == _STDOUT:
        print(to_mermaid(read.graph), end="")
        print(printable(_judged(read)), file=sys.stderr)
    else:
        print(printable(f"{_judged(read)}\n\n{to_outline(read.graph)}"))
    return 0 if read.valid else _EXIT_FAULTY


def _piped(domain: Domain | None) -> ReadWorkflow:
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    # The line feed makes it a text, whatever it is, not a name.
    return dataclasses.replace(read_workflow(text + "\n", domain), name="standard input")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    print(f"wrote {path}", file=sys.stderr)


def _judged(read: ReadWorkflow) -> str:
    """One line on the whole, then the findings."""
    rejected = sum(finding.severity == "reject" for finding in read.findings)
    warned = len(read.findings) - rejected
    parts = [f"{count} {word}{'s' * (count > 1)}" for count, word in
             ((rejected, "fault"), (warned, "warning")) if count]  # fmt: skip
    verdict = "valid" if read.valid else "invalid"
    repaired = ", mended to be read" if read.source is not None and read.source.repaired else ""
    head = f"{read.name}: {verdict}{repaired}" + (f", {' and '.join(parts)}" if parts else "")
    return "\n".join([head, *(_finding(finding) for finding in read.findings)])


def _finding(finding: Finding) -> str:
    where = f"line {finding.line}: " if finding.line is not None else ""
    mark = "fault" if finding.severity == "reject" else "warning"
    lines = [f"  {where}{finding.message} [{mark}: {finding.rule}]"]
    if finding.source:
        lines.append(f"      {finding.source}")
    if finding.hint:
        lines.append(f"      → {finding.hint}")
    return "\n".join(lines)


def _as_json(read: ReadWorkflow) -> dict[str, Any]:
    findings = [dataclasses.asdict(finding) for finding in read.findings]
    return {
        "name": read.name,
        "valid": read.valid,
        "repaired": read.source.repaired if read.source is not None else False,
        "findings": findings,
        "graph": as_plain(read.graph),
    }
