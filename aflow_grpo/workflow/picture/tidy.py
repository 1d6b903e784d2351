"""Makes a graph fit to be seen: computations in a row become one box, the deepest parts too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aflow_grpo.workflow.picture.graph import Arm, Flow, Frame, Item, Node, every_node

__all__ = ["MAX_DEPTH", "Tidied", "renewed", "tidied"]

MAX_DEPTH = 8
"""Deepest nesting of frames and branches that is drawn."""
_MAX_STEP_LINES = 4


@dataclass(frozen=True)
class Tidied:
    """Body and flows after tidying."""

    body: tuple[Item, ...]
    flows: tuple[Flow, ...]


def tidied(body: Sequence[Item], flows: Sequence[Flow]) -> Tidied:
    """Merges and cuts; the flows follow the boxes that take the place of others.

    Args:
        body: The items as read.
        flows: The flows between their boxes.
    """
    moved: dict[str, str] = {}
    kept = _sequence(body, 0, moved)
    known = {node.id for node in every_node(kept)}
    labels: dict[tuple[str, str], list[str]] = {}
    for flow in flows:
        pair = (moved.get(flow.source, flow.source), moved.get(flow.target, flow.target))
        inside = pair[0] == pair[1] and flow.source != flow.target
        if not inside and pair[0] in known and pair[1] in known:
            labels.setdefault(pair, []).append(flow.label)
    merged = [
        Flow(source, target, ", ".join(dict.fromkeys(filter(None, given))))
        for (source, target), given in labels.items()
    ]
    return Tidied(kept, tuple(merged))


def renewed(body: Sequence[Item], change: Callable[[Node], Node]) -> tuple[Item, ...]:
    """The items with every box changed."""
    found: list[Item] = []
    for item in body:
        if isinstance(item, Node):
            found.append(change(item))
        elif isinstance(item, Frame):
            found.append(replace(item, body=renewed(item.body, change)))
        else:
            arms = tuple(replace(arm, body=renewed(arm.body, change)) for arm in item.arms)
            node = change(item.node) if item.node is not None else None
            found.append(replace(item, node=node, arms=arms))
    return tuple(found)


def _sequence(items: Sequence[Item], depth: int, moved: dict[str, str]) -> tuple[Item, ...]:
    found: list[Item] = []
    for item in items:
        new = _item(item, depth, moved)
        last = found[-1] if found else None
        if isinstance(new, Node) and isinstance(last, Node) and new.kind == last.kind == "step":
            found[-1] = _joined(last, new)
            moved[new.id] = last.id
        else:
            found.append(new)
    return tuple(found)


def _joined(first: Node, second: Node) -> Node:
    lines = [line for line in first.detail.split("\n") if line]
    if len(lines) >= _MAX_STEP_LINES - 1:
        lines = [*lines[: _MAX_STEP_LINES - 2], "…"]
    else:
        lines.append(second.title)
    return replace(first, detail="\n".join(lines))


def _item(item: Item, depth: int, moved: dict[str, str]) -> Item:
    if isinstance(item, Node):
        return item
    if depth >= MAX_DEPTH:
        return _cut(item, moved)
    if isinstance(item, Frame):
        return replace(item, body=_sequence(item.body, depth + 1, moved))
    arms = tuple(Arm(arm.label, _sequence(arm.body, depth + 1, moved)) for arm in item.arms)
    return replace(item, arms=arms)


def _cut(item: Item, moved: dict[str, str]) -> Node:
    """One box for all that is nested too deeply."""
    nodes = list(every_node([item]))
    first = nodes[0] if nodes else Node("deeper", "step", "")
    for node in nodes:
        moved[node.id] = first.id
    operators = [node.title for node in nodes if node.kind == "operator"]
    title = f"… {len(operators)} operator calls nested deeper"
    return Node(first.id, "step", title, ", ".join(operators)[:100], line=first.line)
