"""A graph as plain data, for JSON: boxes, the tree they stand in, control and data flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aflow_grpo.workflow.picture.control import control_edges
from aflow_grpo.workflow.picture.graph import Frame, Item, Node, WorkflowGraph, every_node

__all__ = ["as_plain"]


def as_plain(graph: WorkflowGraph) -> dict[str, Any]:
    """The graph as dictionaries, lists and texts.

    Args:
        graph: Any graph.

    Returns:
        `nodes` (all fields of each box), `tree` (ids, frames and branches as they are nested),
        `control` and `data` (source, target, label), `faults` and `omitted`.
    """
    return {
        "name": graph.name,
        "nodes": [asdict(node) for node in every_node(graph.body)],
        "tree": _sequence(graph.body),
        "control": [asdict(edge) for edge in control_edges(graph.body)],
        "data": [asdict(flow) for flow in graph.flows],
        "faults": list(graph.faults),
        "omitted": graph.omitted,
    }


def _sequence(items: Sequence[Item]) -> list[Any]:
    return [_item(item) for item in items]


def _item(item: Item) -> Any:
    if isinstance(item, Node):
        return item.id
    if isinstance(item, Frame):
        return {"frame": item.kind, "title": item.title, "body": _sequence(item.body)}
    arms = [{"label": arm.label, "body": _sequence(arm.body)} for arm in item.arms]
    return {"branch": item.kind, "node": item.node.id if item.node else None, "arms": arms}
