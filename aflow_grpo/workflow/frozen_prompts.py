"""Frozen operator prompts: a workflow's structure runs, its own wording stays at home.

For one question: what do prompts that a policy learns add to the structure that it learns? With
frozen prompts every operator has its built-in instruction, and Custom, which has none, a fixed one
per domain. The texts of `prompts` become empty before the code runs, so that none of them can go
anywhere; their fields stay where the code fills them (`"Solve {problem}"` becomes `"{problem}"`),
since what fills them is data. An `instruction` that the code gives loses what is a text constant
of the code; what is left was computed (a plan, a review) and stays.

Not covered: words that the code gives as anything else (`input="Think! " + problem`,
`analysis="Use algebra."`), and texts that it cuts up or builds letter by letter.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from string import Formatter
from typing import Any

from aflow_grpo.records import Domain, WorkflowSource
from aflow_grpo.workflow.syntax import SourceError, parse_source

__all__ = ["FIXED_INSTRUCTIONS", "FrozenPrompts"]

FIXED_INSTRUCTIONS: Mapping[Domain, str] = {
    "math": "Solve the problem.",
    "code": "Write the code.",
    "qa": "Answer the question.",
}
"""What Custom is told instead of the workflow's words: the task, and nothing about how."""

_INSTRUCTION = "instruction"
_CUSTOM = "custom"
_FIELD = re.compile(r"(?<!\{)\{[^{}]*\}(?!\})|%[sdr]")
_WORD = re.compile(r"\w")
_SPACES = re.compile(r"[ \t]{2,}")


class FrozenPrompts:
    """A workflow as it runs when its prompts are frozen.

    Args:
        source: The workflow as it was written.
        domain: Decides what Custom is told.
    """

    def __init__(self, source: WorkflowSource, domain: Domain) -> None:
        self._written = source
        self._domain = domain

    @cached_property
    def source(self) -> WorkflowSource:
        """The same code, its prompts reduced to the fields that the code fills."""
        filled = self._filled_fields
        prompts = {name: _fields_of(text, filled) for name, text in self._written.prompts.items()}
        return replace(self._written, prompts=prompts)

    def arguments(self, attribute: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """An operator call's arguments without the workflow's own instruction.

        Args:
            attribute: The operator, by its name in workflows.
            arguments: As the code gave them, by parameter name.
        """
        kept = dict(arguments)
        if kept.get(_INSTRUCTION):
            kept[_INSTRUCTION] = self._without_own_words(str(kept[_INSTRUCTION]))
        if attribute == _CUSTOM and not kept.get(_INSTRUCTION):
            kept[_INSTRUCTION] = FIXED_INSTRUCTIONS[self._domain]
        return kept

    def _without_own_words(self, text: str) -> str:
        """The text without the code's constants; empty when no word is left."""
        left, found = self._own_words.subn("", text)
        if not found:
            return text
        return _SPACES.sub(" ", left).strip() if _WORD.search(left) else ""

    @cached_property
    def _tree(self) -> ast.Module:
        try:
            return parse_source(self._written.graph_code, compiled=False)
        except SourceError:
            return ast.Module([], [])  # nothing of it will run

    @cached_property
    def _filled_fields(self) -> frozenset[str]:
        """Names and numbers of the fields that a `.format` in the code fills; "" for `{}`."""
        filled: set[str] = set()
        for call in ast.walk(self._tree):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr == "format":
                filled |= {keyword.arg for keyword in call.keywords if keyword.arg}
                filled |= {str(position) for position in range(len(call.args))}
                filled |= {""} if call.args else set()
        return frozenset(filled)

    @cached_property
    def _own_words(self) -> re.Pattern[str]:
        """Matches every text constant of the code, and the parts of one between its fields."""
        read = set(_read_keys(self._tree))
        texts: set[str] = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in read:
                parts = _FIELD.split(node.value)
                texts |= {node.value, *parts}
                texts |= {part.replace("{{", "{").replace("}}", "}") for part in parts}
        worded = {text.strip() for text in texts if len(text.strip()) > 1 and _WORD.search(text)}
        longest_first = sorted(worded, key=lambda text: (-len(text), text))
        return re.compile("|".join(map(_bounded, longest_first)) or "(?!)", re.IGNORECASE)


def _fields_of(text: str, filled: frozenset[str]) -> str:
    """The fields of a template that the code fills, one a line; nothing of its words."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError:  # no template
        return ""
    return "\n".join(f"{{{name}}}" for name in names if name in filled)


def _read_keys(tree: ast.Module) -> Iterator[ast.AST]:
    """Constants by which something is read or compared: no words for anybody."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            yield node.slice
        elif isinstance(node, ast.Compare):
            yield from (node.left, *node.comparators)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
            yield from node.args


def _bounded(text: str) -> str:
    """A pattern for a text where it stands as whole words."""
    before = r"(?<!\w)" if _WORD.match(text[0]) else ""
    after = r"(?!\w)" if _WORD.match(text[-1]) else ""
    return f"{before}{re.escape(text)}{after}"
