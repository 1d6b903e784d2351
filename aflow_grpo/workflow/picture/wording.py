"""Texts in a picture: pieces of source, instructions, all short and safe to show.

What a model wrote is hostile: control characters, halves of surrogate pairs and marks that turn
the direction of writing become a replacement character here, before any format escapes the rest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from itertools import islice

from aflow_grpo.workflow.anatomy import WorkflowClass, self_attribute
from aflow_grpo.workflow.calls import argument_pairs
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.uses import Names, OperatorUse

__all__ = ["Wording", "clean", "shorten"]

MAX_TITLE_CHARS = 60
MAX_DETAIL_CHARS = 120
_GAP = "…"
_FIELD_NODES = 12
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SEPARATORS = dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\xa0"), " ")


def clean(text: str) -> str:
    """On one line, without what is no printable character."""
    line = " ".join(text.translate(_SEPARATORS).split(" ")).strip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def shorten(text: str, most_chars: int) -> str:
    """`clean`, with single spaces and cut to `most_chars`, the ellipsis included."""
    # A prompt may have a million characters; what is cut off need not be cleaned.
    line = " ".join(clean(text[: 4 * most_chars]).split())
    if len(line) <= most_chars and len(text) <= 4 * most_chars:
        return line
    return line[: most_chars - 1].rstrip() + _GAP


class Wording:
    """The texts of one workflow's boxes.

    Args:
        code: The graph code.
        workflow: Its class.
        names: What its local names are bound to.
        prompts: The workflow's prompts, by operator or prompt name.
    """

    def __init__(
        self, code: str, workflow: WorkflowClass, names: Names, prompts: Mapping[str, str]
    ) -> None:
        self._data = code.encode()
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(self._data))]
        self._workflow = workflow
        self._names = names
        self._prompts = prompts

    def source(
        self,
        node: ast.AST,
        most_chars: int = MAX_TITLE_CHARS,
        calls: Sequence[tuple[ast.expr, str]] = (),
    ) -> str:
        """A piece of the code as written, on one line.

        Args:
            node: The piece.
            most_chars: Where it is cut.
            calls: Expressions in it for which `name(…)` stands, with their names.
        """
        first, last = self._span(node)
        pieces = []
        for call, name in sorted(calls, key=lambda found: self._span(found[0])):
            start, end = self._span(call)
            if first <= start <= end <= last:
                pieces += [self._data[first:start].decode("utf-8", "replace"), f"{name}(…)"]
                first = end
        pieces.append(self._data[first:last].decode("utf-8", "replace"))
        return shorten("".join(pieces), most_chars)

    def _segment(self, node: ast.AST) -> str:
        first, last = self._span(node)
        return self._data[first:last].decode("utf-8", "replace")

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """First byte of a piece of the code, and the one after its last."""
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if not 1 <= first <= last <= len(self._starts):
            return 0, 0
        start = self._starts[first - 1] + getattr(node, "col_offset", 0)
        return start, self._starts[last - 1] + getattr(node, "end_col_offset", 0)

    def call_detail(self, use: OperatorUse) -> str:
        """What sets this call apart: its instruction, else its other settings as literals."""
        arguments = {parameter.name: value for parameter, value in argument_pairs(use)}
        instruction = arguments.get("instruction")
        text = self.text(instruction) if instruction is not None else self._own(use.spec)
        if text:
            return shorten(text, MAX_DETAIL_CHARS)
        settings = [
            f"{name}={value.value!r}"
            for name, value in arguments.items()
            if isinstance(value, ast.Constant) and name not in ("mode", "instruction")
        ]
        return shorten(", ".join(settings), MAX_DETAIL_CHARS)

    def _own(self, spec: OperatorSpec) -> str:
        """The prompt that the workflow gives an operator whose call names none."""
        takes_one = any(parameter.name == "instruction" for parameter in spec.parameters)
        own = self._prompts.get(spec.attribute) or self._prompts.get(spec.name)
        return own if own and takes_one else ""

    def text(self, value: ast.expr, depth: int = 0) -> str:
        """The text that an expression stands for, as far as it is known; else its source."""
        if depth > 20:
            return _GAP
        match value:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self._part(part, depth) for part in parts)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.text(left, depth + 1) + self.text(right, depth + 1)
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                if module in self._workflow.prompt_modules:
                    return self._prompts.get(name, "") or self._segment(value)
            case ast.Subscript(value=holder, slice=ast.Constant(value=str(name))):
                if self_attribute(holder) == "prompts":
                    return self._prompts.get(name, "") or self._segment(value)
            case ast.Call(func=ast.Attribute(value=template, attr="format")):
                return self.text(template, depth + 1)
            case ast.Name(id=name):
                bound = self._names.only_value(value)
                if isinstance(bound, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Attribute)):
                    return self.text(bound, depth + 1)
                if bound is None and name in self._prompts:
                    return self._prompts[name]
        return self._segment(value)

    def _part(self, part: ast.expr, depth: int) -> str:
        if isinstance(part, ast.FormattedValue):
            return "{" + _field(part.value) + "}"
        return self.text(part, depth + 1)


def _field(value: ast.expr) -> str:
    """What stands in braces, if it is short."""
    # Not as written: positions inside an f-string are not the file's before Python 3.12.
    return (
        ast.unparse(value) if len([*islice(ast.walk(value), _FIELD_NODES)]) < _FIELD_NODES else _GAP
    )
