"""Pictures of workflows for a person: read a workflow from wherever it is, draw it.

Not here: what a picture shows and how it looks (`workflow.picture`).
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Domain, Finding, WorkflowSource
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.library import FIXED, library
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.picture import (
    WorkflowGraph,
    faulty_graph,
    to_mermaid,
    to_svg,
    workflow_graph,
)
from aflow_grpo.workflow.validate import is_valid, validate

__all__ = ["Picture", "ReadWorkflow", "draw", "read_workflow"]

Format = Literal["svg", "mermaid"]
_TWO_FILES = ("graph.py", "prompt.py")


@dataclass(frozen=True)
class ReadWorkflow:
    """A workflow that was looked for: what was found, what is wrong with it, how it goes."""

    name: str
    """The file, or the fixed workflow's name."""
    source: WorkflowSource | None
    """None where the text holds no workflow."""
    findings: tuple[Finding, ...]
    graph: WorkflowGraph

    @property
    def valid(self) -> bool:
        """Whether it would run."""
        return self.source is not None and is_valid(self.findings)


class Picture(str):
    """SVG text that a notebook shows as a picture."""

    def _repr_svg_(self) -> str:
        return str(self)


def draw(
    workflow: str | Path | WorkflowSource,
    format: Format = "svg",
    *,
    operators: OperatorSet = TEN_OPERATORS,
) -> str:
    """A workflow as a picture.

    Args:
        workflow: The workflow as parsed; its text in any of the three forms; the path of a file or
            of a folder with AFlow's two files; or the name of a fixed workflow.
        format: `svg`, which a notebook shows as a picture, or `mermaid`, a flowchart as text.
        operators: The operators that exist.

    Returns:
        The picture's text. What is no workflow gives a picture that says why.

    Raises:
        ConfigError: A path that does not exist, or another format.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format={format!r} is unknown; expected 'svg' or 'mermaid'")
    graph = read_workflow(workflow, operators=operators).graph
    return Picture(to_svg(graph)) if format == "svg" else to_mermaid(graph)


def read_workflow(
    given: str | Path | WorkflowSource,
    domain: Domain | None = None,
    *,
    operators: OperatorSet = TEN_OPERATORS,
) -> ReadWorkflow:
    """Finds, parses, validates and reads a workflow.

    Args:
        given: As in `draw`.
        domain: Whose rules it is checked by, and whose fixed workflow a name stands for; None for
            no domain's rules, and for the first domain that has a workflow of that name.
        operators: The operators that exist.

    Raises:
        ConfigError: Neither a text that holds code, nor a file, nor a known name.
    """
    if isinstance(given, WorkflowSource):
        return _read("workflow", given, (), domain, operators)
    if isinstance(given, str) and given in FIXED:
        source = _fixed(given, domain)
        return _read(given, source, (), domain, operators)
    is_text = isinstance(given, str) and ("\n" in given or given.lstrip().startswith("{"))
    name, text = ("text", str(given)) if is_text else _text_of(Path(given))
    parsed = parse_completion(_inner(text))
    return _read(name, parsed.source, parsed.findings, domain, operators)


def _read(
    name: str,
    source: WorkflowSource | None,
    findings: tuple[Finding, ...],
    domain: Domain | None,
    operators: OperatorSet,
) -> ReadWorkflow:
    if source is None:
        finding = findings[0]
        return ReadWorkflow(name, None, findings, faulty_graph(finding.message, finding.line))
    found = validate(source, domain, operators=operators)
    return ReadWorkflow(name, source, found, workflow_graph(source, operators))


def _fixed(name: str, domain: Domain | None) -> WorkflowSource:
    domains = tuple(FIXED[name].calls)
    if domain is not None and domain not in domains:
        raise ConfigError(
            f"the fixed workflow {name!r} is for {', '.join(domains)}; there is none for {domain}"
        )
    return library(domain if domain is not None else domains[0])[name]


def _text_of(path: Path) -> tuple[str, str]:
    """Name and text of a file; of AFlow's two files both, whichever of them is named."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError:  # a name that is too long to be one
        is_folder = exists = False
    both = [(path if is_folder else path.parent) / name for name in _TWO_FILES]
    if not exists or (is_folder and not both[0].is_file()):
        wanted = "it has no graph.py" if is_folder else "no such file"
        near = difflib.get_close_matches(path.name.lower(), FIXED, n=1)
        hint = f"did you mean {near[0]}?" if near else f"fixed workflows: {', '.join(FIXED)}"
        raise ConfigError(
            f"{str(path)!r:.200}: {wanted}; expected a file with a workflow, a folder with AFlow's"
            f" graph.py and prompt.py, or a fixed workflow ({hint})"
        )
    paired = is_folder or path.name == _TWO_FILES[0]
    if paired and both[0].is_file() and both[1].is_file():
        texts = {"graph": _contents(both[0]), "prompt": _contents(both[1])}
        return str(path), json.dumps(texts)
    return str(path), _contents(both[0] if is_folder else path)


def _contents(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _inner(text: str) -> str:
    """The workflow of an answered problem as `infer --json` writes it; any other text as it is."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    held = value.get("workflow") if isinstance(value, dict) else None
    if not isinstance(held, dict) or "graph_code" not in held:
        return text
    return json.dumps({"prompts": held.get("prompts") or {}, "graph_code": held["graph_code"]})
