"""What stands in each box and how large that makes it."""

from __future__ import annotations

from dataclasses import dataclass

from aflow_grpo.workflow.picture.graph import Node
from aflow_grpo.workflow.picture.measure import text_width, wrapped

__all__ = ["PILL_SIZE", "Box", "Text", "box_of"]

_WIDEST = 250.0
TITLE_SIZE, CODE_SIZE, NOTE_SIZE, PILL_SIZE = 13.0, 11.0, 11.5, 10.0
_LEADING = 1.36
_END_HEIGHT = 13.0


@dataclass(frozen=True)
class Text:
    """One line of text."""

    text: str
    style: str
    """CSS class: `title`, `code`, `note`."""
    size: float
    """Font size in pixels."""

    @property
    def mono(self) -> bool:
        """Whether its font has one width for all letters."""
        return self.style != "note"

    @property
    def width(self) -> float:
        """In pixels."""
        # Bold letters are a little wider.
        factor = 1.03 if self.style == "title" else 1.0
        return factor * text_width(self.text, self.size, mono=self.mono)

    @property
    def height(self) -> float:
        """Of the line, in pixels."""
        return self.size * _LEADING


@dataclass(frozen=True)
class Box:
    """A box's lines and size, in pixels."""

    node: Node
    lines: tuple[Text, ...]
    width: float
    height: float
    pill: bool = False
    """Whether a mark beside the title says that it reads the problem."""

    @property
    def slant(self) -> float:
        """How far the pointed ends of a decision stand out."""
        return 12.0 if self.node.kind == "decision" else 0.0


def pill_width() -> float:
    """Of the mark that says that a box reads the problem."""
    return text_width("problem", PILL_SIZE) + 10


def box_of(node: Node, ends: int = 0) -> Box:
    """The box of a node, high enough for so many lines of values to end at it."""
    lines = _lines(node)
    pill = node.reads_problem and node.kind == "operator"
    widths = [line.width for line in lines]
    if pill:
        widths[0] += 10 + pill_width()
    beside, above = _padding(node)
    width = max(widths) + 2 * beside
    height = max(sum(line.height for line in lines) + 2 * above, _END_HEIGHT * (ends + 1))
    return Box(node, tuple(lines), round(width, 1), round(height, 1), pill)


def _padding(node: Node) -> tuple[float, float]:
    """Pixels beside and above the text."""
    if node.kind == "decision":
        return 20.0, 8.0
    if node.kind in ("jump", "return"):
        return 12.0, 4.0
    return (16.0, 7.0) if node.kind in ("start", "end") else (14.0, 8.0)


def _lines(node: Node) -> list[Text]:
    title = Text(node.title, "title", TITLE_SIZE)
    if node.kind == "decision":
        return _code(node.title, 3)
    if node.kind == "step":
        # A step may stand for several statements; each keeps a line of its own.
        parts = [node.title, *filter(None, node.detail.split("\n"))]
        return [line for part in parts for line in _code(part, 2)]
    if node.kind in ("jump", "return"):
        return _code(f"{node.title} {node.detail}".strip(), 2)
    if node.kind == "end":
        return [title, *(_code(node.detail, 2) if node.detail != node.title else [])]
    note = wrapped(node.detail, _WIDEST, NOTE_SIZE, 3) if node.detail else []
    return [title, *(Text(line, "note", NOTE_SIZE) for line in note)]


def _code(text: str, most_lines: int) -> list[Text]:
    lines = wrapped(text, _WIDEST, CODE_SIZE, most_lines, mono=True) if text else [""]
    return [Text(line, "code", CODE_SIZE) for line in lines]
