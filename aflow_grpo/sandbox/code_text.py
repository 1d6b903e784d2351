"""Finds the Python program in a model's reply; the Python in it is parsed, never run.

Not covered: whether the program is any good (`judge`), and the policy's own workflows, which have
a stricter reader of their own (`workflow.parse`).
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings

__all__ = ["extract_code", "parses"]

_FENCE = re.compile(
    r"```[ \t]*(?P<language>[\w+-]*)[^\n]*\n(?P<code>.*?)(?:\n[ \t]*```|```|\Z)", re.DOTALL
)
_PYTHON = frozenset({"python", "py", "python3"})
_MAX_CHARS = 100_000


def extract_code(text: str) -> str | None:
    """The program in `text`, without fences; None when there is none.

    Of several fenced blocks the longest one marked as Python, one that parses before one that does
    not; blocks without a language come second, a last fence may be left open. A text without
    fences is a program when it parses as a whole.
    """
    text = text[:_MAX_CHARS]
    blocks = [(m["language"].lower(), textwrap.dedent(m["code"])) for m in _FENCE.finditer(text)]
    for languages in (_PYTHON, {""}):
        candidates = [code.strip("\n") for language, code in blocks if language in languages]
        candidates = [code for code in candidates if code.strip()]
        if candidates:
            return max(candidates, key=lambda code: (parses(code), len(code)))
    bare = textwrap.dedent(text).strip()
    return bare if bare and not blocks and parses(bare) else None


def parses(code: str) -> bool:
    """Whether `code` is syntactically a Python module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in somebody's string
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
