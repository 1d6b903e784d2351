"""Where everything in a picture stands: sequences downwards, branches side by side, frames around.

A program is a tree, so its picture is laid out as one: a piece is measured to the left and to the
right of its spine, the line on which control enters and leaves, and then placed. Values that go on
with control are written on its arrow; `lanes` routes the others around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.workflow.picture.boxes import box_of
from aflow_grpo.workflow.picture.control import ends, heads, tails
from aflow_grpo.workflow.picture.graph import Arm, Branch, Flow, Frame, Item, Node
from aflow_grpo.workflow.picture.measure import text_width
from aflow_grpo.workflow.picture.shapes import (
    Bounds,
    Label,
    Line,
    PlacedBox,
    PlacedFrame,
    Shapes,
)
from aflow_grpo.workflow.picture.wording import shorten

__all__ = ["LABEL_SIZE", "Layout"]

LABEL_SIZE = 10.5
_GAP, _LABEL_GAP = 24.0, 34.0
"""Between two items, without and with a word on the arrow."""
_BESIDE = 30.0
"""Between the arms of a branch."""
_PAD, _HEADER, _RETURN = 14.0, 24.0, 20.0
"""In a frame: around, for its title, for the line that goes back."""
_LABEL_CHARS = 34
_PILE = 8.0


@dataclass(frozen=True)
class _Size:
    left: float
    right: float
    height: float


@dataclass(frozen=True)
class _Link:
    """The arrow into an item: its words, and whether values go along."""

    word: str = ""
    carried: str = ""
    carries: bool = False

    @property
    def text(self) -> str:
        return ": ".join(part for part in (self.word, self.carried) if part)

    @property
    def width(self) -> float:
        return text_width(self.text, LABEL_SIZE, mono=True)

    @property
    def gap(self) -> float:
        return _LABEL_GAP if self.text else _GAP


class Layout:
    """Places the items of a graph.

    Args:
        body: The items.
        flows: The flows between their boxes.
        ends: How many lines of values end at a box, by id.
    """

    def __init__(
        self, body: Sequence[Item], flows: Sequence[Flow], ends: Mapping[str, int]
    ) -> None:
        self.shapes = Shapes()
        self._ends = ends
        self._flows = {(flow.source, flow.target): flow.label for flow in flows}
        self.carried: set[tuple[str, str]] = set()
        """The flows that are drawn on an arrow of the control flow."""
        self._sizes: dict[int, _Size] = {}
        self._sequence_size(body, None)
        self._place_sequence(body, 0.0, 0.0, None, copies=False)

    def _link(self, before: Item | None, item: Item, word: str = "") -> _Link:
        labels: dict[str, None] = {}
        carries = False
        first = isinstance(before, Node) and before.kind == "start"
        for source in tails([before]) if before is not None else ():
            for target in heads([item]):
                label = self._flows.get((source, target))
                if label is not None:
                    self.carried.add((source, target))
                    carries = True
                    labels |= dict.fromkeys([] if first else filter(None, label.split(", ")))
        text = ", ".join(label for label in labels if not _repeats(label, item))
        return _Link(word, shorten(text, _LABEL_CHARS), carries)

    # -- how large ------------------------------------------------------------------------------

    def _size(self, item: Item) -> _Size:
        size = self._sizes.get(id(item))
        if size is None:
            if isinstance(item, Node):
                box = box_of(item, self._ends.get(item.id, 0))
                size = _Size(box.width / 2, box.width / 2, box.height)
            elif isinstance(item, Frame):
                size = self._frame_size(item)
            else:
                size = self._branch_size(item)
            self._sizes[id(item)] = size
        return size

    def _sequence_size(self, items: Sequence[Item], before: Item | None, word: str = "") -> _Size:
        left = right = height = 0.0
        for number, item in enumerate(items):
            size = self._size(item)
            if before is not None:
                link = self._link(before, item, word if number == 0 else "")
                height += link.gap
                right = max(right, link.width + 8 if link.text else 0.0)
            left, right = max(left, size.left), max(right, size.right)
            height += size.height
            before = item
        if not items and word:
            right = text_width(word, LABEL_SIZE, mono=True) + 8
        return _Size(left, right, height)

    def _frame_size(self, frame: Frame) -> _Size:
        inner = self._sequence_size(frame.body, None)
        beside = _PAD + (_RETURN if _goes_back(frame) else 0.0)
        left, right = inner.left + beside, inner.right + _PAD
        below = _RETURN if _goes_back(frame) else _PAD
        if frame.kind == "parallel":
            right, below = right + _PILE, below + _PILE
        title = text_width(_frame_title(frame.kind, frame.title), LABEL_SIZE, mono=True) + 2 * _PAD
        right = max(right, title - left)
        return _Size(left, right, inner.height + _HEADER + _PAD + below)

    def _branch_size(self, branch: Branch) -> _Size:
        if branch.node is None:
            arms = self._arms_size(branch, None)
            title = text_width(_frame_title("parallel", ""), LABEL_SIZE, mono=True) + 2 * _PAD
            half = max(arms.left, arms.right, title / 2) + _PAD
            return _Size(half, half, arms.height + _HEADER + _PAD)
        decision = self._size(branch.node)
        aside = _aside(branch)
        if aside is None:
            arms = self._arms_size(branch, branch.node)
            left, right = max(decision.left, arms.left), max(decision.right, arms.right)
            return _Size(left, right, decision.height + arms.height)
        spine, side, left_to_side = self._aside_sizes(branch, aside)
        return _Size(
            max(decision.left, spine.left),
            left_to_side + side.right,
            max(decision.height + spine.height, decision.height / 2 + _GAP + side.height)
            + (_GAP / 2 if branch.arms[aside].body and not _all_end(branch.arms[aside]) else 0.0),
        )

    def _aside_sizes(self, branch: Branch, aside: int) -> tuple[_Size, _Size, float]:
        """Sizes of the straight arm and of the one beside it, and how far that one is."""
        assert branch.node is not None
        decision = self._size(branch.node)
        straight, beside = branch.arms[1 - aside], branch.arms[aside]
        spine = self._sequence_size(straight.body, branch.node, straight.label)
        side = self._sequence_size(beside.body, None)
        for item in beside.body[:1]:
            self._link(branch.node, item)
        word = text_width(beside.label, LABEL_SIZE, mono=True) + 16
        reach = max(
            max(decision.right, spine.right) + _BESIDE + side.left, decision.right + word + 10
        )
        return spine, side, reach

    def _arms_size(self, branch: Branch, before: Node | None) -> _Size:
        sizes = [self._sequence_size(arm.body, before, arm.label) for arm in branch.arms]
        middles = _middles(sizes, branch)
        around = 12.0 + _GAP if before is not None else _PAD - 8.0
        height = around + max(size.height for size in sizes)
        return (
            _Size(-(middles[0] - sizes[0].left), middles[-1] + sizes[-1].right, height)
            if len(sizes) > 1
            else _Size(sizes[0].left, sizes[0].right, height)
        )

    # -- where ----------------------------------------------------------------------------------

    def _place_sequence(
        self,
        items: Sequence[Item],
        x: float,
        y: float,
        before: Item | None,
        word: str = "",
        *,
        copies: bool,
    ) -> float:
        """Places items from `y` downwards; returns where the last one ends."""
        for number, item in enumerate(items):
            if before is not None:
                link = self._link(before, item, word if number == 0 else "")
                self._arrow(link, x, y, y + link.gap)
                y += link.gap
            self._place(item, x, y, copies=copies)
            y += self._size(item).height
            before = item
        return y

    def _arrow(self, link: _Link, x: float, top: float, bottom: float) -> None:
        self.shapes.lines.append(Line(((x, top), (x, bottom)), _style(link)))
        if link.text:
            self._label(link.text, x + 7, (top + bottom) / 2 + 1, _style(link))

    def _label(self, text: str, x: float, y: float, style: str) -> None:
        width = text_width(text, LABEL_SIZE, mono=True)
        self.shapes.labels.append(Label(text, x, y, style, width))

    def _place(self, item: Item, x: float, y: float, *, copies: bool) -> None:
        if isinstance(item, Node):
            many = copies and item.kind == "operator"
            self.shapes.boxes.append(
                PlacedBox(box_of(item, self._ends.get(item.id, 0)), x, y, many)
            )
        elif isinstance(item, Frame):
            self._place_frame(item, x, y)
        elif item.node is None:
            self._place_parallel(item, x, y)
        else:
            self._place(item.node, x, y, copies=False)
            aside = _aside(item)
            if aside is None:
                top = y + self._size(item.node).height
                self._place_arms(item, item.node, x, top, y + self._size(item).height)
            else:
                self._place_aside(item, item.node, aside, x, y)

    def _place_frame(self, frame: Frame, x: float, y: float) -> None:
        size = self._size(frame)
        bounds = Bounds(x - size.left, y, x + size.right, y + size.height)
        title = _frame_title(frame.kind, frame.title)
        self.shapes.frames.append(PlacedFrame(frame.kind, title, bounds))
        top = y + _HEADER + _PAD
        bottom = self._place_sequence(frame.body, x, top, None, copies=frame.kind == "parallel")
        if _goes_back(frame):
            inner = self._sequence_size(frame.body, None)
            lane = x - inner.left - _RETURN + 4
            back = ((x, bottom), (x, bottom + 9), (lane, bottom + 9), (lane, top - 9),
                    (x, top - 9), (x, top))  # fmt: skip
            self.shapes.lines.append(Line(back, "flow back"))

    def _place_parallel(self, branch: Branch, x: float, y: float) -> None:
        size = self._size(branch)
        bounds = Bounds(x - size.left, y, x + size.right, y + size.height)
        self.shapes.frames.append(PlacedFrame("parallel", _frame_title("parallel", ""), bounds))
        self._place_arms(branch, None, x, y + _HEADER, y + size.height - _PAD)

    def _place_arms(
        self, branch: Branch, before: Node | None, x: float, top: float, bottom: float
    ) -> None:
        sizes = [self._sequence_size(arm.body, before, arm.label) for arm in branch.arms]
        middles = _middles(sizes, branch)
        fork, merge = top + 12, bottom - 8
        for arm, middle in zip(branch.arms, middles, strict=True):
            at = x + middle
            if before is not None:
                self.shapes.lines.append(Line(((x, top), (x, fork), (at, fork)), "flow", False))
            start = fork if before is not None else top + _PAD - 8
            end = self._place_sequence(arm.body, at, start, before, arm.label, copies=False)
            if not arm.body:
                self._label(arm.label, at + 7, fork + 20, "flow")
            if before is not None and not _all_end(arm):
                path = ((at, end), (at, merge), (x, merge), (x, bottom))
                self.shapes.lines.append(Line(path, "flow", False))

    def _place_aside(self, branch: Branch, decision: Node, aside: int, x: float, y: float) -> None:
        size, middle = self._size(branch), self._size(decision)
        straight, beside = branch.arms[1 - aside], branch.arms[aside]
        _, _, reach = self._aside_sizes(branch, aside)
        bottom = y + size.height
        end = self._place_sequence(
            straight.body, x, y + middle.height, decision, straight.label, copies=False
        )
        if not straight.body and straight.label:
            self._label(straight.label, x + 7, y + middle.height + 16, "flow")
        if not _all_end(straight):
            self.shapes.lines.append(Line(((x, end), (x, bottom)), "flow", False))
        turn, at = y + middle.height / 2, x + reach
        top = turn + _GAP
        way = ((x + middle.right, turn), (at, turn), (at, top))
        if beside.body:
            self.shapes.lines.append(Line(way, "flow"))
            end = self._place_sequence(beside.body, at, top, None, copies=False)
        else:
            self.shapes.lines.append(Line(way[:2], "flow", False))
            end = turn
        self._label(beside.label, x + middle.right + 8, turn + 12, "flow")
        if not _all_end(beside):
            merge = ((at, end), (at, bottom - 4), (x, bottom - 4))
            self.shapes.lines.append(Line(merge, "flow", False))


def _style(link: _Link) -> str:
    return "carry" if link.carries else "flow"


def _repeats(label: str, item: Item) -> bool:
    """Whether the box that an arrow goes into says the label itself."""
    node = item.node if isinstance(item, Branch) else item
    if not isinstance(node, Node):
        return False
    return (node.kind == "end" and node.detail == label) or (
        node.kind in ("decision", "step") and label in f"{node.title}\n{node.detail}"
    )


def _frame_title(kind: str, title: str) -> str:
    if kind == "parallel":
        return f"∥ {title}, at once" if title else "∥ at once"
    return f"↻ {title}" if kind == "loop" else f"ƒ {title}"


def _goes_back(frame: Frame) -> bool:
    return frame.kind == "loop" and not any(ends(item) for item in frame.body)


def _all_end(arm: Arm) -> bool:
    return any(ends(item) for item in arm.body)


def _aside(branch: Branch) -> int | None:
    """The arm that is drawn beside the spine; None when all stand side by side."""
    if len(branch.arms) != 2:
        return None
    first, second = branch.arms
    if branch.kind == "try":
        return 1
    if not first.body or not second.body:
        return 0 if first.body else 1
    if _all_end(first) != _all_end(second):
        return 0 if _all_end(first) else 1
    return None


def _middles(sizes: Sequence[_Size], branch: Branch) -> list[float]:
    """The spines of arms that stand side by side, as distances from the branch's own.

    That is the middle, or the only arm that goes on, which is then drawn straight on.
    """
    at, found = 0.0, []
    for size in sizes:
        found.append(at + max(size.left, 14.0))
        at = found[-1] + max(size.right, 14.0) + _BESIDE
    going_on = [number for number, arm in enumerate(branch.arms) if not _all_end(arm)]
    centre = found[going_on[0]] if len(going_on) == 1 else (found[0] + found[-1]) / 2
    return [middle - centre for middle in found]
