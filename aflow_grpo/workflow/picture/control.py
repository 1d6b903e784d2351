"""The arrows of the control flow, from the tree of a graph: who comes after whom.

Also which boxes a piece of the tree begins and ends with, which the drawing asks for. Not covered:
that any call may raise; only what is written (`try`, `raise`) is an arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aflow_grpo.workflow.picture.graph import Branch, Frame, Item, Node

__all__ = ["Edge", "control_edges", "ends", "heads", "tails"]


@dataclass(frozen=True)
class Edge:
    """One arrow."""

    source: str
    target: str
    label: str
    """`yes`, `no`, `again`, a case; mostly empty."""


@dataclass
class _Loop:
    breaks: list[tuple[str, str]] = field(default_factory=list)
    continues: list[tuple[str, str]] = field(default_factory=list)


def heads(items: Sequence[Item]) -> list[str]:
    """The boxes that a sequence begins with."""
    for item in items:
        if isinstance(item, Node):
            return [item.id]
        if isinstance(item, Frame):
            inner = heads(item.body)
        elif item.node is not None:
            return [item.node.id]
        else:
            inner = [head for arm in item.arms for head in heads(arm.body)]
        if inner:
            return inner
    return []


def tails(items: Sequence[Item]) -> list[str]:
    """The boxes that a sequence goes on from: none when it never goes on."""
    return list(dict.fromkeys(source for source, _ in _Edges().sequence(items, [])))


def ends(item: Item) -> bool:
    """Whether nothing after an item is ever reached."""
    if isinstance(item, Node):
        return item.kind in ("end", "jump", "return")
    if isinstance(item, Frame):
        return item.endless and not _breaks(item.body)
    if item.kind == "parallel":
        return False
    return bool(item.arms) and all(any(ends(i) for i in arm.body) for arm in item.arms)


def control_edges(body: Sequence[Item]) -> list[Edge]:
    """All arrows, each once."""
    edges = _Edges()
    edges.sequence(body, [])
    return list(dict.fromkeys(edges.found))


class _Edges:
    """Walks the tree; what has not arrived anywhere yet is a list of (source, label)."""

    def __init__(self) -> None:
        self.found: list[Edge] = []
        self._loops: list[_Loop] = []
        self._returns: list[list[tuple[str, str]]] = []

    def sequence(
        self, items: Sequence[Item], pending: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Adds the arrows of a sequence; returns what leaves it."""
        for item in items:
            pending = self._item(item, pending)
        return pending

    def _item(self, item: Item, pending: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if isinstance(item, Node):
            return self._node(item, pending)
        if isinstance(item, Frame):
            return self._frame(item, pending)
        return self._branch(item, pending)

    def _node(self, node: Node, pending: list[tuple[str, str]]) -> list[tuple[str, str]]:
        self.found += [Edge(source, node.id, label) for source, label in pending]
        leaving = [(node.id, "")]
        if node.kind == "return":
            if self._returns:
                self._returns[-1] += leaving
            return []
        if node.kind == "jump":
            if self._loops and node.title in ("break", "continue"):
                loop = self._loops[-1]
                (loop.breaks if node.title == "break" else loop.continues).extend(leaving)
            return []
        return [] if node.kind == "end" else leaving

    def _frame(self, frame: Frame, pending: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if frame.kind == "method":
            self._returns.append([])
            leaving = self.sequence(frame.body, pending)
            return leaving + self._returns.pop()
        if frame.kind == "parallel":
            return self.sequence(frame.body, pending)
        loop = _Loop()
        self._loops.append(loop)
        leaving = self.sequence(frame.body, pending)
        self._loops.pop()
        for head in heads(frame.body)[:1]:
            again = [*leaving, *loop.continues]
            self.found += [Edge(source, head, label or "again") for source, label in again]
        if frame.endless:
            return loop.breaks
        # Where every round ends the workflow, only a loop without a round goes on.
        unentered = [(source, "no round") for source, _ in pending]
        return [*leaving, *loop.continues, *loop.breaks] or unentered

    def _branch(self, branch: Branch, pending: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if branch.node is not None:
            pending = self._node(branch.node, pending)
        leaving: list[tuple[str, str]] = []
        for arm in branch.arms:
            entering = [(source, arm.label or label) for source, label in pending]
            leaving += self.sequence(arm.body, entering)
        return leaving


def _breaks(items: Sequence[Item]) -> bool:
    """Whether a `break` in a loop's items leaves that loop."""
    for item in items:
        if isinstance(item, Node):
            found = item.kind == "jump" and item.title == "break"
        elif isinstance(item, Branch):
            found = any(_breaks(arm.body) for arm in item.arms)
        else:
            found = item.kind == "method" and _breaks(item.body)
        if found:
            return True
    return False
