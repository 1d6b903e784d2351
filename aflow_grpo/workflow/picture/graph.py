"""A workflow as a graph: what stands in the picture, without a word about how it is drawn.

A program is a tree, so the graph is one too: boxes in sequence, frames around what is repeated or
runs at once, branches with their arms. The arrows of the control flow follow from the tree
(`control`); those of the data flow stand beside it. All records are frozen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Arm",
    "Branch",
    "BranchKind",
    "Flow",
    "Frame",
    "FrameKind",
    "Item",
    "Node",
    "NodeKind",
    "Role",
    "WorkflowGraph",
    "every_node",
    "later_flows",
]

NodeKind = Literal["start", "operator", "step", "decision", "return", "jump", "end", "fault"]
"""`step` is plain computation on results, `return` ends a helper, `jump` is `break`, `continue` or
`raise`, `end` answers, `fault` is what cannot be read or does not exist."""

FrameKind = Literal["loop", "parallel", "method"]
BranchKind = Literal["if", "match", "try", "parallel"]
Role = Literal["generate", "choose", "check", "refine", ""]
"""What an operator does, by its contract: it chooses when it takes several solutions, checks when
it returns a truth value, refines when it takes a solution, and generates otherwise."""


@dataclass(frozen=True)
class Node:
    """One box."""

    id: str
    kind: NodeKind
    title: str
    """An operator's name, a condition, or what is computed."""
    detail: str = ""
    """The instruction, the value returned, further lines of a computation; shortened."""
    role: Role = ""
    line: int | None = None
    """1-based line in the graph code."""
    reads_problem: bool = False
    """Whether the problem goes into it."""


@dataclass(frozen=True)
class Frame:
    """What is around a sequence: a loop, calls that run at once, a helper method."""

    kind: FrameKind
    title: str
    """The loop's head or the helper's name and arguments."""
    body: tuple[Item, ...]
    endless: bool = False
    """Whether the loop is left by `break`, `return` and `raise` only."""
    line: int | None = None


@dataclass(frozen=True)
class Arm:
    """One way through a branch."""

    label: str
    """`yes`, `no`, a case, an exception; empty for calls that run at once."""
    body: tuple[Item, ...]


@dataclass(frozen=True)
class Branch:
    """Several ways: one is taken, or (`parallel`) all at once."""

    kind: BranchKind
    node: Node | None
    """The decision; None for `parallel`."""
    arms: tuple[Arm, ...]


Item = Node | Frame | Branch


@dataclass(frozen=True)
class Flow:
    """A value that goes from one box into another."""

    source: str
    target: str
    label: str
    """The variable or the expression by which it goes."""


@dataclass(frozen=True)
class WorkflowGraph:
    """A whole workflow."""

    name: str
    """The class."""
    body: tuple[Item, ...]
    flows: tuple[Flow, ...]
    """In the order of their targets; a flow from the start carries the problem."""
    faults: tuple[str, ...] = ()
    """What is wrong with the code, where it cannot be drawn as it stands."""
    omitted: int = 0
    """Boxes that were left out because there are too many."""


def every_node(body: Sequence[Item]) -> Iterator[Node]:
    """All boxes, in the order of the program."""
    for item in body:
        if isinstance(item, Node):
            yield item
        elif isinstance(item, Frame):
            yield from every_node(item.body)
        else:
            if item.node is not None:
                yield item.node
            for arm in item.arms:
                yield from every_node(arm.body)


def later_flows(
    graph: WorkflowGraph, carried: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The flows that need an arrow of their own: (source, target) -> label.

    Not those of the problem, which goes almost everywhere, nor those into a condition, whose text
    names what it reads.

    Args:
        graph: The graph.
        carried: Source and target of the flows that an arrow of the control flow shows.
    """
    kinds = {node.id: node.kind for node in every_node(graph.body)}
    return {
        (flow.source, flow.target): flow.label
        for flow in graph.flows
        if (flow.source, flow.target) not in carried
        and kinds.get(flow.source) != "start"
        and kinds.get(flow.target) != "decision"
    }
