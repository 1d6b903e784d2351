"""Reads the executor's replies: tagged fields, choices, and the last line as a way out.

A reply never breaks a workflow by its form alone: a missing tag falls back to the text around it,
so every key of an operator's contract is always there.
"""

from __future__ import annotations

import re

__all__ = ["Choice", "last_line", "tagged"]

_LEAD = re.compile(
    r"(?:so,?\s+|therefore,?\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:)\s*:?\s*", re.I
)
_DECORATION = " \t\n\r.,:;()[]{}<>*_`'\"#"


def tagged(text: str, tag: str) -> str | None:
    """The content of the last `<tag>`, stripped; up to the end when the reply was cut inside it."""
    start = text.rfind(f"<{tag}>")
    if start < 0:
        return None
    content = text[start + len(tag) + 2 :]
    return content.split(f"</{tag}>", 1)[0].strip()


def last_line(text: str) -> str:
    """The last line that says something, without `The answer is`; empty for an empty text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return _LEAD.sub("", lines[-1], count=1).strip() or lines[-1]


class Choice:
    """Reads one letter as an index below `count`; one object serves one question.

    `A`, `(A)`, `A.` and `**A**` are letters, a sentence is not. Refuses a first reply that names
    no candidate, so that it is asked again, and takes the first candidate for a second one.

    Args:
        count: How many candidates there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._refused = False

    def parse(self, text: str) -> int:
        """The chosen index.

        Raises:
            ValueError: The first reply names no candidate.
        """
        index = self.read(text)
        if index is not None:
            return index
        if self._refused:
            return 0
        self._refused = True
        last = chr(ord("A") + self._count - 1)
        raise ValueError(f"expected one letter from A to {last}, as in <choice>A</choice>.")

    def read(self, text: str) -> int | None:
        """The chosen index, or None."""
        choice = tagged(text, "choice")
        letter = (text if choice is None else choice).strip(_DECORATION).upper()
        if len(letter) != 1 or not "A" <= letter <= "Z":
            return None
        index = ord(letter) - ord("A")
        return index if index < self._count else None
