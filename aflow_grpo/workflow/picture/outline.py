"""A graph as lines of text for a terminal: the operators in order, under branches and loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aflow_grpo.workflow.picture.graph import Frame, Item, Node, WorkflowGraph, every_node

__all__ = ["to_outline"]

_MAX_SOURCES = 4
_COUNTED = ("operator", "step", "fault")


def to_outline(graph: WorkflowGraph) -> str:
    """The graph as an indented tree; numbers in brackets say from which box a value comes.

    Args:
        graph: Any graph.

    Returns:
        Lines without a trailing line feed, without control characters.
    """
    counted = (node for node in every_node(graph.body) if node.kind in _COUNTED)
    numbers = {node.id: number for number, node in enumerate(counted, start=1)}
    outline = _Outline(numbers, _incoming(graph, numbers))
    lines = [graph.name or "no workflow", *outline.lines(graph.body, "")]
    if graph.omitted:
        lines.append(f"… and {graph.omitted} boxes more")
    return "\n".join(lines)


def _incoming(graph: WorkflowGraph, numbers: Mapping[str, int]) -> dict[str, list[str]]:
    """What goes into each box: number of the source, and the name where it adds something."""
    found: dict[str, list[str]] = {}
    starts = {node.id for node in every_node(graph.body) if node.kind == "start"}
    for flow in graph.flows:
        if flow.source in numbers:
            label = f" {flow.label}" if flow.label else ""
            found.setdefault(flow.target, []).append(f"[{numbers[flow.source]}]{label}")
        elif flow.source in starts:
            found.setdefault(flow.target, []).append(flow.label or "problem")
    return found


class _Outline:
    def __init__(self, numbers: Mapping[str, int], incoming: Mapping[str, Sequence[str]]) -> None:
        self._numbers, self._incoming = numbers, incoming

    def lines(self, items: Sequence[Item], indent: str) -> Iterator[str]:
        """The lines of a sequence, each under `indent`."""
        for number, item in enumerate(items):
            last = number == len(items) - 1
            branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield indent + branch + self._head(item)
            yield from self._below(item, indent + below)

    def _head(self, item: Item) -> str:
        if isinstance(item, Frame):
            return f"{item.title}, at once" if item.kind == "parallel" else item.title
        if isinstance(item, Node):
            return self._node(item)
        if item.node is None:
            return "at once"
        return self._node(item.node)

    def _below(self, item: Item, indent: str) -> Iterator[str]:
        if isinstance(item, Frame):
            yield from self.lines(item.body, indent)
        elif not isinstance(item, Node):
            if item.node is None:
                yield from self.lines([inner for arm in item.arms for inner in arm.body], indent)
                return
            arms = [arm for arm in item.arms if arm.body or arm.label.startswith("except")]
            for number, arm in enumerate(arms):
                last = number == len(arms) - 1
                branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
                yield f"{indent}{branch}{arm.label or 'first'}:" + ("" if arm.body else " go on")
                yield from self.lines(arm.body, indent + below)

    def _node(self, node: Node) -> str:
        title = f"if {node.title}" if self._is_condition(node) else node.title
        if node.id in self._numbers:
            title = f"[{self._numbers[node.id]}] {title}"
        detail = node.detail.replace("\n", "; ")
        if node.kind == "operator" and detail:
            title += f"  “{detail}”"
        elif detail and detail != node.title:
            title += f"  {detail}" if node.kind != "step" else f"; {detail}"
        sources = list(self._incoming.get(node.id, ()))
        if node.kind == "decision" or not sources:
            return title
        shown = sources[:_MAX_SOURCES] + ["…"] * (len(sources) > _MAX_SOURCES)
        return f"{title}  ← {', '.join(shown)}"

    @staticmethod
    def _is_condition(node: Node) -> bool:
        return (
            node.kind == "decision" and node.title != "try" and not node.title.startswith("match ")
        )
