"""The arrows of values that are read later: in lanes at the sides, one lane for each source.

A lane is chosen so that few boxes stand between it and its ends; lines pass behind those. The words
stand between the boxes and the lanes, where nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.workflow.picture.layout import LABEL_SIZE
from aflow_grpo.workflow.picture.measure import text_width
from aflow_grpo.workflow.picture.shapes import Bounds, Label, Line, PlacedBox, Shapes
from aflow_grpo.workflow.picture.wording import shorten

__all__ = ["HUES", "add_lanes"]

HUES = 6
"""Colours that lanes take in turn."""
_LANE = 11.0
_LABEL_CHARS = 26
_APART = 13.0
"""Least distance of two ends at one side, so that their words do not touch."""


@dataclass
class _End:
    """Where a lane meets a box."""

    box: PlacedBox
    source: str
    label: str
    arrives: bool = True
    """False where the lane leaves its source."""
    y: float = 0.0


def add_lanes(shapes: Shapes, flows: Mapping[tuple[str, str], str]) -> None:
    """Adds the lines and words of flows.

    Args:
        shapes: The boxes as placed; lines and labels are added.
        flows: Source and target -> label.
    """
    boxes = {placed.box.node.id: placed for placed in shapes.boxes}
    around = shapes.bounds()
    by_source: dict[str, list[tuple[str, str]]] = {}
    for (source, target), label in flows.items():
        if source in boxes and target in boxes:
            by_source.setdefault(source, []).append((target, label))
    sides: dict[int, list[_End]] = {1: [], -1: []}
    for source, targets in by_source.items():
        ends = [_End(boxes[source], source, "", arrives=False)]
        ends += [_End(boxes[target], source, label) for target, label in targets]
        side = min((1, -1), key=lambda side: sum(_between(end.box, side, shapes) for end in ends))
        sides[side] += ends
    hues = {source: number % HUES for number, source in enumerate(by_source)}
    for side, found in sides.items():
        if found:
            _spread(found)
            _draw(shapes, found, side, around, hues)


def _between(placed: PlacedBox, side: int, shapes: Shapes) -> int:
    """How many boxes stand beside a box on the way to the edge of the picture."""
    own = placed.bounds
    middle = (own.top + own.bottom) / 2
    return sum(
        other.bounds.top < middle < other.bounds.bottom and (other.x - placed.x) * side > 0
        for other in shapes.boxes
        if other is not placed
    )


def _spread(ends: Sequence[_End]) -> None:
    """Gives the ends at one side their heights: spread over their boxes, apart from each other."""
    by_box: dict[int, list[_End]] = {}
    for end in ends:
        by_box.setdefault(id(end.box), []).append(end)
    for group in by_box.values():
        group.sort(key=lambda end: not end.arrives)
        bounds = group[0].box.bounds
        for number, end in enumerate(group, start=1):
            end.y = bounds.top + (bounds.bottom - bounds.top) * number / (len(group) + 1)
    last = float("-inf")
    for end in sorted(ends, key=lambda end: end.y):
        lowest = end.box.bounds.bottom - 4
        if end.y < last + _APART:
            end.y = min(max(end.y, last + _APART), max(lowest, end.y))
        last = end.y


def _draw(
    shapes: Shapes, ends: Sequence[_End], side: int, around: Bounds, hues: Mapping[str, int]
) -> None:
    edge = around.right if side > 0 else around.left
    words = _Words(shapes, side, edge)
    for end in ends:
        words.add(end, f"data hue{hues[end.source]}")
    first = words.edge + side * 14
    lanes = _lanes(ends)
    for end in ends:
        x = first + side * _LANE * lanes[end.source]
        way = ((x, end.y), (_touch(end, side), end.y))
        style = f"data hue{hues[end.source]}"
        shapes.lines.append(Line(way if end.arrives else way[::-1], style, end.arrives))
    for source, lane in lanes.items():
        heights = [end.y for end in ends if end.source == source]
        x = first + side * _LANE * lane
        path = ((x, min(heights)), (x, max(heights)))
        shapes.lines.append(Line(path, f"data hue{hues[source]}", False))


class _Words:
    """Puts the words of the lanes' ends where nothing else stands.

    Args:
        shapes: What stands already; labels are added.
        side: 1 for the right, -1 for the left.
        edge: Where the boxes end at that side.
    """

    def __init__(self, shapes: Shapes, side: int, edge: float) -> None:
        self._shapes, self._side, self._edge = shapes, side, edge
        self.edge = edge
        """Where the words end at that side."""
        self._taken = [placed.bounds for placed in shapes.boxes]
        self._taken += [bounds for line in shapes.lines for bounds in _strips(line)]

    def add(self, end: _End, style: str) -> None:
        """Beside the tip of the arrow if there is room, else outside, else not at all."""
        text = shorten(end.label, _LABEL_CHARS)
        width = text_width(text, LABEL_SIZE, mono=True)
        tip = _touch(end, self._side) + self._side * 11
        for start in (tip, self._edge + self._side * 8) if text else ():
            left = start if self._side > 0 else start - width
            word = Label(text, left, end.y - 3, style, width)
            others = [*self._taken, *(label.bounds for label in self._shapes.labels)]
            if not any(word.bounds.overlaps(other) for other in others):
                self._shapes.labels.append(word)
                outer = word.bounds.right if self._side > 0 else word.bounds.left
                self.edge = (max if self._side > 0 else min)(self.edge, outer)
                return


def _strips(line: Line) -> list[Bounds]:
    """The pieces of a line as thin rectangles."""
    return [
        Bounds(min(x0, x1) - 2, min(y0, y1) - 2, max(x0, x1) + 2, max(y0, y1) + 2)
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False)
    ]


def _touch(end: _End, side: int) -> float:
    """Where a line at the end's height meets its box."""
    bounds = end.box.bounds
    pile = 8.0 if end.box.copies and side > 0 else 0.0
    return (bounds.right if side > 0 else bounds.left) + pile


def _lanes(ends: Sequence[_End]) -> dict[str, int]:
    """A lane for each source, so that no two in one lane share a height; short ones inside."""
    spans: dict[str, tuple[float, float]] = {}
    for end in ends:
        low, high = spans.get(end.source, (end.y, end.y))
        spans[end.source] = (min(low, end.y), max(high, end.y))
    taken: list[list[tuple[float, float]]] = []
    found: dict[str, int] = {}
    for source, (low, high) in sorted(spans.items(), key=lambda s: (s[1][1] - s[1][0], s[1])):
        lane = 0
        while lane < len(taken) and any(
            low <= other_high + 4 and other_low - 4 <= high for other_low, other_high in taken[lane]
        ):
            lane += 1
        taken += [[]] * (lane == len(taken))
        taken[lane] = [*taken[lane], (low, high)]
        found[source] = lane
    return found
