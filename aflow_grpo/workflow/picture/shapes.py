"""What a picture is made of once everything has its place: shapes in pixels, from the top left."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from aflow_grpo.workflow.picture.boxes import Box

__all__ = ["Bounds", "Label", "Line", "PlacedBox", "PlacedFrame", "Shapes"]


@dataclass(frozen=True)
class Bounds:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Bounds) -> bool:
        """Whether two rectangles share more than an edge."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


@dataclass(frozen=True)
class PlacedBox:
    """A box at its place."""

    box: Box
    x: float
    """Of its middle."""
    y: float
    """Of its upper edge."""
    copies: bool = False
    """Whether it stands for several at once; drawn as a pile."""

    @cached_property
    def bounds(self) -> Bounds:
        """Its rectangle."""
        half = self.box.width / 2
        return Bounds(self.x - half, self.y, self.x + half, self.y + self.box.height)


@dataclass(frozen=True)
class PlacedFrame:
    """A frame at its place."""

    kind: str
    title: str
    bounds: Bounds


@dataclass(frozen=True)
class Line:
    """An arrow or a line, with rounded corners."""

    points: tuple[tuple[float, float], ...]
    style: str
    """CSS classes: `flow` (control), `carry` (control and data), `data`."""
    head: bool = True
    """Whether it ends in an arrowhead."""


@dataclass(frozen=True)
class Label:
    """A word beside a line."""

    text: str
    x: float
    """Of its left edge."""
    y: float
    """Of its base line."""
    style: str
    width: float
    """As measured."""

    @cached_property
    def bounds(self) -> Bounds:
        """Its rectangle."""
        return Bounds(self.x, self.y - 9, self.x + self.width, self.y + 3)


@dataclass
class Shapes:
    """All shapes, in the order in which they are drawn."""

    frames: list[PlacedFrame] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    boxes: list[PlacedBox] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def bounds(self) -> Bounds:
        """The rectangle around everything."""
        every = [frame.bounds for frame in self.frames]
        every += [box.bounds for box in self.boxes] + [label.bounds for label in self.labels]
        points = [point for line in self.lines for point in line.points]
        xs = [b.left for b in every] + [b.right for b in every] + [x for x, _ in points]
        ys = [b.top for b in every] + [b.bottom for b in every] + [y for _, y in points]
        return Bounds(min(xs), min(ys), max(xs), max(ys)) if xs else Bounds(0, 0, 0, 0)
