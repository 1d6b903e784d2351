"""The boxes and data flows of a picture while a workflow is read; bounded, whatever the code.

A loop is read twice, so that what one round gives the next is seen: the same place of the code
gets the same box each time. A helper gets boxes of its own for each call of it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from aflow_grpo.workflow.picture.graph import Flow, Node, NodeKind, Role

__all__ = ["MAX_NODES", "Draft", "Environment", "Values", "together"]

MAX_NODES = 100
"""Most boxes of one picture; those that come later are counted, not drawn."""
MAX_WORK = 40_000
"""Most expressions that are looked at, with every repetition by loops and helpers."""
_MAX_LABELS = 3

Values = Mapping[str, str]
"""The boxes from which a value may come, each with the name by which it is read."""
Environment = dict[str, frozenset[str]]
"""What the variables hold: name (`self.name` for an attribute) -> the boxes it comes from."""


def together(*parts: Values) -> dict[str, str]:
    """Values from several places; a box keeps its first name."""
    found: dict[str, str] = {}
    for part in parts:
        for box, label in part.items():
            if not found.get(box):
                found[box] = label
    return found


class Draft:
    """Boxes by place in the code, and the flows between them."""

    def __init__(self) -> None:
        self.path: tuple[int, ...] = ()
        """The calls of helpers that are being read, outermost first."""
        self._nodes: dict[tuple[tuple[int, ...], int], Node] = {}
        self._left_out: set[tuple[tuple[int, ...], int]] = set()
        self._flows: dict[tuple[str, str], dict[str, None]] = {}
        self._work = 0

    @property
    def omitted(self) -> int:
        """Boxes that there was no room for."""
        return len(self._left_out)

    def goes_on(self) -> bool:
        """Counts one more expression; whether there is work left to spend."""
        self._work += 1
        return self._work <= MAX_WORK

    def node(
        self,
        place: ast.AST,
        kind: NodeKind,
        title: str,
        *,
        detail: str = "",
        role: Role = "",
        values: Values | None = None,
    ) -> Node | None:
        """The box of a place in the code, with the values that go into it; None without room."""
        key = (self.path, id(place))
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                self._left_out.add(key)
                return None
            line = getattr(place, "lineno", None)
            node = Node(f"n{len(self._nodes)}", kind, title, detail, role, line)
            self._nodes[key] = node
        for source, label in (values or {}).items():
            labels = self._flows.setdefault((source, node.id), {})
            if label:
                labels[label] = None
        return node

    def flows(self) -> list[Flow]:
        """What goes from box to box; the labels of one pair in one."""
        order = {node.id: number for number, node in enumerate(self._nodes.values())}
        found = []
        for (source, target), labels in self._flows.items():
            shown = [*labels][:_MAX_LABELS] + ["…"] * (len(labels) > _MAX_LABELS)
            found.append(Flow(source, target, ", ".join(shown)))
        return sorted(found, key=lambda flow: (order[flow.target], order[flow.source]))
