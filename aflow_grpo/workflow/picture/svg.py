"""A graph as one self-contained SVG picture, for a page, a notebook or a file.

No script, no external reference, no ids (so that several stand in one page), every text escaped.
Light or dark by the reader's setting; the picture brings its own background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from aflow_grpo.workflow.picture.boxes import PILL_SIZE, pill_width
from aflow_grpo.workflow.picture.graph import WorkflowGraph, every_node, later_flows
from aflow_grpo.workflow.picture.lanes import add_lanes
from aflow_grpo.workflow.picture.layout import LABEL_SIZE, Layout
from aflow_grpo.workflow.picture.shapes import (
    Bounds,
    Label,
    Line,
    PlacedBox,
    PlacedFrame,
    Shapes,
)
from aflow_grpo.workflow.picture.style import STYLE

__all__ = ["shapes_of", "to_svg"]

_MARGIN = 18.0
_CORNER = 7.0


def to_svg(graph: WorkflowGraph) -> str:
    """The graph as SVG text: well-formed XML, also right inside an HTML page.

    Args:
        graph: Any graph.

    Returns:
        One `<svg>` element without an XML declaration; its size is in pixels.
    """
    shapes = shapes_of(graph)
    around = shapes.bounds()
    left, top = around.left - _MARGIN, around.top - _MARGIN
    note = f"… and {graph.omitted} boxes more" if graph.omitted else ""
    width = around.right - left + _MARGIN
    height = around.bottom - top + _MARGIN + (24 if note else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="aflow-picture" role="img"'
        f' viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}">',
        f"<title>{escaped(_title(graph))}</title>",
        f"<desc>{escaped(described(graph))}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" rx="8"/>',
        *(_frame(frame) for frame in shapes.frames),
        *(part for line in _behind(shapes.lines) for part in _line(line)),
        *(part for box in shapes.boxes for part in _box(box)),
        *(_label(label) for label in shapes.labels),
    ]
    if note:
        parts.append(_text(note, left + _MARGIN, top + height - 12, "word flow", LABEL_SIZE))
    return "\n".join([*parts, "</svg>"]) + "\n"


def shapes_of(graph: WorkflowGraph) -> Shapes:
    """Everything in the picture at its place."""
    later = later_flows(graph, Layout(graph.body, graph.flows, {}).carried)
    # A box grows with the lines that end at it; which do is known once everything is measured.
    ends = Counter(target for _, target in later) + Counter({source for source, _ in later})
    shapes = Layout(graph.body, graph.flows, ends).shapes
    add_lanes(shapes, later)
    return shapes


def escaped(text: str) -> str:
    """A text inside an element; characters that XML has not become a replacement character."""
    shown = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def described(graph: WorkflowGraph) -> str:
    """A graph in words, for who cannot see it."""
    if graph.faults:
        return "No workflow: " + "; ".join(graph.faults)
    operators = [node.title for node in every_node(graph.body) if node.kind == "operator"]
    listed = ", then ".join(operators) if operators else "no operator"
    return f"Operator calls in the order of the code: {listed}."


def _title(graph: WorkflowGraph) -> str:
    return f"Workflow {graph.name}" if graph.name else "No workflow"


def _behind(lines: Sequence[Line]) -> list[Line]:
    """Values first, so that the order of things is drawn over them."""
    return sorted(lines, key=lambda line: not line.style.startswith("data"))


def _rect(bounds: Bounds, style: str, radius: float) -> str:
    return (
        f'<rect class="{style}" x="{bounds.left:.1f}" y="{bounds.top:.1f}"'
        f' width="{bounds.right - bounds.left:.1f}" height="{bounds.bottom - bounds.top:.1f}"'
        f' rx="{radius:.1f}"/>'
    )


def _text(text: str, x: float, y: float, style: str, size: float, anchor: str = "start") -> str:
    middle = ' text-anchor="middle"' if anchor == "middle" else ""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{middle}'
        f' xml:space="preserve">{escaped(text)}</text>'
    )


def _frame(frame: PlacedFrame) -> str:
    bounds = frame.bounds
    title = _text(frame.title, bounds.left + 12, bounds.top + 17, "head", LABEL_SIZE)
    return _rect(bounds, f"frame {frame.kind}", 10) + title


def _line(line: Line) -> Iterator[str]:
    points = [p for n, p in enumerate(line.points) if n == 0 or p != line.points[n - 1]]
    if len(points) < 2:
        return
    yield f'<path class="line {line.style}" d="{_path(points)}"/>'
    if line.head:
        (x0, y0), (x, y) = points[-2:]
        along = (x > x0) - (x < x0)
        down = (y > y0) - (y < y0)
        back, half = 7.0, 3.6
        ax, ay = x - along * back, y - down * back
        yield (
            f'<path class="tip {line.style}" d="M{x:.1f} {y:.1f}'
            f"L{ax + down * half:.1f} {ay + along * half:.1f}"
            f'L{ax - down * half:.1f} {ay - along * half:.1f}Z"/>'
        )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Straight pieces with rounded corners."""
    found = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, (x, y), after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = _towards((x, y), before), _towards((x, y), after)
        found += f"L{ax:.1f} {ay:.1f}Q{x:.1f} {y:.1f} {bx:.1f} {by:.1f}"
    return found + f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The point where the rounding of a corner begins, at most half way to the next."""
    (x, y), (ox, oy) = corner, other
    length = abs(ox - x) + abs(oy - y)
    part = min(_CORNER, length / 2) / length if length else 0.0
    return x + (ox - x) * part, y + (oy - y) * part


def _box(placed: PlacedBox) -> Iterator[str]:
    box, bounds, node = placed.box, placed.bounds, placed.box.node
    style = f"box {node.kind} {node.role}".strip()
    yield "<g>"
    if node.line is not None:
        yield f"<title>line {node.line}</title>"
    for shift in (8.0, 4.0) if placed.copies else ():
        moved = Bounds(*(edge + shift for edge in (bounds.left, bounds.top)),
                       *(edge + shift for edge in (bounds.right, bounds.bottom)))  # fmt: skip
        yield _rect(moved, style, 7)
    yield _outline(placed, style)
    y = bounds.top + (box.height - sum(line.height for line in box.lines)) / 2
    for number, line in enumerate(box.lines):
        base = y + line.height * 0.76
        if box.pill and number == 0:
            yield _text(line.text, bounds.left + 14, base, line.style, line.size)
            yield from _pill(bounds.right - 10, y)
        elif node.kind == "operator" or node.kind == "step":
            yield _text(line.text, bounds.left + 14, base, line.style, line.size)
        else:
            yield _text(line.text, placed.x, base, line.style, line.size, "middle")
        y += line.height
    yield "</g>"


def _pill(right: float, y: float) -> Iterator[str]:
    width = pill_width()
    yield _rect(Bounds(right - width, y + 1, right, y + 16), "pill", 7.5)
    yield _text("problem", right - width / 2, y + 12, "pilltext", PILL_SIZE, "middle")


def _outline(placed: PlacedBox, style: str) -> str:
    bounds, slant = placed.bounds, placed.box.slant
    if not slant:
        round_ends = placed.box.node.kind in ("start", "end", "return", "jump")
        radius = min((bounds.bottom - bounds.top) / 2, 16) if round_ends else 7
        return _rect(bounds, style, radius)
    middle = (bounds.top + bounds.bottom) / 2
    points = (
        (bounds.left, middle), (bounds.left + slant, bounds.top),
        (bounds.right - slant, bounds.top), (bounds.right, middle),
        (bounds.right - slant, bounds.bottom), (bounds.left + slant, bounds.bottom),
    )  # fmt: skip
    return f'<path class="{style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}Z"/>'


def _label(label: Label) -> str:
    return _text(label.text, label.x, label.y, f"word {label.style}", LABEL_SIZE)
