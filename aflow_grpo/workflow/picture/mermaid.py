"""A graph as Mermaid flowchart text, for Markdown pages and issue trackers that draw it.

Thin arrows are the order, thick ones the order and a value that goes with it, dotted ones a value
that is read later. That a box reads the problem is left out, and what a condition reads: its text
says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from aflow_grpo.workflow.picture.control import control_edges
from aflow_grpo.workflow.picture.graph import (
    Frame,
    Item,
    Node,
    WorkflowGraph,
    every_node,
    later_flows,
)

__all__ = ["to_mermaid"]

_SHAPES: dict[str, tuple[str, str]] = {
    "start": ("([", "])"),
    "end": ("([", "])"),
    "return": ("([", "])"),
    "decision": ("{", "}"),
    "jump": ("(", ")"),
}
_CLASSES = {
    "generate": "fill:#dbeafe,stroke:#2563eb,color:#172554",
    "choose": "fill:#ede9fe,stroke:#7c3aed,color:#2e1065",
    "check": "fill:#ffedd5,stroke:#ea580c,color:#431407",
    "refine": "fill:#ccfbf1,stroke:#0d9488,color:#042f2e",
    "step": "fill:#f1f5f9,stroke:#64748b,color:#0f172a",
    "decision": "fill:#fef9c3,stroke:#a16207,color:#422006",
    "begin": "fill:#e2e8f0,stroke:#475569,color:#0f172a",
    "answer": "fill:#dcfce7,stroke:#16a34a,color:#052e16",
    "jump": "fill:#f8fafc,stroke:#94a3b8,color:#334155,stroke-dasharray:3 3",
    "fault": "fill:#fee2e2,stroke:#dc2626,color:#450a0a,stroke-dasharray:5 3",
}
_UNSAFE = re.compile(
    r"""["#&<>`\\*~\[\]{}()|;$%@^]|(?<![^\W_])_|_(?![^\W_])|^[-+](?=\s)|(?<=\d)[.)](?=\s)|//|:"""
)
"""What Mermaid or the Markdown inside its labels would read as syntax."""


def to_mermaid(graph: WorkflowGraph) -> str:
    """The graph as a Mermaid flowchart, every label escaped.

    Args:
        graph: Any graph.

    Returns:
        Text that ends in a line feed; the same for the same graph.
    """
    lines = ["flowchart TD"]
    lines += _Items().lines(graph.body, "  ")
    if graph.omitted:
        lines.append(f'  more["… and {graph.omitted} boxes more"]:::step')
    lines += [f"  {line}" for line in _arrows(graph)]
    used = {_class(node) for node in every_node(graph.body)} | (
        {"step"} if graph.omitted else set()
    )
    lines += [f"  classDef {name} {style}" for name, style in _CLASSES.items() if name in used]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A text as it stands in a quoted Mermaid label."""
    lines = text.split("\n")
    return "<br/>".join(
        _UNSAFE.sub(lambda found: "".join(f"#{ord(c)};" for c in found[0]), line) for line in lines
    )


_CLASS_OF = {"return": "jump", "start": "begin", "end": "answer"}
"""Where a kind has a class of another name: `end` is a word of Mermaid's own."""


def _class(node: Node) -> str:
    if node.kind == "operator":
        return node.role or "generate"
    return _CLASS_OF.get(node.kind, node.kind)


class _Items:
    """Writes boxes and subgraphs, counting the latter."""

    def __init__(self) -> None:
        self._frames = 0

    def lines(self, items: Sequence[Item], indent: str) -> Iterator[str]:
        for item in items:
            if isinstance(item, Node):
                yield f"{indent}{_box(item)}"
            elif isinstance(item, Frame):
                yield from self._frame(item.kind, item.title, item.body, indent)
            elif item.node is None:
                inside = [inner for arm in item.arms for inner in arm.body]
                yield from self._frame("parallel", "", inside, indent)
            else:
                yield f"{indent}{_box(item.node)}"
                for arm in item.arms:
                    yield from self.lines(arm.body, indent)

    def _frame(self, kind: str, title: str, body: Sequence[Item], indent: str) -> Iterator[str]:
        if kind == "parallel":
            title = f"{title} · at once" if title else "at once"
        yield f'{indent}subgraph f{self._frames}["{escaped(title)}"]'
        self._frames += 1
        yield from self.lines(body, indent + "  ")
        yield f"{indent}end"


def _box(node: Node) -> str:
    opening, closing = _SHAPES.get(node.kind, ("[", "]"))
    text = escaped(node.title) if node.title else " "
    if node.detail:
        text += "<br/>" + escaped(node.detail)
    return f'{node.id}{opening}"{text}"{closing}:::{_class(node)}'


def _arrows(graph: WorkflowGraph) -> Iterator[str]:
    flows = {(flow.source, flow.target): flow.label for flow in graph.flows}
    edges = control_edges(graph.body)
    for edge in edges:
        carried = flows.get((edge.source, edge.target))
        label = ": ".join(part for part in (edge.label, carried) if part)
        arrow = "-->" if carried is None else "==>"
        yield f"{edge.source} {arrow}{_word(label)} {edge.target}"
    along = {(edge.source, edge.target) for edge in edges}
    for (source, target), label in later_flows(graph, along).items():
        yield f"{source} -.->{_word(label)} {target}"


def _word(label: str) -> str:
    return f'|"{escaped(label)}"|' if label else ""
